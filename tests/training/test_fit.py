"""fit: the loop, its history, its progress, interruption; and the same loop written by hand."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid
from fastcnn.training import (
    SGD,
    Adam,
    Callback,
    LearningRateScheduler,
    ProgressBar,
    ProgressLines,
    Sequential,
)
from fastcnn.training.progress import progress_of


def layers():
    return [Conv2D(2, 3), ReLU(), MaxPool2D(), Flatten(), Dense(1), Sigmoid()]


def cnn(**options):
    options = {"loss": "binary_cross_entropy", "input_shape": (1, 6, 6), **options}
    return Sequential(layers(), **options)


def data(n=20, dtype=np.float32):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 2, n)
    # bright left halves are 1, bright right halves 0
    x = rng.random((n, 1, 6, 6)) * 0.2
    x[y == 1, :, :, :3] += 1
    x[y == 0, :, :, 3:] += 1
    return x.astype(dtype), y


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_a_loop_written_by_hand_is_the_same(backend):
    x, y = data(dtype=np.float64)
    network = cnn(dtype="float64", backend=backend, seed=1)
    by_hand = layers()
    shape = (None, 1, 6, 6)
    for number, layer in enumerate(by_hand):
        layer.configure(dtype="float64", backend=backend)
        layer.build(shape)
        shape = layer.output_shape(shape)
        for name in layer.parameters:
            layer.parameters[name] = network.parameters()[f"{number}.{name}"]
    ops = reference if backend == "reference" else functional
    target = y[:, np.newaxis].astype(float)
    for _ in range(3):
        expected, _ = network.loss_and_gradients(x, y)
        network.optimizer = SGD(0.3)
        network.train_on_batch(x, y)

        a = x
        for layer in by_hand:
            a = layer.forward(a)
        assert ops.binary_cross_entropy(a, target) == pytest.approx(expected, rel=1e-12)
        da = ops.binary_cross_entropy_grad(a, target)
        for layer in reversed(by_hand):
            da = layer.backward(da)
        for number, layer in enumerate(by_hand):
            for name, w in layer.parameters.items():
                ops.sgd_step(w, layer.gradients[name], 0.3)
                np.testing.assert_allclose(
                    w, network.parameters()[f"{number}.{name}"], rtol=1e-12, atol=1e-15
                )


@pytest.mark.parametrize("optimizer", [lambda: SGD(0.5), lambda: SGD(0.1, 0.9), lambda: Adam(0.05)])
def test_backends_train_alike(optimizer):
    x, y = data(dtype=np.float64)
    histories, weights = [], []
    for backend in ("reference", "auto"):
        network = cnn(dtype="float64", backend=backend, seed=2)
        run = network.fit(x, y, epochs=4, batch_size=6, optimizer=optimizer(), verbose=0)
        histories.append(run.history["loss"])
        weights.append(network.state_dict())
    np.testing.assert_allclose(histories[1], histories[0], rtol=1e-10)
    for name, array in weights[0].items():
        np.testing.assert_allclose(weights[1][name], array, rtol=1e-10, atol=1e-12)


def test_history():
    x, y = data()
    network = cnn(backend="reference")
    run = network.fit(x, y, epochs=25, batch_size=7, validation_data=(x, y), optimizer=Adam(0.05))
    assert run is network.history
    assert run.epoch == list(range(25))
    assert {name: len(values) for name, values in run.history.items()} == {
        "loss": 25,
        "accuracy": 25,
        "val_loss": 25,
        "val_accuracy": 25,
    }
    assert run.history["val_accuracy"][-1] == 1
    measured = network.evaluate(x, y)
    assert measured["loss"] == pytest.approx(run.history["val_loss"][-1], rel=1e-6)
    assert network.evaluate(x, y, batch_size=3)["loss"] == pytest.approx(measured["loss"], rel=1e-6)


def test_the_epoch_s_loss_is_the_mean_over_its_images():
    x, y = data(5)
    network = cnn(backend="reference", optimizer=SGD(0.0))
    run = network.fit(x, y, batch_size=4, verbose=0)  # a batch of 4 and one of 1
    assert run.history["loss"][0] == pytest.approx(network.evaluate(x, y)["loss"], rel=1e-6)


def test_order_follows_the_seed():
    x, y = data()

    def weights(**options):
        network = cnn(backend="reference")
        network.fit(x, y, epochs=2, batch_size=4, optimizer=SGD(0.5), verbose=0, **options)
        return network.state_dict()["0.weight"]

    np.testing.assert_array_equal(weights(seed=1), weights(seed=1))
    assert (weights(seed=1) != weights(seed=2)).any()
    assert (weights(seed=1) != weights(shuffle=False)).any()
    np.testing.assert_array_equal(weights(seed=1, shuffle=False), weights(shuffle=False))


def test_all_at_once():
    x, y = data()
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, batch, logs):
            seen.append(batch)

    cnn(backend="reference").fit(x, y, epochs=2, batch_size=None, callbacks=[Watch()], verbose=0)
    assert seen == [0, 0]


def test_callbacks_are_called_in_order_and_can_stop():
    x, y = data(6)
    calls = []

    class Watch(Callback):
        def on_train_begin(self):
            calls.append(("begin", self.params["steps"], self.params["epochs"]))

        def on_epoch_begin(self, epoch):
            calls.append(("epoch", epoch))

        def on_train_batch_end(self, batch, logs):
            calls.append(("batch", batch, sorted(logs)))

        def on_epoch_end(self, epoch, logs):
            calls.append(("end of epoch", epoch, sorted(logs)))
            self.model.stop_training = epoch == 1

        def on_train_end(self):
            calls.append(("end",))

    both = ["accuracy", "loss"]
    network = cnn(backend="reference")
    run = network.fit(x, y, epochs=9, batch_size=4, callbacks=[Watch()], verbose=0)
    one = [("batch", 0, both), ("batch", 1, both)]
    assert calls == [
        ("begin", 2, 9),
        ("epoch", 0),
        *one,
        ("end of epoch", 0, both),
        ("epoch", 1),
        *one,
        ("end of epoch", 1, both),
        ("end",),
    ]
    assert run.epoch == [0, 1]
    assert network.fit(x, y, verbose=0).epoch == [0]  # and training can go on


def test_a_schedule_sets_the_rate_before_each_epoch():
    x, y = data(6)
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, epoch, logs):
            seen.append(self.model.optimizer.learning_rate)

    halves = LearningRateScheduler(lambda epoch, rate: rate / 2 if epoch else rate)
    network = cnn(backend="reference")
    network.fit(x, y, epochs=3, optimizer=SGD(0.8), callbacks=[halves, Watch()], verbose=0)
    assert seen == [0.8, 0.4, 0.2]


def test_an_interrupt_leaves_a_usable_network():
    x, y = data()
    ended = []

    class Interrupt(Callback):
        def on_train_batch_end(self, batch, logs):
            if self.model.history.epoch == [0, 1] and batch == 1:
                raise KeyboardInterrupt

        def on_train_end(self):
            ended.append(True)

    network = cnn(backend="reference", optimizer=Adam(0.05))
    with pytest.raises(KeyboardInterrupt):
        network.fit(x, y, epochs=9, batch_size=5, callbacks=[Interrupt()], verbose=0)
    assert ended == [True]
    assert network.history.epoch == [0, 1]
    assert len(network.history.history["loss"]) == 2
    assert np.isfinite(network.predict(x)).all()
    before = network.evaluate(x, y)["loss"]
    network.fit(x, y, epochs=20, batch_size=5, verbose=0)
    assert network.evaluate(x, y)["loss"] < before


def test_lines_elsewhere_than_on_a_terminal(capsys):
    x, y = data()
    network = cnn(backend="reference")
    network.fit(x, y, epochs=2, validation_data=(x, y))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("Epoch 2/2 - loss: 0.")
    for name in ("accuracy", "val_loss", "val_accuracy"):
        assert f" - {name}: " in lines[1]
    network.fit(x, y, verbose=0)
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal_with_rich(monkeypatch):
    def kinds(verbose):
        return [type(watcher) for watcher in progress_of(verbose)]

    assert kinds("auto") == kinds(1) == kinds(2) == [ProgressLines]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("fastcnn.training.progress.find_spec", lambda name: object())
    assert kinds("auto") == kinds(1) == [ProgressBar]
    assert kinds(2) == [ProgressLines]
    assert kinds(0) == []
    monkeypatch.setattr("fastcnn.training.progress.find_spec", lambda name: None)
    assert kinds("auto") == [ProgressLines]
    with pytest.raises(ValueError, match="verbose must be"):
        progress_of("yes")


def test_the_bar_shows_the_latest_figures(capsys):
    pytest.importorskip("rich")
    x, y = data()
    cnn(backend="reference").fit(x, y, epochs=3, verbose=0, callbacks=[ProgressBar()])
    shown = capsys.readouterr().out
    assert "Epoch 3/3" in shown
    assert "loss: 0." in shown


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": np.zeros((0, 1, 6, 6), np.float32), "y": []}, ValueError, "holds no images"),
        ({"y": [0, 1]}, ValueError, "equally long"),
        ({"epochs": -1}, ValueError, "epochs"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"validation_data": (np.zeros((1, 1, 6, 6)), [0])}, TypeError, "astype"),
        ({"optimizer": "rmsprop"}, ValueError, "'sgd', 'adam'"),
        ({"verbose": 7}, ValueError, "verbose"),
    ],
)
def test_arguments_are_checked_before_the_first_step(arguments, error, message):
    x, y = data()
    network = cnn(backend="reference")
    before = network.state_dict()
    with pytest.raises(error, match=message):
        network.fit(**{"x": x, "y": y, "verbose": 0, **arguments})
    for name, array in network.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
