"""Winograd's convolution on the phases of dilated ones: borders, biases, what is not finite."""

import dataclasses

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.kernels.cpu import phases, winograd_dilated
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import FLOATS, Guarded, geometry_of
from tests.geometries import ConvCase
from tests.kernels.test_winograd import arrays, assert_near, wide
from tests.layouts import PoisonedPool

pytestmark = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# Sizes that dilations divide and others; dilations of one axis, of 2 in vectors and longer; padding
# that dilations divide, others, none and more than the filter reaches; rows shorter than a vector;
# groups; filters in pieces.
CASES = [
    ConvCase(2, 5, 32, 32, 20, 3, 3, 1, 2, 2, 1),
    ConvCase(1, 3, 35, 45, 4, 3, 3, 1, (1, 2, 3, 0), 2, 1),
    ConvCase(2, 4, 21, 37, 6, 3, 3, 1, (3, 0, 5, 1), (3, 2), 1),
    ConvCase(1, 2, 14, 26, 9, 3, 3, 1, 1, (2, 1), 1),
    ConvCase(1, 2, 12, 41, 5, 3, 3, 1, (0, 0, 1, 7), (1, 3), 1),
    ConvCase(2, 8, 17, 20, 12, 3, 3, 1, 2, 2, 2),
    ConvCase(1, 3, 25, 30, 4, 5, 4, 1, (5, 4, 9, 2), 2, 1),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)
dtypes = pytest.mark.parametrize("dtype", FLOATS)


@cases
@dtypes
def test_close_in_poisoned_memory(case, dtype, monkeypatch):
    monkeypatch.setattr(winograd_dilated, "SCRATCH", PoisonedPool())
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    rng = np.random.default_rng(2)
    for shape in (None, (g.K,), (g.K, g.P, g.Q)):
        b = None if shape is None else rng.standard_normal(shape).astype(dtype)
        want = reference.conv2d(wide(x), wide(w), wide(b), **case.options)
        for relu in (False, True):
            out = Guarded(g.output_shape, dtype)
            assert winograd_dilated.conv2d(g, x, w, b, out.array, relu=relu) is None
            out.assert_untouched_around()
            assert_near(out.array, np.maximum(want, 0) if relu else want, dtype)
    out = Guarded(g.input_shape, dtype)
    assert winograd_dilated.conv2d_input_grad(g, dy, w, out.array) is None
    out.assert_untouched_around()
    want = reference.conv2d_input_grad(wide(dy), wide(w), g.input_shape, **case.options)
    assert_near(out.array, want, dtype)


@cases
def test_phases_are_the_image_again(case):
    g = geometry_of(case)
    near = phases.of_phases(g)
    assert g.N * np.prod(g.dilation) == near.N
    for padded, shape, cut in (
        (True, g.input_shape, near.input_shape),
        (False, g.output_shape, near.output_shape),
    ):
        image = np.random.default_rng(3).standard_normal(shape)
        parts, again = np.full(cut, np.nan), np.full(shape, np.nan)
        phases.split(g, image, parts, padded)
        assert np.count_nonzero(parts) == image.size
        phases.join(g, parts, again, padded)
        assert np.array_equal(again, image)


@dtypes
@pytest.mark.parametrize("value", [np.nan, np.inf, 2e30])
def test_what_is_not_finite_or_huge_is_computed_directly(dtype, value):
    """Zeros that fill the phases up do not spread it."""
    case = CASES[1]
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    x[0, 1, -1, -1] = dy[0, 1, 3, 4] = value
    options = case.options
    for name, *arguments in (
        ("conv2d", x, w),
        ("conv2d_input_grad", dy, w, g.input_shape),
    ):
        got, want = (
            getattr(functional, name)(*arguments, algorithm=algorithm, **options)
            for algorithm in ("winograd_phases", "implicit_gemm")
        )
        assert np.array_equal(got, want, equal_nan=True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"stride": 2}, "dilated filters at stride 1 alone"),
        ({"dilation": 1}, "dilated filters at stride 1 alone"),
        ({"R": 2}, "3 x 3 filters and larger ones"),
    ],
)
def test_refusals(changes, reason):
    g = geometry_of(dataclasses.replace(CASES[0], **changes))
    for operation in ("conv2d", "conv2d_input_grad"):
        assert reason in winograd_dilated.refusal(operation, g, 4)
