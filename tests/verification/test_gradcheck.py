"""gradcheck passes right gradients, and names the entry of a wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import functional, networks
from fastcnn.layers import Conv2D, Dense, MaxPool2D
from fastcnn.verification import gradcheck
from fastcnn.verification.gradcheck import GradcheckError


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_a_function_and_its_gradient(rng):
    x, w = rng.standard_normal((2, 3, 6, 5)), rng.standard_normal((4, 3, 3, 2))
    report = gradcheck(
        lambda x: functional.conv2d(x, w, stride=2, padding=1),
        x,
        lambda dy: functional.conv2d_input_grad(dy, w, x.shape, stride=2, padding=1),
    )
    assert report
    assert report.entries == x.size
    assert report.worst.excess < 1e-2


def test_a_function_of_several_inputs(rng):
    x, w = rng.standard_normal((3, 5)), rng.standard_normal((2, 5))

    def gradient(dy):
        return functional.dense_input_grad(dy, w), functional.dense_weight_grad(x, dy)

    report = gradcheck(functional.dense, (x, w), gradient)
    assert report.names == ("x[0]", "x[1]")
    assert report.entries == x.size + w.size


def test_a_loss_has_one_number(rng):
    p, y = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    assert gradcheck(
        lambda p: functional.half_squared_error(p, y),
        p,
        lambda dy: dy * functional.half_squared_error_grad(p, y),
    )


@pytest.mark.parametrize(
    ("layer", "shape", "names"),
    [
        (Conv2D(3, 3, padding="same", activation="tanh", dtype="float64"), (2, 2, 6, 6), 3),
        (Dense(4, activation="softmax", dtype="float64"), (3, 5), 3),
        (MaxPool2D(2, dtype="float64"), (2, 2, 6, 6), 1),
    ],
)
def test_layers_with_their_parameters(rng, layer, shape, names):
    report = gradcheck(layer, rng.standard_normal(shape), samples=30)
    assert report
    assert len(report.names) == names


def test_parameters_and_input_are_left_as_they_were(rng):
    layer = Dense(4, dtype="float64")
    x = rng.standard_normal((3, 5))
    layer.forward(x)
    before = x.copy(), {name: a.copy() for name, a in layer.parameters.items()}
    gradcheck(layer, x)
    np.testing.assert_array_equal(x, before[0])
    for name, array in layer.parameters.items():
        np.testing.assert_array_equal(array, before[1][name])


def test_one_wrong_entry_is_named(rng):
    x = rng.standard_normal((4, 6))

    def wrong(dy):
        dx = functional.tanh_grad(dy, functional.tanh(x))
        dx[2, 3] *= 1.01
        dx[1, 1] *= 1.5
        return dx

    with pytest.raises(GradcheckError, match=r"2 of 24 entries of x; worst x\[1, 1\]: analytic"):
        gradcheck(functional.tanh, x, wrong)
    report = gradcheck(functional.tanh, x, wrong, raise_exception=False)
    assert not report
    assert report.failures == 2
    assert report.worst.index == (1, 1)


def test_a_parameter_gradient_that_is_wrong_is_named(rng):
    class Forgetful(Dense):
        def _backward(self, dy, kept, input_grad):
            dx = super()._backward(dy, kept, input_grad)
            self.gradients["bias"] = np.zeros_like(self.gradients["bias"])
            return dx

    with pytest.raises(GradcheckError, match=r"worst bias\["):
        gradcheck(Forgetful(3, dtype="float64"), rng.standard_normal((4, 5)))


def test_nan_is_wrong(rng):
    x = rng.standard_normal(5)
    report = gradcheck(
        functional.relu, x, lambda dy: np.full_like(dy, np.nan), raise_exception=False
    )
    assert report.failures == 5


def test_what_it_refuses(rng):
    x = rng.standard_normal((2, 3))
    with pytest.raises(TypeError, match=r"x is float32: pass x.astype\(np.float64\)"):
        gradcheck(functional.relu, x.astype(np.float32), lambda dy: dy)
    with pytest.raises(TypeError, match="a function and its gradient"):
        gradcheck(functional.relu, x)
    with pytest.raises(GradcheckError, match=r"gradient of x has shape \(6,\)"):
        gradcheck(functional.relu, x, lambda dy: dy.ravel())
    with pytest.raises(ValueError, match="expected 1 gradients"):
        gradcheck(functional.relu, x, lambda dy: (dy, dy))


@pytest.mark.parametrize(("name", "size"), [("fifteen_parameter", 6), ("sigmoid_cnn", 8)])
def test_a_network_alone_and_with_its_loss(rng, name, size):
    network = getattr(networks, name)(dtype="float64")
    x = rng.standard_normal((3, 1, size, size))
    report = gradcheck(network, x)
    assert "x" in report.names
    report = gradcheck(network, x, y=np.array([0.0, 1.0, 1.0]))
    assert set(report.names) == set(network.parameters())
