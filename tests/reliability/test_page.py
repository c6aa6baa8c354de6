"""docs/threads-processes-caches.md: its code runs, and its variables are those that exist.

What it says of threads, forks, Ctrl-C and caches is tested in the files beside this one.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.reliability.conftest import PACKAGE, REPOSITORY, environment

PAGE = (REPOSITORY / "docs" / "threads-processes-caches.md").read_text()


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_code_runs(block, compiled):
    subprocess.run(
        [sys.executable, "-W", "error", "-c", block], env=environment(compiled, {}), check=True
    )


def test_all_variables_of_the_package_are_listed():
    sources = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    listed = set(re.findall(r"^\| `([A-Z_]+)` \|", PAGE, re.MULTILINE))
    ours = set(re.findall(r"\bFASTCNN_[A-Z]+\b", sources))
    assert ours == {name for name in listed if name.startswith("FASTCNN_")}
    assert set(re.findall(r"\b(?:FASTCNN|NUMBA)_[A-Z_]+\b", PAGE)) == listed


def test_default_number_of_threads(compiled):
    code = (
        "import fastcnn, numba; print(fastcnn.get_num_threads() == numba.config.NUMBA_NUM_THREADS)"
    )
    for settings in ({}, {"NUMBA_NUM_THREADS": "3"}):
        output = subprocess.check_output(
            [sys.executable, "-c", code], env=environment(compiled, settings), text=True
        )
        assert output == "True\n"


def test_start_method(run):
    run("start_method")


def test_choices_are_printed_on_request(compiled):
    code = "from fastcnn.functional import relu; relu([1.0]); relu([2.0])"
    for settings, lines in (({"FASTCNN_VERBOSE": "1"}, 1), ({}, 0)):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=environment(compiled, settings),
            capture_output=True,
            text=True,
            check=True,
        )
        assert len(result.stderr.splitlines()) == lines
        assert result.stderr.startswith("fastcnn: relu float64 " if lines else "")
