"""Losses as a network uses them: labels, logits, saturation, accuracy."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.layers import Dense, Sigmoid, Softmax
from fastcnn.training import Sequential
from fastcnn.training.losses import accuracy
from tests.finite_differences import numeric_gradient

BACKENDS = pytest.mark.parametrize("backend", ["reference", "auto"])


def one_output(loss="binary_cross_entropy", **options):
    """A network whose logit is its single input times 1: z = x."""
    network = Sequential([Dense(1), Sigmoid()], loss=loss, input_shape=(1,), **options)
    state = {k: np.zeros_like(v) for k, v in network.state_dict().items()}
    network.load_state_dict({**state, "0.weight": np.ones((1, 1), network.dtype)})
    return network


@BACKENDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_sigmoid_backpropagates_from_the_logits(backend, dtype):
    network = one_output(dtype=dtype, backend=backend)
    z = np.array([[1e4], [-1e4]], dtype)
    wrong = np.array([[0], [1]])
    loss, gradients = network.loss_and_gradients(z, wrong)
    assert loss == 1e4
    # dZ2 = (A2 - y)/m = [1, -1]/2: dW = 1e4/2 + 1e4/2, db = 1/2 - 1/2
    np.testing.assert_array_equal(gradients["0.weight"], [[1e4]])
    np.testing.assert_array_equal(gradients["0.bias"], [0])
    for row, sign in ((0, 1), (1, -1)):
        _, gradients = network.loss_and_gradients(z[[row]], wrong[[row]])
        np.testing.assert_array_equal(gradients["0.bias"], [sign])
    loss, gradients = network.loss_and_gradients(z, 1 - wrong)
    assert loss == 0
    assert not gradients["0.weight"].any()


@BACKENDS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saturated_softmax_backpropagates_from_the_logits(backend, dtype):
    network = Sequential(
        [Dense(2), Softmax()],
        loss="categorical_cross_entropy",
        input_shape=(1,),
        dtype=dtype,
        backend=backend,
    )
    weight = np.array([[1], [-1]], dtype)
    network.load_state_dict({"0.weight": weight, "0.bias": np.zeros(2, dtype)})
    loss, gradients = network.loss_and_gradients(np.full((4, 1), 1e4, dtype), np.ones(4, int))
    assert loss == 2e4
    np.testing.assert_array_equal(gradients["0.bias"], [1, -1])


@BACKENDS
def test_half_squared_error_goes_through_the_sigmoid_s_own_gradient(backend):
    network = one_output("half_squared_error", dtype="float64", backend=backend)
    z, y = 0.5, 1.0
    loss, gradients = network.loss_and_gradients(np.array([[z]]), np.array([[y]]))
    o = 1 / (1 + np.exp(-z))
    assert loss == pytest.approx((y - o) ** 2 / 2, rel=1e-14)
    assert gradients["0.bias"][0] == pytest.approx((o - y) * o * (1 - o), rel=1e-14)
    # document 003's derivative vanishes where the sigmoid is saturated
    _, gradients = network.loss_and_gradients(np.array([[1e4]]), np.array([[0.0]]))
    assert gradients["0.bias"][0] == 0


@BACKENDS
@pytest.mark.parametrize(
    ("loss", "activation", "units"),
    [
        ("binary_cross_entropy", "sigmoid", 1),
        ("binary_cross_entropy", "sigmoid", 3),
        ("binary_cross_entropy", "softmax", 3),
        ("categorical_cross_entropy", "softmax", 3),
        ("categorical_cross_entropy", "sigmoid", 3),
        ("half_squared_error", "linear", 3),
        ("half_squared_error", "softmax", 3),
        ("half_squared_error", "tanh", 1),
    ],
)
def test_gradients_of_every_pairing(loss, activation, units, backend):
    rng = np.random.default_rng(2)
    network = Sequential(
        [Dense(4, activation="tanh"), Dense(units, activation=activation)],
        loss=loss,
        dtype="float64",
        backend=backend,
        input_shape=(5,),
    )
    x = rng.standard_normal((6, 5))
    y = rng.integers(0, 2, (6, units)).astype(float)
    if loss == "categorical_cross_entropy":
        y = np.eye(units)[rng.integers(0, units, 6)]
    value, gradients = network.loss_and_gradients(x, y)
    assert value == pytest.approx(network.evaluate(x, y)["loss"], rel=1e-14)
    state = network.state_dict()
    for name, start in state.items():

        def loss_with(values, name=name):
            network.load_state_dict({**state, name: values})
            return network.loss_and_gradients(x, y)[0]

        numeric = numeric_gradient(loss_with, start)
        np.testing.assert_allclose(gradients[name], numeric, rtol=1e-6, atol=1e-9, err_msg=name)


def test_logits_are_used_for_a_softmax_over_the_classes_only():
    def bound(*layers, loss):
        return Sequential(layers, loss=loss).bound_loss().from_logits

    categorical = "categorical_cross_entropy"
    assert bound(Dense(3), Softmax(), loss=categorical)
    assert bound(Dense(3), Softmax(axis=1), loss=categorical)
    assert not bound(Dense(3), Softmax(axis=0), loss=categorical)
    assert not bound(Dense(3), Softmax(), loss="binary_cross_entropy")
    assert not bound(Dense(3), Sigmoid(), loss="half_squared_error")
    assert not bound(Dense(3), loss=categorical)


@pytest.mark.parametrize("kind", [bool, int, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_labels_of_any_type_and_of_one_dimension_less(kind, shape):
    network = one_output()
    y = np.array([0, 1]).astype(kind).reshape(shape)
    expected = network.loss_and_gradients(
        np.ones((2, 1), np.float32), np.array([[0], [1]], np.float32)
    )
    assert network.loss_and_gradients(np.ones((2, 1), np.float32), y) == expected


@pytest.mark.parametrize(
    "y",
    [
        [2, 0],
        [[2], [0]],
        np.eye(3)[[2, 0]],
        np.eye(3, dtype=int)[[2, 0]],
        np.eye(3, dtype=bool)[[2, 0]],
    ],
)
def test_class_numbers_and_rows_are_the_same(y):
    network = Sequential(
        [Dense(3, activation="softmax")], loss="categorical_cross_entropy", dtype="float64"
    )
    x = np.random.default_rng(0).standard_normal((2, 4))
    loss, _ = network.loss_and_gradients(x, y)
    p = network.predict(x)
    assert loss == pytest.approx(-(np.log(p[0, 2]) + np.log(p[1, 0])) / 2, rel=1e-14)


def test_labels_that_do_not_fit():
    network = one_output()
    x = np.zeros((2, 1), np.float32)
    with pytest.raises(ValueError, match="from 0 to 1, but got 8; for two classes"):
        network.loss_and_gradients(x, [1, 8])
    with pytest.raises(ValueError, match="but got nan"):
        network.loss_and_gradients(x, [np.nan, 1])
    with pytest.raises(TypeError, match="numbers or bools"):
        network.loss_and_gradients(x, ["a", "b"])
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        network.loss_and_gradients(x, [0, 1, 1])
    with pytest.raises(ValueError, match="no loss"):
        Sequential([Dense(1)]).loss_and_gradients(x, [0, 1])


def test_accuracy_reads_answers_as_each_kind_of_output_gives_them():
    p = np.array([[0.5], [0.4], [0.9], [0.1]])
    assert accuracy(p, np.array([[1.0], [0], [0], [0]])) == 0.75
    rows = np.array([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert accuracy(rows, np.array([1, 2])) == 0.5
    assert accuracy(rows, np.array([[0, 1.0, 0], [0, 0, 1]])) == 0.5
    questions = np.array([[0.9, 0.9], [0.1, 0.6]])
    assert accuracy(questions, np.array([[1.0, 1], [1, 1]])) == 0.75


def test_no_accuracy_without_probabilities():
    network = Sequential([Dense(1)], loss="half_squared_error")
    x = np.ones((3, 2), np.float32)
    assert set(network.evaluate(x, [0.5, 2, -1])) == {"loss"}
    assert set(one_output("half_squared_error").evaluate(x[:, :1], [0, 1, 1])) == {
        "loss",
        "accuracy",
    }
