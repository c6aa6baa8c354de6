"""Running programs in processes of their own, with an environment that is known."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fastcnn

PROGRAMS = Path(__file__).parent / "programs"
PACKAGE = Path(fastcnn.__file__).parent
REPOSITORY = Path(__file__).parents[2]

# Far more than any program here takes; a deadlock then fails its test instead of hanging the suite.
TIMEOUT = 240

Run = Callable[..., str]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache folder that tests share which are not about cold caches."""
    return tmp_path_factory.mktemp("compiled")


def environment(cache: Path | None, settings: dict[str, str]) -> dict[str, str]:
    """This process's environment without what Numba and fastcnn read, and with `settings`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NUMBA_", "FASTCNN_", "OMP_"))
    }
    inherited["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), str(REPOSITORY)])
    if cache is not None:
        inherited["NUMBA_CACHE_DIR"] = str(cache)
    return inherited | settings


def start(
    program: str, *arguments: Any, cache: Path | None, warnings: str = "error", **settings: str
) -> subprocess.Popen[str]:
    """Start a program of `programs/`, every warning an error unless said otherwise."""
    path = PROGRAMS / f"{program}.py"
    return subprocess.Popen(
        [sys.executable, "-W", warnings, "-X", "faulthandler", path, *map(str, arguments)],
        env=environment(cache, settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What a program wrote to standard output and error; fails unless it exited with 0."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        pytest.fail(f"no end after {TIMEOUT} s\n{out}\n{err}")
    assert process.returncode == 0, f"exit status {process.returncode}\n{out}\n{err}"
    return out, err


@pytest.fixture
def run(compiled: Path) -> Run:
    """Run a program to its end on the shared cache; returns its standard output, stripped.

    It must exit with 0 and write nothing to standard error.
    """

    def run_program(program: str, *arguments: Any, cache: Path = compiled, **settings: str) -> str:
        out, err = finish(start(program, *arguments, cache=cache, **settings))
        assert err == ""
        return out.strip()

    return run_program
