"""`fastcnn warmup`: afterwards, nothing is left to compile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fastcnn import cli
from fastcnn.cli import warmup
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.operations import OPERATIONS
from fastcnn.verification.problems import find

WARMUP = [sys.executable, "-m", "fastcnn", "warmup"]
OPS = "relu,softmax,conv2d_bias_grad"


def run(folder, *arguments, **variables):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), **variables}
    done = subprocess.run(
        [*WARMUP, *arguments], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout.splitlines(), done.stderr


def entries(folder):
    return {path.name for path in Path(folder).rglob("*.nbc")}


def test_a_second_process_compiles_nothing(tmp_path):
    (ready, compiled), progress = run(tmp_path, "--ops", OPS, "--dtype", "float32")
    assert ready.startswith("3 operations ready after ")
    assert "compiling:   0 %  relu portable float32" in progress
    before = entries(tmp_path)
    assert len(before) > 5
    assert compiled.startswith(f"{len(before)} kernels compiled, {len(before)} kept in {tmp_path}")

    program = (
        "import numpy as np; from fastcnn import functional as F\n"
        "for n in (2, 900):\n"
        "    x = np.ones((n, 8, 8, 8), np.float32)\n"
        "    F.relu(x); F.softmax(x); F.conv2d_bias_grad(x); F.conv2d_bias_grad(x, True)\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    assert entries(tmp_path) == before

    (_, compiled), _ = run(tmp_path, "--ops", OPS, "--dtype", "float32")
    assert compiled.startswith("0 kernels compiled")


def test_a_suite_compiles_what_its_layers_choose(tmp_path):
    (ready, _), progress = run(
        tmp_path, "--suite", "seeds,dense", "--ops", "conv2d_bias_grad,dense,max_pool2d"
    )
    # no layer of these suites is a pooling
    assert ready.startswith("2 operations ready")
    assert "dense auto float64" in progress
    assert "max_pool2d" not in progress


def test_without_a_cache_it_says_that_nothing_is_kept(tmp_path):
    (_, kept), _ = run(tmp_path, "--ops", "relu", "--dtype", "float32", FASTCNN_CACHE="0")
    assert "not kept" in kept
    assert entries(tmp_path) == set()


def test_every_operation_has_problems_to_warm_up_on():
    problems = [find(text) for text in warmup._PROBLEMS]
    for name in IMPLEMENTATIONS:
        assert any(OPERATIONS[name].takes(problem) for problem in problems), name


def test_wrong_names_get_advice(capsys):
    assert cli.main(["warmup", "--suite", "vgg"]) == 2
    assert "did you mean 'vgg16'?" in capsys.readouterr().err
