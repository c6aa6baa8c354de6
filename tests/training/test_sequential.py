"""Sequential: building, names of parameters, state, passes and their errors."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax
from fastcnn.training import Sequential
from tests.finite_differences import numeric_gradient


def cnn(**options):
    layers = [Conv2D(2, 3), ReLU(), MaxPool2D(), Flatten(), Dense(3, activation="softmax")]
    return Sequential(layers, loss="categorical_cross_entropy", **options)


def data(n=6, shape=(1, 6, 6), classes=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, *shape)).astype(dtype), rng.integers(0, classes, n)


def test_names_count_positions_in_layers():
    network = cnn(input_shape=(1, 6, 6))
    shapes = {name: array.shape for name, array in network.state_dict().items()}
    assert shapes == {
        "0.weight": (2, 1, 3, 3),
        "0.bias": (2,),
        "4.weight": (3, 8),
        "4.bias": (3,),
    }
    assert list(network.gradients()) == list(shapes) == list(network.parameters())
    assert network.count_params() == 18 + 2 + 24 + 3
    assert network.input_shape == (None, 1, 6, 6)


def test_seed_decides_and_layers_differ():
    first, same, other = (cnn(input_shape=(1, 6, 6), seed=s).state_dict() for s in (1, 1, 2))
    for name in ("0.weight", "4.weight"):
        np.testing.assert_array_equal(first[name], same[name])
        assert (first[name] != other[name]).any()
    double = cnn(input_shape=(1, 6, 6), seed=1, dtype="float64", backend="reference").state_dict()
    np.testing.assert_array_equal(double["0.weight"].astype(np.float32), first["0.weight"])
    twins = Sequential([Dense(4), Dense(4)], input_shape=(4,)).state_dict()
    assert (twins["0.weight"] != twins["1.weight"]).all()


def test_built_by_the_first_forward_or_asked_for():
    network = cnn()
    assert not network.built
    assert network.input_shape is None
    with pytest.raises(ValueError, match="not yet been built"):
        network.state_dict()
    network.forward(data()[0])
    assert network.input_shape == (None, 1, 6, 6)
    lecture = cnn(default_input_shape=(1, 28, 28))
    assert lecture.forward(data()[0]).shape == (6, 3)  # the images come first
    asked = cnn(default_input_shape=(1, 28, 28))
    assert asked.state_dict()["4.weight"].shape == (3, 2 * 13 * 13)
    with pytest.raises(ValueError, match=r"built for .*\(1, 28, 28\).* pass input_shape=\(1, 6, 6"):
        asked.forward(data()[0])


def test_size_is_free_where_no_parameter_depends_on_it():
    network = Sequential([Conv2D(2, 3, padding="same"), ReLU()], backend="reference")
    assert network.forward(np.zeros((1, 1, 6, 6), np.float32)).shape == (1, 2, 6, 6)
    assert network.forward(np.zeros((1, 1, 9, 4), np.float32)).shape == (1, 2, 9, 4)
    with pytest.raises(ValueError, match=r"pass input_shape=\(2, 6, 6\)"):
        network.forward(np.zeros((1, 2, 6, 6), np.float32))


@pytest.mark.parametrize("unbuilt", [True, False])
def test_one_image_needs_a_batch_axis(unbuilt):
    network = cnn(**{} if unbuilt else {"input_shape": (1, 6, 6)})
    x = data()[0]
    with pytest.raises(ValueError, match=r"one image without a batch axis: pass x\[None\]"):
        network.predict(x[0])
    assert network.predict(x[0][None]).shape == (1, 3)
    with pytest.raises(ValueError, match=r"no batch axis: pass x\[None\]"):
        Sequential([ReLU(), Dense(1)]).forward(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="must have 4 dimensions"):
        network.forward(x[:, 0, 0])


def test_types_are_not_converted_silently():
    x, y = data(dtype=np.float64)
    for use in (cnn().forward, cnn().predict, lambda x: cnn().fit(x, y, verbose=0)):
        with pytest.raises(TypeError, match=r"pass x.astype\('float32'\), or .* dtype='float64'"):
            use(x)
    assert cnn(dtype="float64").predict(x).dtype == np.float64


def test_layers_are_checked():
    with pytest.raises(ValueError, match="at least one layer"):
        Sequential([])
    with pytest.raises(TypeError, match="must be Layer objects, but got 'relu'"):
        Sequential(["relu"])
    relu = ReLU()
    with pytest.raises(ValueError, match="twice"):
        Sequential([relu, Dense(1), relu])
    mixed = [Dense(2), Dense(1, dtype="float64")]
    with pytest.raises(TypeError, match="Dense float32, Dense float64"):
        Sequential(mixed)
    assert Sequential(mixed, dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match=r"'binary_cross_entropy'.* got 'mse'"):
        Sequential([Dense(1)], loss="mse")
    with pytest.raises(ValueError, match="Dense takes inputs"):
        Sequential([Conv2D(1, 3), Dense(1)], input_shape=(1, 6, 6))


def test_backend_reaches_activations():
    network = cnn(backend="reference")
    assert all(layer.ops is reference for layer in network.layers)
    assert network.layers[-1].activation_layer.ops is reference
    assert cnn().layers[-1].activation_layer.ops is functional


def test_backward_returns_the_gradient_of_the_input():
    network = cnn(dtype="float64", backend="reference")
    x, _ = data(2, dtype=np.float64)
    dy = np.random.default_rng(1).standard_normal((2, 3))
    network.forward(x)
    dx = network.backward(dy)
    numeric = numeric_gradient(lambda x: float(np.sum(dy * network.predict(x))), x)
    np.testing.assert_allclose(dx, numeric, rtol=1e-6, atol=1e-9)
    # and the parameters' gradients are those of a loop over the layers by hand
    assert all(np.any(g) for g in network.gradients().values())


def test_predict_keeps_nothing():
    network = cnn(backend="reference")
    x, y = data()
    p = network.forward(x)
    batched = network.predict(x, batch_size=4)
    np.testing.assert_allclose(batched, p, rtol=1e-6)
    with pytest.raises(RuntimeError, match="keep nothing"):
        network.backward(p)
    assert all(layer._kept is None for layer in network.layers)
    network.forward(x)
    network.evaluate(x, y)
    assert all(layer._kept is None for layer in network.layers)
    assert network.predict(x[:0]).shape == (0, 3)
    for bad, error in ((0, ValueError), (2.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match="batch_size"):
            network.predict(x, batch_size=bad)


def test_state_goes_round():
    source, target = cnn(seed=1, input_shape=(1, 6, 6)), cnn(seed=2, input_shape=(1, 6, 6))
    x, _ = data()
    state = source.state_dict()
    live = target.parameters()
    target.load_state_dict(state)
    np.testing.assert_array_equal(target.predict(x), source.predict(x))
    assert all(live[name] is array for name, array in target.parameters().items())
    state["0.weight"][...] = 0  # copies: neither network changes
    assert source.parameters()["0.weight"].any()
    assert target.parameters()["0.weight"].any()
    state = source.state_dict()
    state["0.bias"] = state["0.bias"].astype(">f4")  # the same type in another byte order
    target.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("4.bias"), "missing 4.bias"),
        (lambda s: s.update({"5.bias": s["4.bias"]}), "unexpected 5.bias"),
        (lambda s: s.update({"0.bias": np.zeros(3, np.float32)}), r"0.bias: expected shape \(2,\)"),
        (lambda s: s.update({"0.bias": np.zeros(2)}), "0.bias: expected type float32"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, message):
    network = cnn(input_shape=(1, 6, 6))
    before = network.state_dict()
    state = {name: np.zeros_like(array) for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=message):
        network.load_state_dict(state)
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_summary(capsys):
    network = cnn(input_shape=(1, 6, 6), name="small")
    assert network.summary() is None
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "Model: 'small'"
    assert [cell.strip() for cell in printed[1].split("|")] == [
        "Layer (type)",
        "Output Shape",
        "Param #",
    ]
    rows = [[cell.strip() for cell in line.split("|")] for line in printed[3:8]]
    assert rows == [
        ["conv2d (Conv2D)", "(None, 2, 4, 4)", "20"],
        ["re_lu (ReLU)", "(None, 2, 4, 4)", "0"],
        ["max_pool2d (MaxPool2D)", "(None, 2, 2, 2)", "0"],
        ["flatten (Flatten)", "(None, 8)", "0"],
        ["dense (Dense)", "(None, 3)", "27"],
    ]
    assert printed[-3:] == [
        "Total params: 47",
        "Trainable params: 47",
        "Non-trainable params: 0",
    ]
    lines = []
    network.summary(print_fn=lines.append)
    assert lines == printed
    assert capsys.readouterr().out == ""


def test_summary_numbers_layers_of_one_kind_and_takes_names():
    network = Sequential([Dense(2), Dense(3, name="middle"), Dense(1)], input_shape=(4,))
    lines = []
    network.summary(lines.append)
    names = [line.split(" ")[0] for line in lines[3:6]]
    assert names == ["dense", "middle", "dense_1"]


def test_repr():
    assert repr(Sequential([Flatten(), Dense(1)])) == "Sequential([Flatten(), Dense(1)])"


def test_networks_can_be_copied_and_pickled():
    network = cnn(backend="reference", optimizer="adam")
    x, y = data()
    network.fit(x, y, verbose=0)
    p = network.predict(x)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        np.testing.assert_array_equal(twin.predict(x), p)
        twin.fit(x, y, verbose=0)
        assert (twin.predict(x) != p).any()
        twin_live, layer = twin.parameters()["0.weight"], twin.layers[0]
        assert twin_live is layer.parameters["weight"]
    np.testing.assert_array_equal(network.predict(x), p)


@pytest.mark.parametrize("last", [Sigmoid, Softmax])
def test_a_last_activation_of_its_own_or_of_the_layer_is_the_same(last):
    loss = "binary_cross_entropy" if last is Sigmoid else "categorical_cross_entropy"
    name = last.__name__.lower()
    units = 1 if last is Sigmoid else 3
    x, y = data(5, (4,), classes=units + (last is Sigmoid), dtype=np.float64)
    apart = Sequential([Dense(units), last()], loss=loss, dtype="float64")
    inside = Sequential([Dense(units, activation=name)], loss=loss, dtype="float64")
    loss_apart, gradients_apart = apart.loss_and_gradients(x, y)
    loss_inside, gradients_inside = inside.loss_and_gradients(x, y)
    assert loss_apart == loss_inside
    for key in gradients_apart:
        np.testing.assert_array_equal(gradients_apart[key], gradients_inside[key])
