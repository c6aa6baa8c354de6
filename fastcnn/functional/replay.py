"""Recording operations and running them again without their checks: see kernels/cpu/replay.py."""

from __future__ import annotations

from typing import Any

from fastcnn.kernels import plans


def conditions() -> str | None:
    """What a recording depends on besides its arrays; None where nothing should be recorded."""
    return plans.replay_conditions()


def recording() -> Any:
    """A context manager that gives the Tape of all launches made within its `with` block."""
    return plans.recording()
