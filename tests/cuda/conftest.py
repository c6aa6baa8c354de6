"""Programs in processes of their own: with the simulator, or with nothing said about CUDA."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = Path(__file__).parent / "programs"
REPOSITORY = Path(__file__).parents[2]

INSTALLED = importlib.util.find_spec("numba_cuda") is not None
needs_extra = pytest.mark.skipif(not INSTALLED, reason="the extra fastcnn[cuda] is not installed")


def run_program(name: str, *arguments: Any, **settings: str) -> str:
    """What a program of `programs/` prints; every warning is an error, and so is a status not 0."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "FASTCNN_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAMS / f"{name}.py", *map(str, arguments)],
        env={**inherited, "PYTHONPATH": str(REPOSITORY), **settings},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def simulate(name: str, *arguments: Any, **settings: str) -> str:
    """As `run_program`, with Numba's simulator in the place of a GPU."""
    return run_program(name, *arguments, NUMBA_ENABLE_CUDASIM="1", **settings)
