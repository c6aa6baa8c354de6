"""Recording operations and running them again without their checks: see kernels/cpu/replay.py."""

from __future__ import annotations

from typing import Any

from fastcnn.kernels import plans


def conditions() -> object:
    """What a recording depends on besides its arrays; None where nothing should be recorded."""
    return plans.in_force()


def recording() -> Any:
    """A context manager that gives the Tape of all launches made within its `with` block."""
    return plans.recording()
