"""NUMBA_DISABLE_JIT=1: the portable kernels run as plain Python, for debuggers and coverage."""

import os
import subprocess
import sys

# Everything exact: whole numbers, over geometries that take each branch of the kernels.
EQUAL = """
import numpy as np
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
"""

# What one chunk allocates is what the plan states.
WORKSPACE = """
import numpy as np
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels.cpu import portable
from fastcnn.kernels.plans import plan

sizes = []
empty = np.empty

def recording(shape, dtype=float):
    made = empty(shape, dtype)
    sizes.append(made.nbytes)
    return made

def first_chunk_only(chunk, tasks, work, *args):
    np.empty = recording
    chunk(0, *args)
    np.empty = empty
    used.append(sum(sizes))
    sizes.clear()

portable.launch = first_chunk_only
for channels, filters in ((1, 1), (3, 5), (58, 4), (4, 58)):
    g = conv2d_geometry((1, channels, 4, 4), (filters, channels, 3, 3), (1, 2), 1)
    x, w, y = (np.zeros(s, np.float32) for s in (g.input_shape, g.weight_shape, g.output_shape))
    for name, arrays in (
        ("conv2d", (x, w, None, y)),
        ("conv2d_input_grad", (y, w, x)),
        ("conv2d_weight_grad", (x, y, w)),
    ):
        used = []
        made = plan(name, g, "float32", "portable")
        made.run(g, *arrays)
        assert max(used) <= made.workspace <= 2 * max(used), (name, g, used, made.workspace)
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
