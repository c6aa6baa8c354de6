"""Weights in files: both formats, whole or not at all, refused with what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from fastcnn import networks
from fastcnn.training import SGD, checkpoints, load_weights, save_weights

safetensors_numpy = pytest.importorskip("safetensors.numpy")

FORMATS = ("npz", "safetensors")
each_format = pytest.mark.parametrize("suffix", FORMATS)

READ = {
    "npz": lambda path: dict(np.load(path, allow_pickle=False)),
    "safetensors": safetensors_numpy.load_file,
}
WRITE = {
    "npz": lambda path, arrays: np.savez(path, **arrays),
    "safetensors": lambda path, arrays: safetensors_numpy.save_file(arrays, path),
}


def network(**options):
    return networks.fifteen_parameter(**{"input_shape": (1, 6, 6), **options})


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    for name, array in expected.items():
        assert state[name].dtype == array.dtype
        np.testing.assert_array_equal(state[name], array, strict=True)


@pytest.fixture(params=FORMATS)
def path(request, tmp_path):
    path = tmp_path / f"w.{request.param}"
    network().save_weights(path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_format
def test_a_network_comes_back_to_the_bit(tmp_path, suffix, dtype):
    one, other = network(seed=1, dtype=dtype), network(seed=2, dtype=dtype)
    one.save_weights(tmp_path / f"w.{suffix}")
    other.load_weights(str(tmp_path / f"w.{suffix}"))
    assert_same(other.state_dict(), one.state_dict())
    assert [p.name for p in tmp_path.iterdir()] == [f"w.{suffix}"]


STATE = {
    "0.weight": np.arange(6, dtype=np.float64).reshape(2, 3),
    "file": np.array(2, np.float32),
    "none": np.zeros((0, 4), np.float32),
    "non-finite": np.array([np.nan, np.inf, -0.0]),
}


@each_format
def test_other_libraries_read_what_is_written(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    save_weights(path, STATE)
    assert_same(READ[suffix](path), STATE)
    assert_same(load_weights(path), STATE)
    save_weights(path, {})
    assert load_weights(path) == {}


@each_format
def test_what_other_libraries_write_is_read(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    state = {name: array for name, array in STATE.items() if name != "file"}
    WRITE[suffix](path, state)
    read = load_weights(path)
    assert_same(read, state)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in read.values())


def test_compressed_and_column_by_column(tmp_path):
    w = np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3))
    np.savez_compressed(tmp_path / "w.npz", w=w)
    assert_same(load_weights(tmp_path / "w.npz"), {"w": np.ascontiguousarray(w, "=f4")})


@each_format
def test_arrays_of_any_layout_are_written_in_c_order(tmp_path, suffix):
    w = np.arange(24, dtype=">f8").reshape(4, 6).T[::-1, ::2]
    save_weights(tmp_path / f"w.{suffix}", {"w": w})
    assert_same(READ[suffix](tmp_path / f"w.{suffix}"), {"w": w.astype("=f8")})


def test_the_parameters_of_a_checkpoint(tmp_path):
    trained, other = network(seed=1), network(seed=2)
    trained.compile(SGD(momentum=0.9))
    trained.train_on_batch(np.ones((2, 1, 6, 6), np.float32), [0, 1])
    checkpoints.save(tmp_path / "c.npz", trained, {})
    other.load_weights(tmp_path / "c.npz")
    assert_same(other.state_dict(), trained.state_dict())


@pytest.mark.parametrize("name", ["w.h5", "w", "w.npz.gz", "npz"])
def test_another_suffix(tmp_path, name):
    text = r"in .npz or .safetensors files, but got '.*'"
    with pytest.raises(ValueError, match=text):
        network().save_weights(tmp_path / name)
    with pytest.raises(ValueError, match=text):
        network().load_weights(tmp_path / name)
    assert not list(tmp_path.iterdir())


@each_format
def test_what_cannot_be_saved(tmp_path, suffix):
    path = tmp_path / f"w.{suffix}"
    with pytest.raises(TypeError, match=r"w must be float32 or float64, but got int64; convert"):
        save_weights(path, {"w": np.arange(3)})
    for name in ("__metadata__", "a\0b", 3):
        with pytest.raises(ValueError, match=r"needs a plain name such as '0.weight', got"):
            save_weights(path, {name: np.zeros(3)})
    with pytest.raises(FileNotFoundError):
        save_weights(tmp_path / "nowhere" / path.name, STATE)
    with pytest.raises(FileNotFoundError):
        load_weights(path)
    assert not list(tmp_path.iterdir())


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for use in (network().save_weights, network().load_weights):
        with pytest.raises(ImportError, match=r"pip install 'fastcnn\[demo\]', or use .npz"):
            use(tmp_path / "w.safetensors")
    network().save_weights(tmp_path / "w.npz")


# Whole or not at all

CHILD = """
import os, resource, signal, sys, time
import numpy as np
from fastcnn.training import save_weights

def stop(*arguments):
    print("stopped", flush=True)
    time.sleep(600)

path, place = sys.argv[1:]
if place in ("fsync", "replace"):
    setattr(os, place, stop)
else:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    if place == "killed":  # by the kernel, in the middle of a write; Python would ignore it
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
save_weights(path, {"0.weight": np.ones(100_000)})
"""


def child(path, place):
    command = [sys.executable, "-c", CHILD, str(path), place]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("place", ["fsync", "replace"])
def test_a_killed_save_leaves_the_old_file(path, place):
    before = path.read_bytes()
    with child(path, place) as process:
        try:
            assert process.stdout.readline() == "stopped\n"
        finally:
            process.kill()
    [unfinished] = [p for p in path.parent.iterdir() if p != path]
    # All that the test is about: a new file was being written when the process died.
    assert unfinished.name.startswith(f"{path.name}.")
    assert unfinished.stat().st_size > 0
    assert path.read_bytes() == before


def test_killed_in_the_middle_of_a_write(path):
    before = path.read_bytes()
    with child(path, "killed") as process:
        process.communicate(timeout=120)
    assert process.returncode < 0
    sizes = {p.stat().st_size for p in path.parent.iterdir() if p != path}
    assert sizes == {100_000}
    assert path.read_bytes() == before


def test_no_room_for_the_file(path):
    before = path.read_bytes()
    with child(path, "full") as process:
        errors = process.communicate(timeout=120)[1]
    assert process.returncode == 1
    assert "OSError: [Errno 27]" in errors
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk(path, monkeypatch):
    def no_space(file):
        raise OSError(28, "No space left on device")

    before = path.read_bytes()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        network(seed=5).save_weights(path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


# What does not fit


@pytest.mark.parametrize(
    ("change", "differences"),
    [
        (lambda s: s.pop("0.bias"), ["missing 0.bias"]),
        (lambda s: s.update(more=np.zeros(1)), ["unexpected more"]),
        (
            lambda s: s.update({"4.weight": s["4.weight"].T.copy()}),
            ["4.weight: expected shape (1, 4), but got (4, 1)"],
        ),
        (
            lambda s: s.update({"4.weight": s["4.weight"].astype(float)}),
            ["4.weight: expected type float32, but got float64"],
        ),
        (
            lambda s: s.update({"x": s.pop("0.bias"), "0.weight": np.zeros(3)}),
            ["missing 0.bias", "unexpected x", "0.weight: expected shape"],
        ),
    ],
)
def test_a_state_that_does_not_fit(path, change, differences):
    state, other = load_weights(path), network(seed=4)
    change(state)
    save_weights(path, state)
    before = other.state_dict()
    with pytest.raises(ValueError, match="the state does not fit this network: ") as caught:
        other.load_weights(path)
    assert str(path) in str(caught.value)
    for difference in differences:
        assert difference in str(caught.value)
    assert_same(other.state_dict(), before)


def test_truncated_at_any_place(path):
    content = path.read_bytes()
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"w\.(npz|safetensors): "):
            load_weights(path)
