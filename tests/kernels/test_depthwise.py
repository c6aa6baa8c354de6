"""Depthwise convolution on vectors: rows around the length of a vector, borders, infinities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import functional, reference
from fastcnn.kernels.cpu import depthwise
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.plans import plan
from tests.functional.operations import CONVOLUTIONS, FLOATS, convolve, geometry_of
from tests.functional.test_conv import assert_exact
from tests.geometries import ConvCase, seeds, small_integers, window_starts

UNIT = vector_unit()
pytestmark = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")


@st.composite
def _cases(draw):
    """Depthwise layers whose rows are shorter, as long and a few times as long as a vector."""
    lanes = UNIT.lanes(4)
    # a handful of kernels, for each compiles code of its own
    kernels, strides, dilations = draw(
        st.sampled_from(
            [
                ((3, 3), (1, 1), (1, 1)),
                ((3, 3), (2, 2), (1, 1)),
                ((5, 4), (1, 2), (1, 1)),
                ((2, 3), (2, 1), (1, 3)),
                ((7, 7), (1, 1), (1, 1)),
                ((1, 1), (2, 2), (1, 1)),
            ]
        )
    )
    padding = draw(st.tuples(*[st.integers(0, 5)] * 4))
    height = draw(st.sampled_from([1, 6, 13, 20]))
    width = draw(st.sampled_from([1, lanes - 1, lanes, lanes + 1, 2 * lanes, 3 * lanes + 3]))
    channels, multiple = draw(st.integers(1, 3)), draw(st.sampled_from([1, 1, 2, 3]))
    case = ConvCase(
        draw(st.integers(1, 3)), channels, height, width, channels * multiple, *kernels, strides,
        padding, dilations, channels,
    )  # fmt: skip
    sides = padding[:2], padding[2:]
    axes = zip((height, width), sides, kernels, strides, dilations, strict=True)
    return case if all(window_starts(*axis) for axis in axes) else draw(_cases())


@pytest.mark.parametrize("operation", CONVOLUTIONS)
@settings(deadline=None, max_examples=30)
@given(case=_cases(), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_equal_on_integers(operation, case, dtype, seed):
    assert_exact(case, operation, "depthwise", dtype, seed)


@pytest.mark.parametrize("operation", CONVOLUTIONS)
@settings(deadline=None, max_examples=30)
@given(case=_cases(), seed=seeds())
def test_infinities_and_nan_stay_in_their_windows(operation, case, seed):
    """What lanes and rows beyond the image multiply is thrown away, and never added."""
    rng = np.random.default_rng(seed)
    arrays = [small_integers(rng, shape, np.float32) for shape in case.shapes]
    x, w, dy = arrays
    w[w == 0] = 1
    for array in (x,) if operation != "conv2d_input_grad" else (dy,):
        array[rng.random(array.shape) < 0.02] = np.inf
        array[rng.random(array.shape) < 0.01] = np.nan
    if operation == "conv2d_weight_grad":
        dy[dy == 0] = 1
    with np.errstate(all="ignore"):
        expected = convolve(reference, operation, case, *arrays)
    result = convolve(functional, operation, case, *arrays, algorithm="depthwise")
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_relu_in_the_store(per_pixel, stride):
    """The bits of relu(conv2d(…)); NaN stays NaN."""
    case = ConvCase(2, 3, 15, 2 * UNIT.lanes(4) + 3, 6, 3, 3, stride, 1, 1, 3)
    g, rng = geometry_of(case), np.random.default_rng(3)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in case.shapes[:2])
    x[0, 0, 3, 4], x[0, 1, 0, 0], x[1, 2, 5] = np.nan, -np.inf, 0
    b = rng.standard_normal((g.K, g.P, g.Q) if per_pixel else g.K).astype(np.float32)
    z = functional.conv2d(x, w, b, **case.options, algorithm="depthwise")
    y = np.empty(g.output_shape, np.float32)
    depthwise.conv2d(g, x, w, b, y, relu=True)
    assert y.tobytes() == functional.relu(z).tobytes()
    assert np.isnan(y).any()
    assert (y == 0).any()


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (ConvCase(1, 4, 9, 9, 4, 3, 3, 1, 1, 1, 2), "not depthwise: 4 channels in 2 groups"),
        (ConvCase(1, 4, 9, 9, 4, 3, 3, (1, 3), 1, 1, 4), "stride 3 is above 2"),
        (ConvCase(1, 4, 9, 9, 4, 8, 7, 1, 1, 1, 4), "the kernel has 56 cells: 49 at the most"),
    ],
)
def test_refusals(case, reason):
    for operation in CONVOLUTIONS:
        with pytest.raises(ValueError, match=reason):
            plan(operation, geometry_of(case), "float32", "depthwise")


def test_a_few_channels_are_divided_among_tasks():
    """Rows of a plane, images of a weight gradient: whatever the tasks, all is done once."""
    for images, channels in ((1, 1), (3, 2), (9, 1)):
        case = ConvCase(images, channels, 43, 30, channels, 3, 3, 1, 1, 1, channels)
        for operation in CONVOLUTIONS:
            assert_exact(case, operation, "depthwise", np.float32, 5)
    work = depthwise._planes(geometry_of(ConvCase(1, 1, 43, 30, 1, 3, 3, 1, 1, 1, 1)), 4, False)
    assert work.tasks > 1
    assert depthwise._dots(geometry_of(ConvCase(9, 1, 43, 30, 1, 3, 3, 1, 1, 1, 1)), 4).spans > 1
