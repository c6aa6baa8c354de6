"""NaN and infinities come out where direct convolution puts them; huge, tiny and signed values."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastcnn
from fastcnn import functional, reference
from fastcnn.reference import loops
from tests.functional.operations import (
    CONVOLUTIONS,
    FLOATS,
    convolve,
    implementations,
    plan_for,
)
from tests.geometries import ConvCase, conv_cases, seeds, small_integers

every_algorithm = pytest.mark.parametrize(
    ("operation", "algorithm"), implementations(*CONVOLUTIONS)
)
NOT_SERVED = "the implementation says that it does not serve this layer"
OPERANDS = {
    "conv2d": ("x", "w"),
    "conv2d_input_grad": ("dy", "w"),
    "conv2d_weight_grad": ("x", "dy"),
}
# The operand that meets the zeros of the padding. A non-finite value of it times such a zero is
# NaN if padding is an image of zeros, and nothing if a window merely ends at the border: the
# lectures' formulas (conv(pad X)) and their loops differ there, and so do PyTorch's algorithms.
MEETS_PADDING = {"conv2d": "w", "conv2d_input_grad": "w", "conv2d_weight_grad": "dy"}


def with_specials(rng, array, kinds):
    """Up to three elements replaced by NaN, inf or -inf."""
    array = array.copy()
    if array.size:
        places = rng.integers(0, array.size, 3)
        array.reshape(-1)[places] = rng.choice(kinds, 3)
    return array


def agree(result, expected):
    """NaN on NaN, inf on inf, and finite values within what the default precision allows."""
    return np.isclose(result, expected, rtol=1e-4, atol=1e-4, equal_nan=True)


@every_algorithm
@settings(deadline=None, max_examples=40)
@given(case=conv_cases(max_length=7), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_non_finite_values_land_where_direct_convolution_puts_them(
    operation, algorithm, case, dtype, seed
):
    if plan_for(case, operation, algorithm, dtype) is None:
        return
    rng = np.random.default_rng(seed)
    names = ("x", "w", "dy")
    arrays = {
        n: small_integers(rng, shape, dtype) for n, shape in zip(names, case.shapes, strict=True)
    }
    for name in OPERANDS[operation]:
        special = arrays | {name: with_specials(rng, arrays[name], [np.nan, np.inf, -np.inf])}
        result = convolve(functional, operation, case, **special, algorithm=algorithm)
        skipping = convolve(loops, operation, case, **special)
        if name == MEETS_PADDING[operation]:
            multiplying = convolve(reference, operation, case, **special)
            assert (agree(result, skipping) | agree(result, multiplying)).all()
        else:
            assert agree(result, skipping).all()


SINGLE = [
    ConvCase(None, 6, 15, 14, 6, 3, 3, stride, 2, dilation, groups)
    for stride, dilation, groups in ((1, 1, 1), (1, 2, 1), (2, 1, 1), (3, 1, 1), (1, 1, 6))
]


@every_algorithm
@pytest.mark.parametrize("case", SINGLE)
def test_one_image_without_a_batch(operation, algorithm, case):
    if plan_for(case, operation, algorithm, np.float32) is None:
        pytest.skip(NOT_SERVED)
    rng = np.random.default_rng(0)
    x, w, dy = (small_integers(rng, shape, np.float32) for shape in case.shapes)
    result = convolve(functional, operation, case, x, w, dy, algorithm=algorithm)
    expected = convolve(reference, operation, case, x, w, dy)
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-3)


LARGE = ConvCase(2, 35, 20, 19, 10, 3, 3, 1, 1, 1, 1)


@every_algorithm
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_non_finite_value_spreads_no_further_than_its_windows(operation, algorithm, value):
    """Blocks of several pixels, taps and filters must not carry it to their neighbours."""
    if plan_for(LARGE, operation, algorithm, np.float32) is None:
        pytest.skip(NOT_SERVED)
    x, w, dy = (np.ones(shape, np.float32) for shape in LARGE.shapes)
    clean = convolve(functional, operation, LARGE, x, w, dy, algorithm=algorithm)
    expected = clean.copy()
    if operation == "conv2d":
        x[1, 20, 10, 7] = value
        expected[1, :, 9:12, 6:9] = value
    elif operation == "conv2d_input_grad":
        dy[1, 6, 10, 7] = value
        expected[1, :, 9:12, 6:9] = value
    else:
        x[1, 20, 10, 7] = value
        expected[:, 20] = value
    result = convolve(functional, operation, LARGE, x, w, dy, algorithm=algorithm)
    assert agree(result, expected).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_bias_and_its_gradient(value):
    x, w = np.ones((2, 1, 12, 13)), np.ones((6, 1, 3, 3))
    b = np.zeros(6)
    b[4] = value
    y = functional.conv2d(x, w, b)
    assert (y[:, [0, 1, 2, 3, 5]] == 9).all()
    np.testing.assert_array_equal(y[:, 4], np.full((2, 10, 11), value))
    b = np.zeros((6, 10, 11))
    b[4, 3, 2] = value
    expected = np.full((2, 6, 10, 11), 9.0)
    expected[:, 4, 3, 2] = value
    np.testing.assert_array_equal(functional.conv2d(x, w, b), expected)
    dy = np.ones((2, 6, 10, 11))
    dy[1, 4, 3, 2] = value
    np.testing.assert_array_equal(functional.conv2d_bias_grad(dy), [220, 220, 220, 220, value, 220])
    expected = np.full((6, 10, 11), 2.0)
    expected[4, 3, 2] = value
    np.testing.assert_array_equal(functional.conv2d_bias_grad(dy, per_pixel=True), expected)


@every_algorithm
def test_huge_and_tiny_values_neither_overflow_nor_vanish(operation, algorithm):
    """Results near float32's limits, and among its subnormals, as the products give them; of
    transformed numbers, as near as subnormal terms of 1/24 of them allow."""
    case = ConvCase(1, 1, 4, 4, 1, 3, 3, 1, 1, 1, 1)
    planned = plan_for(case, operation, algorithm, np.float32)
    if planned is None:
        pytest.skip(NOT_SERVED)
    smallest = float(np.finfo(np.float32).smallest_subnormal)
    rounds = planned.implementation.transforms
    near = {"rtol": 1e-5 * rounds, "atol": 100 * smallest * rounds}
    for size in (2.0**123, 2.0**-140):
        ones = [np.ones(shape, np.float32) for shape in case.shapes]
        expected = convolve(functional, operation, case, *ones, algorithm=algorithm) * size
        # scale whichever operand the operation reads first
        scaled = dict(zip(("x", "w", "dy"), ones, strict=True))
        name = OPERANDS[operation][0]
        scaled[name] = scaled[name] * np.float32(size)
        result = convolve(functional, operation, case, **scaled, algorithm=algorithm)
        np.testing.assert_allclose(result, expected.astype(np.float32), **near)


@every_algorithm
def test_one_tap_copies_bits(operation, algorithm):
    """A kernel with a single 1 moves values without a rounding, whatever they are."""
    if operation == "conv2d_weight_grad":
        case = ConvCase(1, 1, 9, 8, 1, 9, 8, 1, (8, 7), 1, 1)
    else:
        case = ConvCase(1, 1, 9, 8, 1, 3, 3, 1, 1, 1, 1)
    values = np.random.default_rng(5).standard_normal((1, 1, 9, 8)).astype(np.float32)
    x, w, dy = (np.zeros(shape, np.float32) for shape in case.shapes)
    if operation == "conv2d":
        x[...], w[0, 0, 1, 1] = values, 1
    elif operation == "conv2d_input_grad":
        dy[...], w[0, 0, 1, 1] = values, 1
    else:
        x[...], dy[0, 0, 8, 7] = values, 1
    with fastcnn.precision("ieee"):
        if plan_for(case, operation, algorithm, np.float32) is None:
            pytest.skip(NOT_SERVED)
        result = convolve(functional, operation, case, x, w, dy, algorithm=algorithm)
    np.testing.assert_array_equal(result, values)
