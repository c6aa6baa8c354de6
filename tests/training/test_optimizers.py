"""Optimizers: their rules by hand, their memory, and their errors."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.layers import Dense
from fastcnn.training import SGD, Adam, Sequential
from fastcnn.training.optimizers import optimizer_of

BACKENDS = pytest.mark.parametrize("backend", ["reference", "auto"])


def steps(optimizer, gradients, backend, start=1.0):
    """The parameter after each step, along the given gradients."""
    w = np.array([start])
    path = []
    for gradient in gradients:
        optimizer.step({"w": w}, {"w": np.array([gradient])}, backend)
        path.append(w[0])
    return path


@BACKENDS
def test_rules_by_hand(backend):
    # theta <- theta - eta dtheta
    assert steps(SGD(0.5), [1.0, 2.0], backend) == [0.5, -0.5]
    # v = 1, 2.5; w = 1 - v/2
    assert steps(SGD(0.5, momentum=0.5), [1.0, 2.0], backend) == [0.5, -0.75]
    # dw + v/2 = 1.5, 3.25
    assert steps(SGD(0.5, 0.5, nesterov=True), [1.0, 2.0], backend) == [0.25, -1.375]
    # Without epsilon the first step of Adam is eta in the gradient's direction.
    first, second = steps(Adam(0.5, epsilon=0.0), [4.0, 0.0], backend)
    assert first == pytest.approx(0.5, rel=1e-12)
    m_hat = 0.9 * 0.1 * 4 / (1 - 0.9**2)
    v_hat = 0.999 * 0.001 * 16 / (1 - 0.999**2)
    assert second == pytest.approx(first - 0.5 * m_hat / v_hat**0.5, rel=1e-12)


def test_memory_is_per_parameter():
    optimizer = SGD(0.1, momentum=0.9)
    a, b = np.zeros(2), np.zeros(3)
    optimizer.step({"a": a, "b": b}, {"a": np.ones(2), "b": np.zeros(3)})
    assert optimizer.iterations == 1
    assert {name: kept[0].tolist() for name, kept in optimizer.state.items()} == {
        "a": [1, 1],
        "b": [0, 0, 0],
    }
    assert SGD(0.1).state == {}


def test_another_network_needs_another_optimizer():
    optimizer = Adam()
    optimizer.step({"w": np.zeros(2)}, {"w": np.ones(2)})
    with pytest.raises(ValueError, match="make a new optimizer"):
        optimizer.step({"w": np.zeros(3)}, {"w": np.ones(3)})
    with pytest.raises(ValueError, match="make a new optimizer"):
        optimizer.step({"w": np.zeros(2, np.float32)}, {"w": np.ones(2, np.float32)})
    assert optimizer.iterations == 1


def test_a_missing_gradient_changes_nothing():
    w = np.zeros(1)
    with pytest.raises(ValueError, match="no gradient for b"):
        SGD().step({"w": w, "b": np.zeros(1)}, {"w": np.ones(1)})
    assert not w.any()


def test_the_rate_may_change_between_steps():
    optimizer = SGD(1.0)
    w = np.zeros(1)
    optimizer.step({"w": w}, {"w": np.ones(1)})
    optimizer.learning_rate = 0.5
    optimizer.step({"w": w}, {"w": np.ones(1)})
    assert w[0] == -1.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-1), "learning_rate must be from 0"),
        (lambda: SGD(float("nan")), "learning_rate"),
        (lambda: SGD(1, momentum=1), "momentum must be from 0 to below 1"),
        (lambda: SGD(1, nesterov=True), "nesterov=True needs a momentum"),
        (lambda: Adam(beta_1=1.0), "beta_1"),
        (lambda: Adam(epsilon=-1), "epsilon"),
        (lambda: optimizer_of("rmsprop"), "'sgd', 'adam', but got 'rmsprop'"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_names_and_repr():
    assert repr(optimizer_of("sgd")) == "SGD(learning_rate=0.01, momentum=0.0, nesterov=False)"
    assert repr(optimizer_of("Adam")).startswith("Adam(learning_rate=0.001, beta_1=0.9")
    mine = SGD(0.3)
    assert optimizer_of(mine) is mine
    with pytest.raises(TypeError, match="a name or an Optimizer"):
        optimizer_of(0.1)


def test_a_layer_s_own_parameters_can_be_stepped():
    layer = Dense(1, seed=0)
    x = np.ones((2, 3), np.float32)
    layer.backward(layer.forward(x))
    before = layer.parameters["weight"].copy()
    SGD(0.5).step(layer.parameters, layer.gradients)
    expected = before - 0.5 * layer.gradients["weight"]
    np.testing.assert_allclose(layer.parameters["weight"], expected, rtol=1e-6)


def test_a_network_without_optimizer_descends_plainly():
    network = Sequential([Dense(1)], loss="half_squared_error", input_shape=(2,))
    network.train_on_batch(np.ones((1, 2), np.float32), [0.0])
    assert isinstance(network.optimizer, SGD)
