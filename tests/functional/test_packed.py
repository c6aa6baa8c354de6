"""Packed weights: the bits of bare ones, never stale, and what layers do with them."""

import copy
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, reference
from fastcnn.functional.conv import conv2d_with_relu
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels import packed as module
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.layers import Conv2D
from tests.geometries import small_integers

# x, w, window: large and small, strided, grouped, depthwise
LAYERS = [
    ((2, 32, 14, 14), (48, 32, 3, 3), {"padding": 1}),
    ((1, 3, 9, 8), (5, 3, 3, 2), {"stride": 2, "padding": 1}),
    ((2, 16, 7, 7), (16, 4, 1, 1), {"groups": 4}),
    ((2, 12, 9, 9), (12, 1, 3, 3), {"groups": 12, "padding": 1, "stride": 2}),
]


def able(operation, x_shape, w_shape, window, dtype):
    g = conv2d_geometry(x_shape, w_shape, **window)
    problem = Problem(operation, g, dtype)
    return ["auto"] + [i.name for i in IMPLEMENTATIONS[operation] if i.supports(problem) is None]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x_shape", "w_shape", "window"), LAYERS)
def test_the_bits_of_bare_weights(x_shape, w_shape, window, dtype):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    b = rng.standard_normal(w_shape[0]).astype(dtype)
    kept = fastcnn.PackedWeight(w)
    for algorithm in able("conv2d", x_shape, w_shape, window, dtype):
        y = functional.conv2d(x, w, b, algorithm=algorithm, **window)
        for _ in range(2):
            again = functional.conv2d(x, kept, b, algorithm=algorithm, **window)
            assert again.tobytes() == y.tobytes()
    for algorithm in able("conv2d_input_grad", x_shape, w_shape, window, dtype):
        options = window | {"algorithm": algorithm}
        dx = functional.conv2d_input_grad(y, w, x_shape, **options)
        assert functional.conv2d_input_grad(y, kept, x_shape, **options).tobytes() == dx.tobytes()
    assert reference.conv2d(x, kept, b, **window).shape == y.shape


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("x_shape", "w_shape", "window"), LAYERS)
def test_relu_in_the_store_is_relu_after_it(x_shape, w_shape, window, dtype):
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal(x_shape).astype(dtype), rng.standard_normal(w_shape).astype(dtype)
    x[0, 0, 3, 3] = np.nan
    for algorithm in able("conv2d", x_shape, w_shape, window, dtype):
        y = functional.relu(functional.conv2d(x, w, algorithm=algorithm, **window))
        fused = conv2d_with_relu(x, w, algorithm=algorithm, **window)
        np.testing.assert_array_equal(fused, y)
        assert np.isnan(fused).any()
        assert (fused == 0).any()


def test_a_packed_weight_is_a_copy():
    rng = np.random.default_rng(2)
    x = small_integers(rng, (1, 4, 6, 6), "float32")
    w = small_integers(rng, (4, 4, 3, 3), "float32")
    kept = fastcnn.PackedWeight(w)
    y = functional.conv2d(x, kept)
    w += 1
    np.testing.assert_array_equal(functional.conv2d(x, kept), y)
    assert not kept.holds(w)
    with pytest.raises(ValueError, match="read-only"):
        kept.array[:] = 0


def test_shapes_and_sizes_of_a_packed_weight():
    w = np.ones((8, 4, 3, 3), np.float32)
    kept = fastcnn.PackedWeight(w)
    assert kept.shape == w.shape
    assert kept.dtype == w.dtype
    assert repr(kept) == "PackedWeight(float32, shape=(8, 4, 3, 3))"
    for size in range(3, 20):
        functional.conv2d(np.ones((1, 4, size, size), np.float32), kept)
    assert len(kept._orders) <= module._KEPT
    for other in (copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        np.testing.assert_array_equal(other, w)


@pytest.mark.parametrize(
    ("w", "error", "message"),
    [
        ([[1.0]], TypeError, "must be a NumPy array of float32 or float64, but got list"),
        (np.ones((1, 1, 1, 1), int), TypeError, "but got int64"),
        (np.ones((3, 3), np.float32), ValueError, "4-D, but got 2-D"),
    ],
)
def test_what_cannot_be_packed(w, error, message):
    with pytest.raises(error, match=message):
        fastcnn.PackedWeight(w)


def test_a_packed_weight_of_another_type_is_refused():
    kept = fastcnn.PackedWeight(np.ones((1, 1, 1, 1)))
    with pytest.raises(TypeError, match="mixed types: w is float64"):
        functional.conv2d(np.ones((1, 1, 2, 2), np.float32), kept)


@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_layers_notice_every_change_of_their_weights(activation):
    """In place, assigned, and by whoever holds the array."""
    layer = Conv2D(16, 3, activation=activation, seed=0)
    x = np.random.default_rng(3).standard_normal((2, 8, 9, 9)).astype(np.float32)

    def expect_fresh():
        y = layer.forward(x, training=False)
        assert y.tobytes() == layer.forward(x).tobytes()
        layer.forward(x, training=False)
        return y.tobytes()

    seen = {expect_fresh()}
    live = layer.parameters["weight"]
    first = layer.forward(x, training=False)
    packed = layer._packed
    layer.forward(x, training=False)
    assert layer._packed is packed  # kept as long as nothing changes
    assert first.tobytes() in seen
    live[0, 0, 0, 0] += 1
    seen.add(expect_fresh())
    layer.parameters["weight"] = live * 2
    seen.add(expect_fresh())
    layer.parameters["weight"] *= 0.5
    layer.parameters["weight"][3] = 0
    seen.add(expect_fresh())
    assert len(seen) == 4
    layer.forward(x)
    assert layer._packed is None  # training keeps nothing


def test_steps_and_loaded_states_change_what_a_network_predicts():
    from fastcnn import networks

    network = networks.two_block(input_shape=(1, 12, 12))
    reference_ = networks.two_block(input_shape=(1, 12, 12), backend="reference")
    rng = np.random.default_rng(4)
    x = rng.standard_normal((4, 1, 12, 12)).astype(np.float32)
    y = rng.integers(0, 2, network.predict(x).shape).astype(np.float32)
    initial = network.state_dict()
    for change in (
        lambda: network.train_on_batch(x, y),
        lambda: network.load_state_dict({k: v + 0.1 for k, v in initial.items()}),
    ):
        network.predict(x)
        change()
        reference_.load_state_dict(network.state_dict())
        np.testing.assert_allclose(network.predict(x), reference_.predict(x), rtol=1e-4, atol=1e-5)
