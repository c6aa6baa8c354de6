"""NUMBA_DISABLE_JIT=1: the portable kernels run as plain Python, for debuggers and coverage."""

import os
import subprocess
import sys

# Everything exact: whole numbers, over geometries that take each branch of the kernels. Memory that
# the kernels and their callers allocate is full of NaN before: none may be read unwritten.
EQUAL = """
import numpy as np
empty = np.empty

def poisoned(shape, dtype=float, order="C"):
    made = empty(shape, dtype, order)
    made.fill(np.nan if made.dtype.kind == "f" else np.iinfo(made.dtype).max)
    return made

np.empty = poisoned
from fastcnn import functional, reference
from tests.functional.operations import CONVOLUTIONS, convolve
from tests.geometries import ConvCase, PoolCase, pooling_data, small_integers

rng = np.random.default_rng(1)
for case in (
    ConvCase(2, 3, 6, 5, 5, 3, 2, 1, 1, 1, 1),
    ConvCase(None, 4, 7, 6, 6, 2, 3, (2, 3), (0, 2, 1, 1), (2, 1), 2),
    ConvCase(1, 1, 13, 12, 4, 1, 3, 1, "same", 1, 1),
    ConvCase(0, 1, 4, 4, 1, 2, 2, 1, 0, 1, 1),
):
    for dtype in (np.float32, np.float64):
        x, w, dy = (small_integers(rng, shape, dtype) for shape in case.shapes)
        for name in CONVOLUTIONS:
            y = convolve(functional, name, case, x, w, dy, algorithm="portable")
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, convolve(reference, name, case, x, w, dy))
        for per_pixel in (False, True):
            np.testing.assert_array_equal(
                functional.conv2d_bias_grad(dy, per_pixel),
                reference.conv2d_bias_grad(dy, per_pixel),
            )
for case in (
    PoolCase(2, 2, 6, 7, 2, None, 0, 1, False),
    PoolCase(None, 1, 7, 8, (3, 2), (1, 3), (1, 0, 1, 1), (1, 2), True),
):
    x = pooling_data(rng, case.input_shape, np.float32)
    y, mask = functional.max_pool2d(x, **case.options, return_mask=True, algorithm="portable")
    expected, expected_mask = reference.max_pool2d(x, **case.options, return_mask=True)
    np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(mask, expected_mask)
    dy = small_integers(rng, y.shape, np.float32)
    np.testing.assert_array_equal(
        functional.max_pool2d_grad(dy, mask, x.shape, **case.options, algorithm="portable"),
        reference.max_pool2d_grad(dy, mask, x.shape, **case.options),
    )
    results = functional.relu_max_pool2d(
        x, **case.options, return_mask=True, algorithm="portable"
    )
    expected = reference.relu_max_pool2d(x, **case.options, return_mask=True)
    for got, want in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(
        functional.relu_max_pool2d_grad(
            dy, *results[1:], x.shape, **case.options, algorithm="portable"
        ),
        reference.relu_max_pool2d_grad(dy, *results[1:], x.shape, **case.options),
    )
"""

# What the first chunk allocates is what the plan states, or nearly: the input gradient's chunks
# have as many taps as meet a pixel, which at a stride are fewer than the kernel has.
WORKSPACE = """
import numpy as np
from fastcnn.geometry import Extent, conv2d_geometry, pool2d_geometry
from fastcnn.kernels.cpu import pool, portable, sums
from fastcnn.kernels.plans import plan

sizes, used = [], []

def recording(allocate):
    def call(*args):
        made = allocate(*args)
        sizes.append(made.nbytes)
        return made
    return call

def first_chunk_only(chunk, tasks, work, *args, tells=False):
    allocators = np.empty, np.zeros
    np.empty, np.zeros = map(recording, allocators)
    chunk(0, *args)
    np.empty, np.zeros = allocators
    used.append(sum(sizes))
    sizes.clear()

for kernel_file in (pool, portable, sums):
    kernel_file.launch = first_chunk_only

def check(name, geometry, *arrays):
    used.clear()
    made = plan(name, geometry, "float32", "portable")
    made.run(geometry, *arrays)
    assert max(used) <= made.workspace <= 2 * max(used), (name, geometry, used, made.workspace)

def zeros(*shapes):
    return [np.zeros(shape, np.float32) for shape in shapes]

for channels, filters in ((1, 1), (3, 5), (58, 4), (4, 58)):
    g = conv2d_geometry((1, channels, 4, 4), (filters, channels, 3, 3), (1, 2), 1)
    x, w, y = zeros(g.input_shape, g.weight_shape, g.output_shape)
    check("conv2d", g, x, w, None, y)
    check("conv2d_input_grad", g, y, w, x)
    check("conv2d_weight_grad", g, x, y, w)
for stride in (1, 2, 3, 50, 10**12):
    g = pool2d_geometry((1, 2, 3, 41), 3, stride)
    x, y = zeros(g.input_shape, g.output_shape)
    mask = np.zeros(g.output_shape, np.uint8)
    check("max_pool2d", g, x, y, mask)
    check("max_pool2d_grad", g, y, mask, x)
dy, db = zeros((2, 3, 20, 20), (3, 20, 20))
check("conv2d_bias_grad", Extent(dy.shape), dy, db)
dy, db = zeros((2, 5), (5,))
check("dense_bias_grad", Extent(dy.shape), dy, db)
"""


def run(program):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_portable_kernels_give_the_same_results():
    run(EQUAL)


def test_portable_kernels_allocate_what_their_plan_states():
    run(WORKSPACE)
