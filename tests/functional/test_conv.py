"""Every implementation of convolution and its gradients, against the reference.

The parameters come from the lists of `kernels.selection`: a new algorithm is tested by being there.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import (
    CONVOLUTIONS,
    FLOATS,
    Guarded,
    convolve,
    geometry_of,
    guarded,
    implementations,
    plan_for,
    result_shape,
    terms,
)
from tests.geometries import ConvCase, conv_cases, seeds, small_integers

every_algorithm = pytest.mark.parametrize(
    ("operation", "algorithm"), implementations(*CONVOLUTIONS)
)

# Layers with a shape worth an algorithm of its own, and sizes that leave remainders in every
# blocking: more than 512 taps, more than 128 pixels, rows wider than 128, odd channels and filters.
LAYERS = [
    ConvCase(2, 66, 13, 12, 9, 3, 3, 1, 1, 1, 1),
    ConvCase(1, 9, 12, 13, 66, 3, 3, 1, "same", 1, 1),
    ConvCase(2, 3, 33, 19, 10, 7, 7, 2, 3, 1, 1),
    ConvCase(1, 2, 3, 301, 5, 2, 4, (1, 2), 0, 1, 1),
    ConvCase(1, 131, 7, 9, 6, 1, 1, 1, 0, 1, 1),
    ConvCase(1, 131, 7, 9, 6, 1, 1, 2, 0, 1, 1),
    ConvCase(2, 11, 14, 15, 7, 3, 3, 1, 2, 2, 1),
    ConvCase(1, 4, 21, 20, 4, 5, 5, 1, "same", 1, 1),
    ConvCase(2, 24, 15, 14, 20, 3, 3, (2, 1), "same_upper", 1, 4),
    ConvCase(2, 21, 17, 24, 19, 3, 3, 2, 1, 1, 1),
    ConvCase(2, 33, 12, 16, 33, 3, 3, 1, 1, 1, 33),
    ConvCase(1, 6, 12, 16, 24, 3, 2, 2, "same_lower", 1, 6),
    ConvCase(3, 48, 9, 8, 48, 3, 3, 2, 1, 1, 48),
    ConvCase(1, 1, 20, 1, 3, 5, 1, 3, (2, 0), 1, 1),
    ConvCase(8, 1, 6, 6, 1, 3, 3, 1, 0, 1, 1),
    ConvCase(1, 2, 5, 6, 3, 2, 2, 2**40, 0, 1, 1),
]


def assert_exact(case, operation, algorithm, dtype, seed):
    """Whole numbers: equal to the reference, every element written, nothing outside touched.

    Inputs lie in poison, so that a read beyond them would show as NaN; the output is NaN before.
    """
    rng = np.random.default_rng(seed)
    x, w, dy = (guarded(small_integers(rng, shape, dtype)) for shape in case.shapes)
    originals = [a.copy() for a in (x, w, dy)]
    expected = convolve(reference, operation, case, x, w, dy)
    out = Guarded(result_shape(operation, case), dtype)
    result = convolve(functional, operation, case, x, w, dy, algorithm=algorithm, out=out.array)
    assert result is out.array
    np.testing.assert_array_equal(result, expected)
    out.assert_untouched_around()
    for array, original in zip((x, w, dy), originals, strict=True):
        np.testing.assert_array_equal(array, original)
    fresh = convolve(functional, operation, case, x, w, dy, algorithm=algorithm)
    assert fresh.dtype == dtype
    assert fresh.tobytes() == result.tobytes()


@every_algorithm
@settings(deadline=None, max_examples=50)
@given(case=conv_cases(max_length=12), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_equal_on_integers(operation, algorithm, case, dtype, seed):
    with fastcnn.precision("ieee"):
        if plan_for(case, operation, algorithm, dtype):
            assert_exact(case, operation, algorithm, dtype, seed)


@every_algorithm
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layers_equal_on_integers(operation, algorithm, case):
    with fastcnn.precision("ieee"):
        for dtype in FLOATS:
            if plan_for(case, operation, algorithm, dtype):
                assert_exact(case, operation, algorithm, dtype, 1)


@every_algorithm
def test_layers_give_every_algorithm_something_to_do(operation, algorithm):
    assert any(plan_for(case, operation, algorithm, np.float32) for case in LAYERS)


def assert_close(case, operation, algorithm, dtype, seed):
    """In "ieee" precision within 4 ulp * sqrt(terms) of the sum of absolute products, element by
    element; in the default precision within 1e-5 of the reference in norm."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in case.shapes]
    wide = [a.astype(np.float64) for a in arrays]
    truth = convolve(reference, operation, case, *wide)
    scale = convolve(reference, operation, case, *[abs(a) for a in wide])
    bound = 4 * np.finfo(dtype).eps * np.sqrt(terms(operation, case)) * scale
    with fastcnn.precision("ieee"):
        if plan_for(case, operation, algorithm, dtype):
            result = convolve(functional, operation, case, *arrays, algorithm=algorithm)
            assert (abs(result - truth) <= bound).all()
    if plan_for(case, operation, algorithm, dtype):
        result = convolve(functional, operation, case, *arrays, algorithm=algorithm)
        assert np.linalg.norm(result - truth) <= 1e-5 * np.linalg.norm(truth)


@every_algorithm
@settings(deadline=None, max_examples=25)
@given(case=conv_cases(max_length=12), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_close_to_the_reference(operation, algorithm, case, dtype, seed):
    assert_close(case, operation, algorithm, dtype, seed)


@every_algorithm
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_layers_close_to_the_reference(operation, algorithm, case):
    for dtype in FLOATS:
        assert_close(case, operation, algorithm, dtype, 2)


@every_algorithm
@settings(deadline=None, max_examples=20)
@given(case=conv_cases(), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_plan_writes_every_element(operation, algorithm, case, dtype, seed):
    """The kernel itself, below every check, on an output full of NaN."""
    planned = plan_for(case, operation, algorithm, dtype)
    if planned is None:
        return
    g = geometry_of(case)
    rng = np.random.default_rng(seed)
    shapes = (g.input_shape, g.weight_shape, g.output_shape)
    x, w, dy = (small_integers(rng, shape, dtype) for shape in shapes)
    b = small_integers(rng, (g.K,), dtype)
    arguments = {
        "conv2d": (x, w, b),
        "conv2d_input_grad": (dy, w),
        "conv2d_weight_grad": (x, dy),
    }[operation]
    shape = {
        "conv2d": g.output_shape,
        "conv2d_input_grad": g.input_shape,
        "conv2d_weight_grad": g.weight_shape,
    }[operation]
    out = Guarded(shape, dtype)
    planned.run(g, *arguments, out.array)
    assert np.isfinite(out.array).all()
    out.assert_untouched_around()


@settings(deadline=None, max_examples=60)
@given(case=conv_cases(max_length=14, max_channels=8), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_adjoint_identity(case, dtype, seed):
    """<conv(x, w), dy> = <x, dx> = <w, dw>, exactly on integers."""
    rng = np.random.default_rng(seed)
    x, w, dy = (small_integers(rng, shape, dtype) for shape in case.shapes)
    with fastcnn.precision("ieee"):
        y, dx, dw = (convolve(functional, name, case, x, w, dy) for name in CONVOLUTIONS)
    product = np.sum(y * dy, dtype=np.float64)
    assert np.sum(x * dx, dtype=np.float64) == product
    assert np.sum(w * dw, dtype=np.float64) == product


PADDINGS = [0, 2, (1, 0), (0, 3), (1, 2, 0, 3), (5, 0, 0, 4), "valid", "same_upper", "same_lower"]


@every_algorithm
@pytest.mark.parametrize("stride", [1, 2, 3, (1, 3), (4, 2)])
@pytest.mark.parametrize("padding", [*PADDINGS, "same"], ids=str)
def test_every_padding_at_every_stride(operation, algorithm, padding, stride):
    if padding == "same" and stride != 1:
        x, w, dy = np.zeros((1, 2, 8, 9)), np.zeros((3, 2, 3, 2)), np.zeros((1, 3, 8, 9))
        case = ConvCase(1, 2, 8, 9, 3, 3, 2, stride, padding, 1, 1)
        with pytest.raises(ValueError, match="padding='same' is not supported for strided"):
            convolve(functional, operation, case, x, w, dy, algorithm=algorithm)
        return
    for dilation in (1, (2, 3)):
        case = ConvCase(2, 2, 8, 9, 3, 3, 2, stride, padding, dilation, 1)
        with fastcnn.precision("ieee"):
            if plan_for(case, operation, algorithm, np.float32):
                assert_exact(case, operation, algorithm, np.float32, 3)


@pytest.mark.parametrize("algorithm", [entry.name for entry in IMPLEMENTATIONS["conv2d"]])
@settings(deadline=None, max_examples=30)
@given(case=conv_cases(max_length=12), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_bias(algorithm, case, dtype, seed):
    """One per filter and one per pixel are added exactly once."""
    with fastcnn.precision("ieee"):
        if plan_for(case, "conv2d", algorithm, dtype) is None:
            return
    rng = np.random.default_rng(seed)
    x, w = (small_integers(rng, shape, dtype) for shape in case.shapes[:2])
    for shape in ((case.K,), case.output_shape[-3:]):
        b = guarded(small_integers(rng, shape, dtype))
        with fastcnn.precision("ieee"):
            y = functional.conv2d(x, w, b, **case.options, algorithm=algorithm)
        np.testing.assert_array_equal(y, reference.conv2d(x, w, b, **case.options))


@settings(deadline=None, max_examples=40)
@given(case=conv_cases(), dtype=st.sampled_from(FLOATS), per_pixel=st.booleans(), seed=seeds())
def test_bias_gradient(case, dtype, per_pixel, seed):
    dy = np.random.default_rng(seed).standard_normal(case.output_shape).astype(dtype)
    db = functional.conv2d_bias_grad(guarded(dy), per_pixel)
    expected = reference.conv2d_bias_grad(dy, per_pixel)
    assert db.dtype == dtype
    assert db.shape == expected.shape
    # summed in float64 either way: in float32 the two differ where rounding is on the edge
    tolerance = 2 * np.finfo(dtype).eps * max(1, np.abs(dy).sum())
    np.testing.assert_allclose(db, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("images", [3, 4, 9])
def test_bias_gradient_of_planes_of_every_size(images, dtype):
    """One by one, or several planes at a time: blocks of filters with and without a rest."""
    rng = np.random.default_rng(images)
    for filters, p, q in ((1, 1, 1), (512, 1, 1), (513, 1, 1), (75, 7, 7), (9, 8, 16), (9, 3, 43)):
        dy = small_integers(rng, (images, filters, p, q), dtype)
        db = functional.conv2d_bias_grad(guarded(dy))
        np.testing.assert_array_equal(db, dy.sum((0, 2, 3)), strict=True)


def test_bias_gradient_is_summed_in_float64():
    # float32 sums of these stop at 2^24
    dy = np.array([2**24, 1, 1], np.float32)
    np.testing.assert_array_equal(functional.conv2d_bias_grad(dy.reshape(1, 1, 3, 1)), [2**24 + 2])
    images = dy.reshape(3, 1, 1, 1)
    np.testing.assert_array_equal(functional.conv2d_bias_grad(images), [2**24 + 2])
    np.testing.assert_array_equal(functional.conv2d_bias_grad(images, True), [[[2**24 + 2]]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_one_image_is_a_batch_of_one(dtype):
    case = ConvCase(None, 3, 8, 7, 4, 3, 3, 2, 1, 1, 1)
    rng = np.random.default_rng(4)
    x, w, dy = (rng.standard_normal(shape).astype(dtype) for shape in case.shapes)
    batch = ConvCase(1, 3, 8, 7, 4, 3, 3, 2, 1, 1, 1)
    for operation in CONVOLUTIONS:
        one = convolve(functional, operation, case, x, w, dy)
        several = convolve(functional, operation, batch, x[None], w, dy[None])
        assert one.shape == result_shape(operation, case)
        assert one.tobytes() == several.tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_empty_batch(dtype):
    x, w = np.zeros((0, 3, 8, 7), dtype), np.ones((4, 3, 3, 3), dtype)
    y = functional.conv2d(x, w, np.ones(4, dtype))
    assert y.shape == (0, 4, 6, 5)
    assert functional.conv2d_input_grad(y, w, x.shape).shape == x.shape
    dw = functional.conv2d_weight_grad(x, y, w.shape, out=np.full(w.shape, np.nan, dtype))
    np.testing.assert_array_equal(dw, np.zeros_like(w))
    np.testing.assert_array_equal(functional.conv2d_bias_grad(y), np.zeros(4))
    np.testing.assert_array_equal(functional.conv2d_bias_grad(y, True), np.zeros((4, 6, 5)))


def test_input_without_rows_gives_the_bias_where_padding_makes_windows():
    x, w, b = np.zeros((1, 1, 0, 3)), np.ones((1, 1, 2, 3)), np.array([5.0])
    y = functional.conv2d(x, w, b, padding=(1, 0))
    np.testing.assert_array_equal(y, [[[[5.0]]]])
    assert functional.conv2d_input_grad(y, w, x.shape, padding=(1, 0)).shape == x.shape
    dw = functional.conv2d_weight_grad(x, y, w.shape, padding=(1, 0))
    np.testing.assert_array_equal(dw, np.zeros_like(w))
