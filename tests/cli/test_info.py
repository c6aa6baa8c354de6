"""`fastcnn info`: complete, readable, and no CUDA package loaded for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numba
import numpy as np
import pytest

import fastcnn
from fastcnn import cli
from fastcnn.kernels.selection import IMPLEMENTATIONS


@pytest.fixture(scope="module")
def found():
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "fastcnn", "info", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "FASTCNN_VERBOSE": "0", "NUMBA_NUM_THREADS": "3"},
    )
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_versions_of_what_is_installed_and_what_is_not(found):
    versions = found["versions"]
    assert versions["fastcnn"] == fastcnn.__version__
    assert versions["numpy"] == np.__version__
    assert versions["numba"] == numba.__version__
    assert versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"llvmlite", "torch", "numba-cuda"} <= versions.keys()


def test_threads_and_the_layer_that_serves(found):
    assert found["threads"]["fastcnn uses"] == found["threads"]["numba's pool"] == 3
    assert found["threads"]["threading layer"] in ("omp", "tbb", "workqueue")


def test_the_processor(found):
    processor = found["processor"]
    assert processor["cores for this process"] == len(os.sched_getaffinity(0))
    assert processor["compiled for"]
    assert len(processor["features"]) > 5


def test_variables_that_matter(found):
    assert found["environment"]["FASTCNN_VERBOSE"] == "0"
    assert found["environment"]["NUMBA_NUM_THREADS"] == "3"
    assert "HOME" not in found["environment"]


def test_kernels(found):
    listed = {op: [i.name for i in items] for op, items in IMPLEMENTATIONS.items()}
    assert found["implementations"] == listed
    from fastcnn.kernels.cpu import columns, threads

    assert found["blocks"]["columns.BLOCK"] == columns.BLOCK
    assert found["blocks"]["threads.WORTH_SHARING"] == threads.WORTH_SHARING


def test_cache_folder(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "fastcnn", "info", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    cache = json.loads(done.stdout)["cache of kernels"]
    assert cache["folder"].startswith(str(tmp_path))
    assert cache["writable"] is True
    assert cache["entries"] >= 1


@pytest.mark.parametrize(
    ("variable", "value", "layer"),
    [("NUMBA_DISABLE_JIT", "1", "none: NUMBA_DISABLE_JIT"), ("FASTCNN_CACHE", "0", "")],
)
def test_settings_that_take_things_away(variable, value, layer):
    done = subprocess.run(
        [sys.executable, "-m", "fastcnn", "info", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, variable: value},
    )
    content = json.loads(done.stdout)
    assert content["threads"]["threading layer"].startswith(layer)
    assert content["cache of kernels"]["folder"] is None
    assert content["environment"][variable] == value


def test_no_cuda_package_is_loaded():
    code = (
        "import sys; from fastcnn import cli; cli.main(['info']);"
        "print([m for m in sys.modules if m.split('.')[0] in ('numba_cuda', 'cupy', 'cuda')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_text_has_every_section_and_fits_100_columns(capsys, found):
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {line for line in lines if line and line[0] != " "} == set(found)
    assert max(map(len, lines)) <= 100
