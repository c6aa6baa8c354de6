"""The weight gradient as a product over pixels, at the borders of what it cuts its work into."""

import numpy as np
import pytest

from fastcnn.kernels.cpu import gemm_weight_grad, portable
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded
from tests.geometries import ConvCase, small_integers
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on

on_vectors = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

CASES = [
    # several images in a block of pixels, and a block that begins in the middle of one
    ConvCase(9, 17, 7, 5, 15, 3, 3, 1, 1, 1, 1),
    ConvCase(5, 20, 11, 12, 30, 3, 2, (2, 1), 1, 1, 1),
    # rows longer than a block, in pieces, the last one shorter
    ConvCase(2, 5, 3, 470, 9, 2, 3, 1, 1, 1, 1),
    ConvCase(1, 18, 2, 700, 5, 1, 2, (1, 3), 0, 1, 1),
    # 1x1: factors change places; they do not; rows joined to more than a block; groups; a stride
    ConvCase(3, 40, 13, 11, 18, 1, 1, 1, 0, 1, 1),
    ConvCase(3, 18, 13, 11, 40, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 33, 19, 23, 21, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 40, 5, 6, 24, 1, 1, 1, 0, 1, 2),
    ConvCase(2, 24, 15, 14, 40, 1, 1, 2, 0, 1, 1),
    # more taps than a task has; rows of padding alone; residues that no tap has
    ConvCase(1, 3, 30, 20, 130, 13, 9, 1, 5, 1, 1),
    ConvCase(1, 4, 3, 20, 6, 5, 1, 1, (4, 0), 1, 1),
    ConvCase(2, 7, 17, 19, 8, 3, 3, 3, 2, 2, 1),
]


@on_vectors
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_equals_the_portable_kernel_on_integers(case, dtype):
    g = geometry_of(case)
    rng = np.random.default_rng(3)
    x, _, _ = (guarded(small_integers(rng, shape, dtype)) for shape in case.shapes)
    dy = guarded(small_integers(rng, g.output_shape, dtype))
    want = np.empty(g.weight_shape, dtype)
    portable.conv2d_weight_grad(g, x, dy, want)
    got = Guarded(g.weight_shape, dtype)
    gemm_weight_grad.conv2d_weight_grad(g, x, dy, got.array)
    got.assert_untouched_around()
    np.testing.assert_array_equal(got.array, want)


PROGRAM = """
import numpy as np
from fastcnn.kernels.cpu import gemm_weight_grad, portable
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import geometry_of
from tests.kernels.test_gemm_weight_grad import CASES

rng = np.random.default_rng(3)
for case in CASES[:6]:
    g = geometry_of(case)
    x, dy = (rng.integers(-8, 9, s).astype("float32") for s in (g.input_shape, g.output_shape))
    want, got = (np.full(g.weight_shape, np.nan, "float32") for _ in range(2))
    portable.conv2d_weight_grad(g, x, dy, want)
    gemm_weight_grad.conv2d_weight_grad(g, x, dy, got)
    np.testing.assert_array_equal(got, want)
print(vector_unit().name)
"""


@needs_longer_vectors
def test_equals_the_portable_kernel_on_shorter_vectors():
    run_on("AVX2", PROGRAM)
