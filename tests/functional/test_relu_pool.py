"""ReLU and max pooling in one pass: every implementation, to the bit what the two give in turn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import functional, reference
from fastcnn.functional import relu_max_pool2d, relu_max_pool2d_grad
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import FLOATS, Guarded, guarded, implementations, plan_for
from tests.functional.test_pool import LAYERS
from tests.geometries import pool_cases, pooling_data, seeds, small_integers

FUSED = ("relu_max_pool2d", "relu_max_pool2d_grad")
forward = pytest.mark.parametrize("algorithm", [e.name for e in IMPLEMENTATIONS[FUSED[0]]])
backward = pytest.mark.parametrize("algorithm", [e.name for e in IMPLEMENTATIONS[FUSED[1]]])


def data(case, dtype, seed):
    """Ties, NaN, infinities and zeros of both signs; whole images of negative numbers."""
    rng = np.random.default_rng(seed)
    x = pooling_data(rng, case.input_shape, dtype)
    x[rng.random(x.shape) < 0.2] = -0.0
    shift = rng.choice([0, 0, 100])
    return guarded(np.where(np.isfinite(x), x - dtype(shift), x).astype(dtype))


def in_turn(case, x):
    """y, mask and passes of functional's relu and max_pool2d."""
    y, mask = functional.max_pool2d(functional.relu(x), **case.options, return_mask=True)
    indices = functional.mask_to_indices(mask, x.shape, **case.options)
    planes = x.reshape(*x.shape[:-2], x.shape[-2] * x.shape[-1])
    indices = indices.reshape(*y.shape[:-2], y.shape[-2] * y.shape[-1])
    chosen = np.take_along_axis(planes, indices, -1).reshape(y.shape)
    return y, mask, ~(chosen < 0)


def assert_forward_equal(case, algorithm, dtype, seed):
    if plan_for(case, "relu_max_pool2d", algorithm, dtype) is None:
        return
    x, out = data(case, dtype, seed), Guarded(case.output_shape, dtype)
    results = relu_max_pool2d(
        x, **case.options, return_mask=True, algorithm=algorithm, out=out.array
    )
    assert results[0] is out.array
    out.assert_untouched_around()
    for judge in (in_turn(case, x), reference.relu_max_pool2d(x, **case.options, return_mask=True)):
        for got, want in zip(results, judge, strict=True):
            np.testing.assert_array_equal(got, want)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(want))
    alone = relu_max_pool2d(x, **case.options, algorithm=algorithm)
    np.testing.assert_array_equal(alone, results[0])


def assert_backward_equal(case, algorithm, dtype, seed):
    if plan_for(case, "relu_max_pool2d_grad", algorithm, dtype) is None:
        return
    x = data(case, dtype, seed)
    y, mask, passes = in_turn(case, x)
    rng = np.random.default_rng(seed)
    dy = small_integers(rng, y.shape, dtype)
    dy[~passes & (rng.random(y.shape) < 0.5)] = np.inf
    dy, mask, passes = guarded(dy), guarded(mask), guarded(passes.astype(np.uint8))
    out = Guarded(case.input_shape, dtype)
    dx = relu_max_pool2d_grad(
        dy, mask, passes, x.shape, **case.options, algorithm=algorithm, out=out.array
    )
    assert dx is out.array
    out.assert_untouched_around()
    apart = functional.max_pool2d_grad(dy, mask, x.shape, **case.options)
    np.testing.assert_array_equal(dx, functional.relu_grad(apart, x))
    expected = reference.relu_max_pool2d_grad(dy, mask, passes, x.shape, **case.options)
    np.testing.assert_array_equal(dx, expected)


@forward
@settings(deadline=None, max_examples=40)
@given(case=pool_cases(max_length=14), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_forward(algorithm, case, dtype, seed):
    assert_forward_equal(case, algorithm, dtype, seed)


@forward
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_forward_of_layers(algorithm, case):
    for dtype in FLOATS:
        for seed in range(3):
            assert_forward_equal(case, algorithm, dtype, seed)


@backward
@settings(deadline=None, max_examples=40)
@given(case=pool_cases(max_length=14), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_backward(algorithm, case, dtype, seed):
    assert_backward_equal(case, algorithm, dtype, seed)


@backward
@pytest.mark.parametrize("case", LAYERS, ids=str)
def test_backward_of_layers(algorithm, case):
    for dtype in FLOATS:
        for seed in range(3):
            assert_backward_equal(case, algorithm, dtype, seed)


@pytest.mark.parametrize(("operation", "algorithm"), implementations(*FUSED))
def test_layers_give_every_algorithm_something_to_do(operation, algorithm):
    assert any(plan_for(case, operation, algorithm, np.float32) for case in LAYERS)


@forward
def test_by_hand(algorithm):
    """Below zero the first cell wins and nothing passes; at zero the derivative is 1 (S2)."""
    nan = np.nan
    x = np.float32([[[[-1, -2, 0, -1, -3, 4], [-3, -4, -1, -5, nan, 2]]]])
    results = relu_max_pool2d(x, 2, return_mask=True, algorithm=algorithm)
    for got, want in zip(results, ([0, 0, nan], [0, 0, 2], [0, 1, 1]), strict=True):
        np.testing.assert_array_equal(got[0, 0, 0], want)
    dy = np.float32([[[[5, 6, 7]]]])
    dx = relu_max_pool2d_grad(dy, *results[1:], x.shape, 2, algorithm=algorithm)
    np.testing.assert_array_equal(dx[0, 0], [[0, 0, 6, 0, 0, 0], [0, 0, 0, 0, 7, 0]])


def test_a_zero_after_a_negative_cell_does_not_win():
    y, mask, passes = relu_max_pool2d(np.float64([[[-1, 0], [0, 0]]]), 2, return_mask=True)
    assert (y.item(), mask.item(), passes.item()) == (0, 0, 0)


@backward
def test_bad_masks_are_refused(algorithm):
    mask, passes = np.full((1, 1, 2, 2), 7, np.uint8), np.zeros((1, 1, 2, 2), np.uint8)
    dy = np.zeros(mask.shape, np.float32)
    with pytest.raises(ValueError, match="4 entries that name no cell"):
        relu_max_pool2d_grad(dy, mask, passes, (1, 1, 4, 4), 2, algorithm=algorithm)


def test_passes_of_another_shape_or_type_are_refused():
    mask = np.zeros((1, 1, 2, 2), np.uint8)
    dy = np.zeros(mask.shape, np.float32)
    with pytest.raises(ValueError, match=r"passes must have shape \(1, 1, 2, 2\)"):
        relu_max_pool2d_grad(dy, mask, mask[..., :1], (1, 1, 4, 4), 2)
    with pytest.raises(TypeError, match="passes must be uint8, but got float32"):
        relu_max_pool2d_grad(dy, mask, dy, (1, 1, 4, 4), 2)
