"""The lectures' networks: layers, counts, sizes, losses, and the same start everywhere."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from fastcnn import networks
from fastcnn.training import Adam

# Shape of one image and number of parameters at the lecture's size, and the loss.
FACTS = {
    "fifteen_parameter": ((1, 6, 6), 15, "binary_cross_entropy"),
    "small_ann": ((2,), 8, "binary_cross_entropy"),
    "multichannel": ((3, 8, 8), 4 * 28 + 36 * 32 + 32 + 330, "categorical_cross_entropy"),
    "sigmoid_cnn": ((1, 8, 8), 9 + 36 + 1, "half_squared_error"),
    "two_block": ((1, 28, 28), 10 + 10 + 49 + 1, "binary_cross_entropy"),
    "dense_network": ((1, 28, 28), 784 * 16 + 16 + 16 + 1, "binary_cross_entropy"),
    "keras_counts": ((1, 28, 28), 320 + 18496 + 9216 * 10 + 10, "categorical_cross_entropy"),
}
EVERY = pytest.mark.parametrize("name", FACTS)


def test_every_network_of_the_contract_is_there():
    assert sorted(networks.__all__) == sorted(FACTS)


@EVERY
def test_sizes_and_losses(name):
    shape, count, loss = FACTS[name]
    network = getattr(networks, name)()
    assert not network.built
    assert network.count_params() == count
    assert network.input_shape == (None, *shape)
    assert network.loss == loss
    assert network.name == name


@EVERY
@pytest.mark.parametrize("ask", ["state_dict", "gradients", "count_params", "parameters"])
def test_asking_for_parameters_builds_the_lecture_s_size(name, ask):
    network = getattr(networks, name)()
    getattr(network, ask)()
    assert network.input_shape == (None, *FACTS[name][0])


@EVERY
def test_signature_ends_alike(name):
    parameters = inspect.signature(getattr(networks, name)).parameters
    last = list(parameters.values())[-4:]
    assert [(p.name, p.default) for p in last] == [
        ("input_shape", None),
        ("seed", 0),
        ("dtype", "float32"),
        ("backend", "auto"),
    ]
    assert all(p.kind is p.KEYWORD_ONLY for p in last)


@EVERY
def test_start_depends_on_the_seed_alone(name):
    make = getattr(networks, name)
    state = make(seed=3).state_dict()
    for other in (make(seed=3, backend="reference"), make(seed=3, dtype="float64")):
        for key, array in other.state_dict().items():
            np.testing.assert_array_equal(array.astype(np.float32), state[key])
    changed = make(seed=4).state_dict()
    assert any((changed[key] != state[key]).any() for key in state)


def test_keys_follow_the_lectures_steps():
    assert list(networks.fifteen_parameter().state_dict()) == [
        "0.weight",
        "0.bias",
        "4.weight",
        "4.bias",
    ]
    assert list(networks.small_ann().state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert list(networks.sigmoid_cnn().state_dict()) == ["0.weight", "3.weight", "3.bias"]
    shapes = {name: p.shape for name, p in networks.two_block().state_dict().items()}
    assert shapes == {
        "0.weight": (1, 1, 3, 3),
        "0.bias": (1,),
        "2.weight": (1, 1, 3, 3),
        "2.bias": (1,),
        "5.weight": (1, 49),
        "5.bias": (1,),
    }


def test_small_ann_has_one_bias_per_layer():
    shapes = [array.shape for array in networks.small_ann().state_dict().values()]
    assert shapes == [(2, 2), (1,), (1, 2), (1,)]


def test_counts_of_document_004():
    network = networks.keras_counts()
    network.build((None, 1, 28, 28))
    counts = [layer.count_params() for layer in network.layers]
    assert counts[:2] == [320, 18496]


def test_arguments():
    assert networks.two_block(filters=3).parameters()["2.weight"].shape == (3, 3, 3, 3)
    wide = networks.multichannel(8, hidden=5, classes=3, input_shape=(2, 10, 10))
    assert wide.predict(np.zeros((1, 2, 10, 10), np.float32)).shape == (1, 3)
    assert wide.parameters()["0.weight"].shape == (8, 2, 3, 3)
    small = networks.keras_counts(classes=2, input_shape=(3, 6, 6))
    assert small.predict(np.zeros((1, 3, 6, 6), np.float32)).shape == (1, 2)
    assert networks.sigmoid_cnn(2, kernel_size=5).parameters()["0.weight"].shape == (2, 1, 5, 5)
    assert networks.dense_network(hidden=4, input_shape=(1, 3, 3)).count_params() == 45


def test_the_images_own_size_comes_before_the_lecture_s():
    network = networks.two_block(backend="reference")
    x = np.zeros((4, 1, 8, 8), np.float32)
    network.fit(x, [0, 1, 0, 1], verbose=0)
    assert network.input_shape == (None, 1, 8, 8)
    with pytest.raises(ValueError, match=r"pass input_shape=\(1, 12, 12\)"):
        network.predict(np.zeros((1, 1, 12, 12), np.float32))
    with pytest.raises(ValueError, match=r"pass x\[None\]"):
        network.predict(x[0])
    with pytest.raises(ValueError, match=r"pass x\[None\]"):
        networks.dense_network().predict(x[0])


def test_two_block_is_linear_between_its_poolings():
    """No activation is written behind the convolutions: doubled images and biases double z."""
    network = networks.two_block(input_shape=(1, 8, 8), dtype="float64", backend="reference")
    x = np.random.default_rng(0).standard_normal((3, 1, 8, 8))

    def logits(x):
        p = network.predict(x)
        return np.log(p / (1 - p))

    np.testing.assert_allclose(logits(2 * x), 2 * logits(x), rtol=1e-9)


@pytest.mark.parametrize("name", ["fifteen_parameter", "two_block", "multichannel", "sigmoid_cnn"])
def test_backends_train_alike(name):
    shape, _, _ = FACTS[name]
    shape = (1, 8, 8) if name == "two_block" else shape
    rng = np.random.default_rng(1)
    x, y = rng.random((12, *shape)), rng.integers(0, 2, 12)
    losses = []
    for backend in ("reference", "auto"):
        network = getattr(networks, name)(dtype="float64", backend=backend)
        run = network.fit(x, y, epochs=3, batch_size=5, optimizer=Adam(0.02), verbose=0)
        losses.append(run.history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-10)
    assert losses[0][-1] < losses[0][0]
