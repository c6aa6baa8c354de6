"""ReLU before max pooling in a network: one pass, and nothing that a user sees changes."""

import numpy as np
import pytest

from fastcnn import Sequential, functional
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from fastcnn.training import pairs

X = np.random.default_rng(3).standard_normal((4, 2, 12, 11)).astype(np.float32)
DY = np.random.default_rng(4).standard_normal((4, 2)).astype(np.float32)


def network(backend="auto", at_zero=1.0, **window):
    """A pair of layers, and a layer's activation before a pooling."""
    return Sequential(
        [
            Conv2D(3, 3, padding=1),
            ReLU(at_zero=at_zero),
            MaxPool2D(**window),
            Conv2D(4, 3, activation="relu"),
            MaxPool2D(2),
            Flatten(),
            Dense(2, activation="sigmoid"),
        ],
        seed=5,
        backend=backend,
    )


def one_by_one(net, x, dy):
    """Output, gradient of the input and parameters' gradients, layer by layer."""
    for layer in net.layers:
        x = layer.forward(x)
    for layer in reversed(net.layers):
        dy = layer.backward(dy)
    return x, dy, net.gradients()


def assert_equal(got, want):
    for a, b in zip(got[:2], want[:2], strict=True):
        np.testing.assert_array_equal(a, b)
    assert got[2].keys() == want[2].keys()
    for name in want[2]:
        np.testing.assert_array_equal(got[2][name], want[2][name])


@pytest.fixture
def calls(monkeypatch):
    """Names of the operations that layers ask `functional` for."""
    seen = []

    def watched(name, function):
        def call(*args, **options):
            seen.append(name)
            return function(*args, **options)

        return call

    for name in ("relu", "relu_grad", "max_pool2d", "max_pool2d_grad", "relu_max_pool2d"):
        monkeypatch.setattr(functional, name, watched(name, getattr(functional, name)))
    return seen


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("window", [{}, {"pool_size": 3, "strides": 2, "padding": 1}])
def test_the_bits_of_layers_one_by_one(backend, window):
    net = network(backend, **window)
    y = net.forward(X)
    dx = net.backward(DY)
    got = y, dx, net.gradients()
    assert_equal(got, one_by_one(net, X, DY))
    np.testing.assert_array_equal(net.predict(X), y)


def test_zeros_pass_their_gradient():
    """SEEDS.md S2: relu'(0) = 1, and the first of equal zeros wins."""
    net = Sequential([ReLU(), MaxPool2D(2)])
    net.forward(np.zeros((1, 1, 2, 2), np.float32))
    dx = net.backward(np.ones((1, 1, 1, 1), np.float32))
    np.testing.assert_array_equal(dx, [[[[1, 0], [0, 0]]]])
    net.forward(np.full((1, 1, 2, 2), -1, np.float32))
    np.testing.assert_array_equal(net.backward(np.ones((1, 1, 1, 1), np.float32)), 0 * dx)


def test_it_is_one_pass(calls):
    net = network()
    net.forward(X)
    net.backward(DY)
    assert calls == ["relu_max_pool2d", "relu_max_pool2d"]


def test_a_step_is_too(calls):
    net = network()
    net.compile(loss="binary_cross_entropy")
    net.train_on_batch(X, np.zeros((4, 2)))
    assert set(calls) == {"relu_max_pool2d"}


def test_a_convolution_that_only_predicts_does_it_itself(calls):
    network().predict(X)
    assert calls == ["relu_max_pool2d", "max_pool2d"]


def test_another_derivative_at_zero_takes_two(calls):
    net = network(at_zero=0.0)
    net.forward(X)
    net.backward(DY)
    assert calls == ["relu", "max_pool2d", "relu_max_pool2d", "max_pool2d_grad", "relu_grad"]
    net.layers[1].at_zero = 1.0  # seen at the next pass
    calls.clear()
    net.forward(X)
    assert calls == ["relu_max_pool2d", "relu_max_pool2d"]


def test_layers_of_different_backends_stay_apart(calls):
    net = network()
    net.layers[1].configure(backend="reference")
    net.forward(X)
    assert calls == ["max_pool2d", "relu_max_pool2d"]


def test_layers_may_be_asked_by_themselves_after_a_pass():
    """Backward by hand after the network's forward; the mask as the lecture draws it."""
    net = network()
    y, dy = net.forward(X), DY
    for layer in reversed(net.layers):
        dy = layer.backward(dy)
    got = y, dy, net.gradients()
    mask = net.layers[2].mask_to_input()
    assert_equal(got, one_by_one(net, X, DY))
    np.testing.assert_array_equal(mask, net.layers[2].mask_to_input())


def test_a_pass_without_training_keeps_nothing():
    net = network()
    net.forward(X)
    net.predict(X)
    for layer in net.layers:
        with pytest.raises(RuntimeError, match="needs a forward pass"):
            layer.backward(DY)


def test_derived_classes_run_their_own_methods():
    class Loud(ReLU):
        pass

    class Pooling(MaxPool2D):
        pass

    class Convolution(Conv2D):
        def forward(self, x, training=True):
            return super().forward(x, training)

    for layers in (
        [Loud(), MaxPool2D()],
        [ReLU(), Pooling()],
        [Convolution(1, 1, activation="relu"), MaxPool2D()],
        [ReLU(), Conv2D(1, 1), MaxPool2D()],
    ):
        assert pairs.find(layers) == {}
    assert list(pairs.find([Conv2D(1, 1, activation="relu"), MaxPool2D(), ReLU()])) == [1]
