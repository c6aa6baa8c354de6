"""Checkpoints: whole or not at all, restored to the bit, refused with what differs."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from fastcnn import networks
from fastcnn.training import SGD, Adam, checkpoints

NOTES = {"epochs": 3, "history": {"loss": [0.5, 0.25]}}


def data(dtype="float32"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((12, 1, 6, 6)).astype(dtype), rng.integers(0, 2, 12)


def trained(optimizer, dtype="float32", seed=0):
    network = networks.fifteen_parameter(seed=seed, dtype=dtype)
    network.fit(*data(dtype), epochs=2, batch_size=4, optimizer=optimizer, verbose=0)
    return network


def rewrite(path, change):
    """Save the members of an .npz again after `change(members)`, a dict of name to bytes."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "make", [lambda: SGD(0.1), lambda: SGD(0.1, momentum=0.9), lambda: Adam(0.01)]
)
def test_training_goes_on_to_the_bit(tmp_path, make, dtype):
    network = trained(make(), dtype)
    checkpoints.save(tmp_path / "c.npz", network, NOTES)
    network.fit(*data(dtype), epochs=1, seed=5, verbose=0)

    other = networks.fifteen_parameter(seed=9, dtype=dtype, input_shape=(1, 6, 6))
    other.compile(make())
    assert checkpoints.load(tmp_path / "c.npz", other) == NOTES
    other.fit(*data(dtype), epochs=1, seed=5, verbose=0)
    for name, array in network.parameters().items():
        np.testing.assert_array_equal(other.parameters()[name], array)
    assert other.optimizer.iterations == network.optimizer.iterations


def test_a_file_is_a_state_dict_for_numpy(tmp_path):
    network = trained(Adam())
    checkpoints.save(tmp_path / "c.npz", network, NOTES)
    assert checkpoints.load_notes(tmp_path / "c.npz") == NOTES
    with np.load(tmp_path / "c.npz", allow_pickle=False) as file:
        state = {name: file[name] for name in network.parameters()}
    other = networks.fifteen_parameter(seed=3, input_shape=(1, 6, 6))
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.predict(data()[0]), network.predict(data()[0]))


def test_a_save_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    network = trained(SGD())
    path = tmp_path / "c.npz"
    checkpoints.save(path, network, NOTES)
    before = path.read_bytes()

    def no_space(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(path, network, {})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["c.npz"]


def fresh(**options):
    network = networks.fifteen_parameter(input_shape=(1, 6, 6), **options)
    network.compile(SGD(momentum=0.9))
    return network


@pytest.fixture
def path(tmp_path):
    checkpoints.save(tmp_path / "c.npz", trained(SGD(momentum=0.9)), NOTES)
    return tmp_path / "c.npz"


@pytest.mark.parametrize(
    ("network", "text"),
    [
        (lambda: networks.two_block(input_shape=(1, 8, 8)), "does not fit this network: missing 2"),
        (
            lambda: fresh(dtype="float64"),
            r"0.bias: float32 of shape \(1,\), expected float64 .*; 0.weight: ",
        ),
        (
            lambda: networks.fifteen_parameter(input_shape=(1, 8, 8)),
            r"4.weight: float32 of shape \(1, 4\), expected float32 of shape \(1, 9\)",
        ),
    ],
)
def test_another_network_is_refused_with_what_differs(path, network, text):
    network = network()
    network.compile(SGD(momentum=0.9))
    before = network.state_dict()
    with pytest.raises(ValueError, match=text):
        checkpoints.load(path, network)
    for name, array in network.parameters().items():
        np.testing.assert_array_equal(array, before[name])


def test_another_optimizer_is_refused(path):
    network = fresh()
    network.compile(Adam())
    with pytest.raises(ValueError, match="saved with the optimizer SGD, but the network has Adam"):
        checkpoints.load(path, network)


def test_truncated_at_any_place_is_refused(path):
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"c\.npz"):
            checkpoints.load(path, fresh())


def lie_about_shape(members):
    members["4.weight.npy"] = members["4.weight.npy"].replace(b"(1, 4), ", b"(9**9,),", 1)


def short_data(members):
    members["4.weight.npy"] = members["4.weight.npy"][:-4]


def objects(members):
    members["4.weight.npy"] = members["4.weight.npy"].replace(b"'<f4'", b"'|O' ", 1)


def no_notes(members):
    del members["checkpoint.npy"]


def strange_notes(members):
    members["checkpoint.npy"] = members["checkpoint.npy"].replace(
        b"n\0\0\0o\0\0\0", b"o\0\0\0n\0\0\0"
    )


def huge_notes(members):
    members["checkpoint.npy"] += bytes(2 << 20)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lie_about_shape, "does not fit this network: 4.weight: "),
        (short_data, r"network: 4.weight: shape: \(1, 4\) of float32 is 16 bytes, but 12"),
        (objects, "network: 4.weight: descr: '.O' is not float32 or float64"),
        (no_notes, "c.npz: is not a checkpoint: it has no member 'checkpoint'"),
        (strange_notes, "c.npz: checkpoint: not the notes of a checkpoint"),
        (huge_notes, "c.npz: checkpoint: more than 1048576 bytes"),
        (lambda members: members.update({"more.npy": b""}), "unexpected more"),
        (lambda members: members.pop("0.bias.npy"), "missing 0.bias"),
    ],
)
def test_a_file_that_lies_is_refused_by_name(path, change, text):
    rewrite(path, change)
    with pytest.raises(ValueError, match=text):
        checkpoints.load(path, fresh())


def test_something_else_is_refused(tmp_path):
    (tmp_path / "c.npz").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"c\.npz: is not an \.npz file: "):
        checkpoints.load_notes(tmp_path / "c.npz")
    with pytest.raises(FileNotFoundError):
        checkpoints.load_notes(tmp_path / "nowhere.npz")
