"""What the kernels compile to: no float64 inside float32 kernels, vectors, no unsafe licence.

The kernels are compiled anew in a process of their own, because Numba does not show the code of a
function that came out of its cache.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastcnn
from fastcnn.kernels.cpu import jit, threads

KERNELS = Path(fastcnn.__file__).parent / "kernels"

# Calls every implementation of every operation in float32 and prints the LLVM IR of each chunk that
# was launched.
PROGRAM = """
import json
import numpy as np
from fastcnn import functional
from fastcnn.kernels import plans
from fastcnn.kernels.cpu import threads
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.calls import calls

for call in calls():
    for entry in IMPLEMENTATIONS.get(call.function, []):
        with plans.only(call.function, entry):
            try:
                call.run(functional, call.arguments(np.float32))
            except plans.CannotServe:
                pass
x = np.zeros((1, 1, 16, 16), np.float32)
for algorithm, *window in (("tiles", 2, 2, 0), ("windows", 3, 2, 1)):
    y, mask = functional.max_pool2d(x, *window, return_mask=True, algorithm=algorithm)
    functional.max_pool2d_grad(y, mask, x.shape, *window, algorithm=algorithm)
for axis in (-2, -1):
    functional.softmax_grad(x, functional.softmax(x, axis), axis)
chunks = dict.fromkeys(key[0] for key in threads._addresses)
name = lambda chunk: f"{chunk.__module__.removeprefix('fastcnn.kernels.')}.{chunk.__name__}"
print(json.dumps({name(chunk): list(chunk.inspect_llvm().values()) for chunk in chunks}))
"""

# Sums that may be long, added up in float64.
LONG_SUMS = {
    "cpu.sums._planes_chunk",
    "cpu.sums._rows_chunk",
    "cpu.activation._softmax_rows",
    "cpu.activation._softmax_columns",
    "cpu.activation._softmax_grad_rows",
    "cpu.activation._softmax_grad_columns",
    "cpu.loss_elements.losses_chunk",
    "cpu.loss_images.images_chunk",
    "cpu.loss_images.image_gradients_chunk",
    "cpu.small_channel_weight_grad._sums_chunk",
}
# Adds up what those left.
ONLY_FLOAT64 = {"cpu.loss._total_chunk"}
# An instruction that the hot loop must have on vectors of float32.
HOT = {
    "cpu.column_products.product_chunk": "fmul",
    "cpu.column_products.weight_grad_chunk": "fmul",
    "cpu.pool._max_chunk": "fcmp",
    "cpu.pool_tiles.max_tiles": "fcmp",
    "cpu.pool_tiles.max_tiles_grad": "fadd",
    "cpu.pool_windows.max_windows": "fcmp",
    "cpu.pool_windows.max_windows_grad": "fadd",
    "cpu.dense._dots_chunk": "fmul",
    "cpu.dense._sums_chunk": "fmul",
    "cpu.activation._relu_chunk": "fcmp",
    "cpu.activation._relu_grad_chunk": "fcmp",
    "cpu.activation._sigmoid_chunk": "fdiv",
    "cpu.activation._sigmoid_grad_chunk": "fmul",
    "cpu.activation._tanh_chunk": "fdiv",
    "cpu.activation._tanh_grad_chunk": "fmul",
    "cpu.activation._softmax_rows": "fmul",
    "cpu.activation._softmax_columns": "fmul",
    "cpu.loss_elements.losses_chunk": "fdiv",
    "cpu.loss_elements.gradients_chunk": "fdiv",
    "cpu.loss_images.images_chunk": "fdiv",
    "cpu.loss_images.image_gradients_chunk": "fmul",
    "cpu.update._sgd_chunk": "fmul",
    "cpu.update._momentum_chunk": "fmul",
    "cpu.update._adam_chunk": "fmul",
}


@pytest.fixture(scope="module")
def kernels():
    """Chunk -> the bodies of its functions, without Numba's wrappers, which box Python's floats."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"FASTCNN_CACHE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        name: [
            body
            for text in texts
            for symbol, body in re.findall(r"^define [^@]*@(\S+?)\((.*?)^}", text, re.M | re.S)
            if "7cpython" not in symbol
        ]
        for name, texts in json.loads(done.stdout).items()
    }


def lines(bodies, pattern):
    return [
        line.strip() for body in bodies for line in body.splitlines() if re.search(pattern, line)
    ]


def test_the_kernels_were_found(kernels):
    assert set(HOT) <= set(kernels)
    assert set(LONG_SUMS) <= set(kernels)
    for name, bodies in kernels.items():
        kind = "double" if name in ONLY_FLOAT64 else "float"
        assert lines(bodies, rf"\b{kind}\b"), f"{name}: no {kind} at all"


def test_no_float64_in_float32_kernels(kernels):
    """But in long sums, where it may be converted, loaded, stored and added, no more."""
    for name, bodies in kernels.items():
        if name in LONG_SUMS:
            assert lines(bodies, r"= fadd .*double"), f"{name} has no float64 sum: off the list"
        elif name not in ONLY_FLOAT64:
            assert lines(bodies, r"\bdouble\b") == [], name


def test_hot_loops_work_on_vectors(kernels):
    for name, instruction in HOT.items():
        found = lines(kernels[name], rf"= {instruction}\b.*<(4|8|16|32|64) x float>")
        assert found, f"{name}: no {instruction} on vectors"


def test_nan_and_infinity_are_never_assumed_away(kernels):
    for name, bodies in kernels.items():
        assert lines(bodies, r"= .*\b(fast|nnan|ninf)\b") == [], name


def test_strict_arithmetic_where_it_decides(kernels):
    found = [name for name in kernels if name.startswith("cpu.pool")]
    assert found
    for name in found:
        assert lines(kernels[name], r"\b(reassoc|arcp|contract|afn)\b") == [], name


@pytest.mark.parametrize("module", ["cpu.loss", "cpu.activation._softmax"])
def test_only_long_sums_are_reordered(kernels, module):
    """Those in float64, and the products they take; exponentials may contract, no more."""
    found = [name for name in kernels if name.startswith(module)]
    assert found
    for name in found:
        licensed = lines(kernels[name], r"\b(reassoc|arcp|afn)\b")
        assert [line for line in licensed if not re.search(r"fadd.*double|= fmul", line)] == []


class TestPolicy:
    """One place decides how kernels are compiled."""

    def test_no_decorator_of_numbas_elsewhere(self):
        compilers = {
            *("jit", "njit", "vectorize", "guvectorize", "cfunc", "stencil", "generated_jit"),
            *("prange", "jitclass", "overload", "register_jitable"),
        }
        found = set()
        for path in KERNELS.parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("numba"):
                    found |= {(path.name, a.name) for a in node.names if a.name in compilers}
                if isinstance(node, ast.Attribute) and node.attr in compilers:
                    owner = ast.unparse(node.value).split(".")[0]
                    found |= {(path.name, node.attr)} if owner in ("numba", "nb") else set()
        ours = {("jit.py", name) for name in ("njit", "overload", "register_jitable")}
        assert found == ours | {("threads.py", "prange")}

    def test_no_signature_in_a_decorator(self):
        """Numba compiles those on import."""
        decorated = 0
        for path in (KERNELS / "cpu").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef):
                    for decorator in map(ast.unparse, node.decorator_list):
                        if decorator.split("(")[0] in ("kernel", "exact", "shell", "inner"):
                            assert "(" not in decorator, f"{path.name}: {node.name}"
                            decorated += 1
        assert decorated > 10

    def test_options(self):
        assert sorted(jit.REORDER) == ["afn", "arcp", "contract", "nsz", "reassoc"]
        assert threads._shell.targetoptions["parallel"] is True
        assert not threads._run.targetoptions.get("parallel")
        for dispatcher in (threads._shell, threads._run):
            assert dispatcher.targetoptions["nogil"] is True
            assert dispatcher.targetoptions["error_model"] == "numpy"
            assert not dispatcher.targetoptions["boundscheck"]
