"""Depthwise convolution with a lane for each plane: borders, strides, infinities, sharing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import functional, reference
from fastcnn.geometry import Extent
from fastcnn.kernels.cpu import depthwise_across, plane_sums, sums
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.plans import plan
from fastcnn.kernels.selection import choose
from tests.functional.operations import CONVOLUTIONS, FLOATS, convolve, geometry_of
from tests.functional.test_conv import assert_exact
from tests.geometries import ConvCase, seeds, small_integers, window_starts
from tests.kernels.shorter_vectors import UNITS, needs_longer_vectors, run_on

UNIT = vector_unit()
pytestmark = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
NAME = "depthwise_across"


@st.composite
def _cases(draw):
    """Planes around the size of a vector, with borders wide and none, and pixels nobody reads."""
    # a handful of kernels, for each compiles code of its own
    kernels, strides, dilations = draw(
        st.sampled_from(
            [
                ((3, 3), (1, 1), (1, 1)),
                ((3, 3), (2, 2), (1, 1)),
                ((2, 4), (2, 1), (1, 2)),
                ((5, 5), (1, 2), (1, 1)),
            ]
        )
    )
    height, width = draw(st.integers(2, 9)), draw(st.integers(2, 9))
    padding = draw(st.tuples(*[st.integers(0, 3)] * 4))
    channels = UNIT.lanes(4) * draw(st.integers(1, 3))
    case = ConvCase(
        draw(st.integers(1, 3)), channels, height, width, channels, *kernels, strides, padding,
        dilations, channels,
    )  # fmt: skip
    axes = zip((height, width), case.sides, kernels, strides, dilations, strict=True)
    if not all(window_starts(*axis) for axis in axes):
        return draw(_cases())
    return draw(_cases()) if np.prod(case.output_shape[2:]) < 4 else case


@pytest.mark.parametrize("operation", CONVOLUTIONS)
@settings(deadline=None, max_examples=30)
@given(case=_cases(), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_equal_on_integers(operation, case, dtype, seed):
    assert_exact(case, operation, NAME, dtype, seed)


@pytest.mark.parametrize("operation", CONVOLUTIONS)
@settings(deadline=None, max_examples=20)
@given(case=_cases(), seed=seeds())
def test_infinities_and_nan_stay_in_their_planes(operation, case, seed):
    """Lanes are planes: nothing passes from one to another, nor from pixels that nobody reads."""
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
    result = convolve(functional, operation, case, *arrays, algorithm=NAME)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("per_pixel", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_relu_in_the_store(per_pixel, stride):
    """The bits of relu(conv2d(…)); NaN stays NaN."""
    channels = 2 * UNIT.lanes(4)
    case = ConvCase(2, channels, 7, 9, channels, 3, 3, stride, 1, 1, channels)
    g, rng = geometry_of(case), np.random.default_rng(3)
    x, w = (rng.standard_normal(shape).astype(np.float32) for shape in case.shapes[:2])
    x[0, 0, 3, 4], x[0, 1, 0, 0], x[1, 2, 5] = np.nan, -np.inf, 0
    b = rng.standard_normal((g.K, g.P, g.Q) if per_pixel else g.K).astype(np.float32)
    z = functional.conv2d(x, w, b, **case.options, algorithm=NAME)
    np.testing.assert_allclose(z, reference.conv2d(x, w, b, **case.options), rtol=1e-5, atol=1e-5)
    y = np.empty(g.output_shape, np.float32)
    depthwise_across.conv2d(g, x, w, b, y, relu=True)
    assert y.tobytes() == functional.relu(z).tobytes()
    assert np.isnan(y).any()
    assert (y == 0).any()


def test_tasks_share_channels_and_images():
    """One vector of channels: images are shared. Several: channels are. All is done once."""
    lanes = UNIT.lanes(4)
    for images, channels in ((40, lanes), (1, lanes), (3, 20 * lanes)):
        case = ConvCase(images, channels, 5, 6, channels, 3, 3, 1, 1, 1, channels)
        for operation in CONVOLUTIONS:
            assert_exact(case, operation, NAME, np.float32, 5)
            g = geometry_of(case)
            work = depthwise_across._work(operation, g, 4)
            assert (work.tasks > 1) == (images > 1)
            assert depthwise_across.workspace(operation, g, 4) == work.scratch
    many = geometry_of(ConvCase(2000, 20 * lanes, 5, 6, 20 * lanes, 3, 3, 1, 1, 1, 20 * lanes))
    assert 2000 * 30 / depthwise_across._dots(many, 4).spans <= depthwise_across.MOST_TERMS


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (ConvCase(1, 48, 9, 9, 96, 3, 3, 1, 1, 1, 48), "not one filter to a channel"),
        (ConvCase(1, 48, 9, 9, 48, 3, 3, 1, 1, 1, 3), "not one filter to a channel"),
        (ConvCase(1, 49, 9, 9, 49, 3, 3, 1, 1, 1, 49), "49 channels are not vectors of"),
        (ConvCase(1, 48, 9, 9, 48, 3, 3, (1, 3), 1, 1, 48), "stride 3 is above 2"),
        (ConvCase(1, 48, 9, 9, 48, 6, 5, 1, 1, 1, 48), "the kernel has 30 cells: 25 at the most"),
        (ConvCase(1, 48, 9, 9, 48, 3, 1, 1, 1, 1, 48), "less than 4 elements"),
        (ConvCase(1, 48, 3, 3, 48, 3, 3, 1, 0, 1, 48), "less than 4 elements"),
        (ConvCase(1, 48, 28, 28, 48, 3, 3, 1, 1, 1, 48), "a lane for each plane takes"),
    ],
)
def test_refusals(case, reason):
    for operation in CONVOLUTIONS:
        with pytest.raises(ValueError, match=reason):
            plan(operation, geometry_of(case), "float32", NAME)


@needs_longer_vectors
def test_small_planes_are_chosen_large_ones_not():
    """By the costs; the layers are MobileNet's."""
    for channels, side, stride, chosen in (
        (1024, 7, 1, NAME),
        (512, 14, 2, NAME),
        (512, 14, 1, "depthwise"),
        (256, 28, 1, "depthwise"),
    ):
        case = ConvCase(8, channels, side, side, channels, 3, 3, stride, 1, 1, channels)
        for operation in CONVOLUTIONS:
            assert choose(Problem(operation, geometry_of(case), "float32")).name == chosen


# Half as many registers, and a half or a quarter of the lanes.
SHORTER = """
import numpy as np
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import CONVOLUTIONS
from tests.functional.test_conv import assert_exact
from tests.geometries import ConvCase

for dtype in (np.float32, np.float64):
    for stride in (1, 2):
        for operation in CONVOLUTIONS:
            case = ConvCase(2, 24, 9, 7, 24, 3, 3, stride, 1, 1, 24)
            assert_exact(case, operation, "depthwise_across", dtype, 1)
print(vector_unit().name)
"""


@needs_longer_vectors
@pytest.mark.parametrize("unit", UNITS)
def test_shorter_vectors(unit):
    run_on(unit, SHORTER)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("pixels", [1, 31, 32, 33, 49, 100])
@pytest.mark.parametrize("images", [1, 3])
def test_sums_of_planes(images, pixels, dtype):
    """Every element once, nothing beyond: the bias gradient of one filter, and of many."""
    for filters in (1, 5, 40):
        dy = np.arange(images * filters * pixels, dtype=dtype).reshape(images, filters, 1, pixels)
        dy[0, 0, 0, -1] = np.nan  # behind it comes the next filter
        db = np.full(filters, -1, dtype)
        sums.conv2d_bias_grad(Extent(dy.shape), dy, db)
        np.testing.assert_array_equal(db, dy.sum(axis=(0, 2, 3)))
        python = plane_sums.plane_sum(dy.reshape(-1), 0, filters * pixels, images, pixels)
        np.testing.assert_array_equal(dtype(python), db[0])
