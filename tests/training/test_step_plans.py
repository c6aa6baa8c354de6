"""Steps that are replayed give the bits of steps that are computed one call after the other."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastcnn
from fastcnn import networks
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from fastcnn.training import SGD, Adam, Sequential
from fastcnn.training import step_plans as module

SHAPES = {
    "fifteen_parameter": (1, 6, 6),
    "small_ann": (2,),
    "multichannel": (3, 8, 8),
    "sigmoid_cnn": (1, 8, 8),
    "two_block": (1, 12, 12),
    "dense_network": (1, 8, 8),
    "keras_counts": (1, 10, 10),
}


@pytest.fixture(autouse=True)
def plan_at_once(monkeypatch):
    monkeypatch.setattr(module, "_WARM_UP", 2)


@pytest.fixture
def plain(monkeypatch):
    """A network whose steps are never planned."""

    def make(network):
        network = copy.deepcopy(network)
        monkeypatch.setattr(network._plans, "find", lambda *_: None)
        return network

    return make


def batches(network, shape, n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    outputs = network.predict(np.zeros((n, *shape), dtype)).shape
    for _ in range(7):
        x = rng.standard_normal((n, *shape)).astype(dtype)
        if network.loss == "categorical_cross_entropy":
            yield x, rng.integers(0, outputs[1], n)
        else:
            yield x, rng.integers(0, 2, outputs).astype(dtype)


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


def planned(network):
    return list(network._plans._steps.kept.values())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("name", SHAPES)
def test_every_network_of_the_lectures_is_replayed_to_the_bit(name, n, dtype, plain):
    network = getattr(networks, name)(input_shape=SHAPES[name], dtype=dtype)
    network.compile(SGD(0.1, momentum=0.5))
    other = plain(network)
    with fastcnn.precision("ieee"):  # Winograd's results are looked at, which no tape repeats
        for x, y in batches(network, SHAPES[name], n, dtype):
            assert network.train_on_batch(x, y) == other.train_on_batch(x, y)
            assert_same(network.parameters(), other.parameters())
            assert_same(network.gradients(), other.gradients())
    assert planned(network)


@pytest.mark.parametrize("optimizer", [SGD(0.1), SGD(0.1, 0.9, True), Adam(0.01)])
def test_optimizers_and_changes_of_their_rates(optimizer, plain):
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    network.compile(optimizer)
    other = plain(network)
    for number, (x, y) in enumerate(batches(network, (1, 6, 6), 3, np.float32)):
        for each in (network, other):
            each.optimizer.learning_rate = 0.1 / (1 + number)
            each.train_on_batch(x, y)
        assert_same(network.parameters(), other.parameters())
    assert network.optimizer.iterations == other.optimizer.iterations == 7


def test_an_optimizer_of_one_s_own_is_asked_every_time():
    class Frozen(SGD):
        def _update(self, ops, w, dw, *memory):
            self.seen = getattr(self, "seen", 0) + 1

    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    network.compile(Frozen(0.1))
    for x, y in batches(network, (1, 6, 6), 3, np.float32):
        network.train_on_batch(x, y)
    assert network.optimizer.seen == 7 * len(network.parameters())


def test_gradients_of_earlier_steps_stay():
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    found = [network.loss_and_gradients(x, y)[1] for x, y in batches(network, (1, 6, 6), 3, "f4")]
    assert planned(network)
    distinct = {gradients["0.weight"].tobytes() for gradients in found}
    assert len(distinct) == len(found)


def test_changed_parameters_and_settings_take_effect(plain):
    layers = [Conv2D(2, 3, use_bias=False), ReLU(), MaxPool2D(), Flatten(), Dense(1)]
    network = Sequential(layers, loss="half_squared_error", input_shape=(1, 6, 6))
    other = plain(network)
    for number, (x, y) in enumerate(batches(network, (1, 6, 6), 2, "f4")):
        for each in (network, other):
            each.layers[0].parameters["weight"] *= 1.5
            if number == 4:
                each.load_state_dict({k: v - 0.1 for k, v in each.state_dict().items()})
            if number == 5:
                each.layers[1].at_zero = 0.25
        x[:, :, 3:] = 0  # where the ReLU's derivative at 0 shows
        loss, gradients = network.loss_and_gradients(x, y)
        expected, others = other.loss_and_gradients(x, y)
        assert loss == expected
        assert_same(gradients, others)
    assert planned(network)


def test_what_layers_keep_is_of_the_latest_step():
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    pool = next(layer for layer in network.layers if isinstance(layer, MaxPool2D))
    masks = []
    for x, y in batches(network, (1, 6, 6), 1, "f4"):
        network.loss_and_gradients(x, y)
        planned_mask = pool.mask_to_input().copy()
        network.forward(x)
        np.testing.assert_array_equal(planned_mask, pool.mask_to_input())
        masks.append(planned_mask.tobytes())
    assert planned(network)
    assert len(set(masks)) > 1


@pytest.mark.parametrize(
    ("y", "message"), [([0, 3, 1], "labels must be in 0..2"), ([0, -1, 1], "labels must be in")]
)
def test_errors_are_those_of_the_plain_step(y, message):
    network = Sequential(
        [Dense(3, activation="softmax")], loss="categorical_cross_entropy", input_shape=(2,)
    )
    x = np.ones((3, 2), np.float32)
    for _ in range(4):
        network.loss_and_gradients(x, np.array([0, 1, 2]))
    assert planned(network)
    with pytest.raises(ValueError, match=message):
        network.loss_and_gradients(x, np.array(y))
    with pytest.raises(ValueError, match="13"):
        network.loss_and_gradients(np.ones((3, 13), np.float32), np.array([0, 1, 2]))


@pytest.mark.parametrize("label", [-1, 3])
def test_a_wrong_label_in_the_step_that_would_be_recorded_is_said(label):
    network = Sequential(
        [Dense(3, activation="softmax")], loss="categorical_cross_entropy", input_shape=(2,)
    )
    x = np.ones((3, 2), np.float32)
    for _ in range(module._WARM_UP - 1):
        network.loss_and_gradients(x, np.array([0, 1, 2]))
    with pytest.raises(ValueError, match=f"labels must be in 0..2, but got {label}"):
        network.loss_and_gradients(x, np.array([0, label, 2]))


class Doubled(Dense):
    """A layer of somebody's own, whose arithmetic no tape sees."""

    def _forward(self, x, training):
        y, kept = super()._forward(x, training)
        return y * 2, kept


def numpy_inside(monkeypatch):
    """The same arithmetic hidden in a layer of fastcnn's: only the NaN can find it."""
    forward = Dense._forward
    monkeypatch.setattr(
        Dense, "_forward", lambda self, x, training: (forward(self, x, training)[0] * 2, x)
    )
    return Dense


@pytest.mark.parametrize("kind", [lambda _: Doubled, numpy_inside])
def test_work_that_launches_nothing_is_never_replayed(kind, monkeypatch):
    layer = kind(monkeypatch)(1)
    network = Sequential([Flatten(), layer], loss="half_squared_error", input_shape=(1, 2, 2))
    for x, y in batches(network, (1, 2, 2), 2, "f4"):
        z = x.reshape(2, 4) @ layer.parameters["weight"].T * 2
        loss, _ = network.loss_and_gradients(x, y)
        assert loss == pytest.approx(((z - y) ** 2).sum() / 4, rel=1e-5)
    assert list(network._plans._steps.seen.values()) == [None]  # cannot be repeated
    assert not planned(network)


def test_a_table_that_a_tape_reads_is_left_as_it_was(monkeypatch):
    """What the check fills with NaN is put back where it shows that the tape is no use."""
    shift = np.ones((2, 1), np.float32)
    forward = Dense._forward

    def shifted(self, x, training):
        return fastcnn.functional.relu(shift), forward(self, x, training)[1]

    monkeypatch.setattr(Dense, "_forward", shifted)
    network = Sequential([Flatten(), Dense(1)], loss="half_squared_error", input_shape=(1, 2, 2))
    for x, y in batches(network, (1, 2, 2), 2, "f4"):
        network.loss_and_gradients(x, y)
    np.testing.assert_array_equal(shift, np.ones((2, 1)))
    assert not planned(network)


def test_large_networks_and_the_reference_are_not_planned():
    layers = [Conv2D(8, 3, padding="same"), Flatten(), Dense(1)]
    large = Sequential(layers, loss="half_squared_error", input_shape=(1, 64, 64))
    x, y = np.ones((40, 1, 64, 64), np.float32), np.ones((40, 1), np.float32)
    slow = networks.fifteen_parameter(input_shape=(1, 6, 6), backend="reference")
    for _ in range(4):
        large.loss_and_gradients(x, y)
        slow.loss_and_gradients(x[:2, :, :6, :6], y[:2])
    assert not planned(large)
    assert not planned(slow)


def test_copies_and_pickles_plan_for_themselves():
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    (x, y), *_ = batches(network, (1, 6, 6), 3, "f4")
    for _ in range(4):
        network.train_on_batch(x, y)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert not planned(other)
        before = network.state_dict()
        for _ in range(4):
            other.train_on_batch(x, y)
        assert planned(other)
        assert_same(network.state_dict(), before)


def test_a_bounded_number_of_shapes_is_kept():
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    for n in range(1, 15):
        for x, y in batches(network, (1, 6, 6), n, "f4"):
            network.loss_and_gradients(x, y)
    assert 0 < len(planned(network)) <= module._KEPT


def test_an_algorithm_that_looks_at_the_numbers_is_not_replayed(plain):
    """Winograd's leaves batches with huge or infinite numbers to another algorithm."""
    layers = [Conv2D(64, 3, padding="same"), Flatten(), Dense(1)]
    network = Sequential(layers, loss="half_squared_error", input_shape=(64, 8, 8))
    other = plain(network)
    for number, (x, y) in enumerate(batches(network, (64, 8, 8), 1, "f4")):
        if number == 4:
            x[0, 3, 2, 2] = np.inf
        loss, gradients = network.loss_and_gradients(x, y)
        expected, others = other.loss_and_gradients(x, y)
        np.testing.assert_equal(loss, expected)
        assert_same(gradients, others)


def test_a_layer_that_somebody_watches_is_called():
    network = networks.fifteen_parameter(input_shape=(1, 6, 6))
    (x, y), *_ = batches(network, (1, 6, 6), 3, "f4")
    for _ in range(4):
        network.loss_and_gradients(x, y)
    assert planned(network)
    layer, seen = network.layers[0], []
    forward = layer.forward
    vars(layer)["forward"] = lambda x, training=True: seen.append(x) or forward(x, training)
    network.loss_and_gradients(x, y)
    assert len(seen) == 1
    del vars(layer)["forward"]
    network.loss_and_gradients(x, y)
    assert len(seen) == 1
