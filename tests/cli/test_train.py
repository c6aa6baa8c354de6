"""`fastcnn train`: learns, says so, goes on where it stopped, refuses what cannot be learned."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastcnn import cli

TRAIN = ["train", "two_block", "--data", "digits:4,9"]


def last_figures(text):
    line = next(line for line in reversed(text.splitlines()) if " epochs in " in line)
    words = line.split(": ", 1)[1].split()
    return dict(zip(words[::2], map(float, words[1::2]), strict=True))


def state(path):
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "checkpoint"}


def test_it_learns_and_says_so(capsys, tmp_path):
    plot = tmp_path / "curves.png"
    assert cli.main([*TRAIN, "--epochs", "12", "--plot", str(plot)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "two_block, 25 parameters, on digits:4,9: 271 images to train on, 90 held"
    )
    assert "training: 100 %  epoch 12/12  loss" in err
    figures = last_figures(out)
    assert figures["loss"] < 0.1
    assert figures["val_accuracy"] > 0.9
    assert f"plot: {plot}" in out
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_resumed_training_ends_at_the_same_bits(capsys, tmp_path, optimizer):
    whole, half = tmp_path / "whole.npz", tmp_path / "half.npz"
    common = [*TRAIN, "--optimizer", optimizer, "--rate", "0.02", "--seed", "3"]
    assert cli.main([*common, "--epochs", "4", "--save", str(whole)]) == 0
    assert cli.main([*common, "--epochs", "2", "--save", str(half)]) == 0
    resume = ["train", "--resume", str(half), "--epochs", "4", "--save", str(half)]
    assert cli.main(resume) == 0
    assert "2 epochs in" in capsys.readouterr().out
    first, second = state(whole), state(half)
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)
    assert cli.main(resume) == 0
    assert "nothing to train: 4 of 4 epochs are done" in capsys.readouterr().out


def test_backends_agree(capsys):
    figures = []
    for backend in ("cpu", "reference"):
        argv = [*TRAIN, "--epochs", "2", "--dtype", "float64", "--backend", backend]
        assert cli.main(argv) == 0
        figures.append(last_figures(capsys.readouterr().out))
    assert figures[0] == figures[1]


@pytest.mark.parametrize(
    ("network", "data"),
    [
        ("fifteen_parameter", "faces:6"),
        ("small_ann", "faces"),
        ("multichannel", "digits"),
        ("sigmoid_cnn", "digits:0,1"),
        ("dense_network", "digits:0,1"),
        ("keras_counts", "digits:0,1"),
    ],
)
def test_every_network(capsys, network, data):
    argv = ["train", network, "--data", data, "--epochs", "1", "--batch-size", "64"]
    assert cli.main([*argv, "--held-out", "0.5"]) == 0
    assert np.isfinite(last_figures(capsys.readouterr().out)["val_loss"])


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def make_mnist(folder, x, y):
    write_idx(folder / "train-images-idx3-ubyte.gz", x * 255)
    write_idx(folder / "train-labels-idx1-ubyte.gz", y)
    return folder


def make_npz(folder, x, y):
    np.savez(folder / "some.npz", x=x[:, None].astype(np.float32), y=y)
    return folder / "some.npz"


def make_cifar(folder, x, y):
    pixels = np.zeros((len(x), 3, 32, 32), np.uint8)
    pixels[:, :, :8, :8] = x[:, None] * 255
    for number in range(1, 6):
        records = np.concatenate([y[:, None].astype(np.uint8), pixels.reshape(len(x), -1)], 1)
        (folder / f"data_batch_{number}.bin").write_bytes(records.tobytes())
    return folder


def make_pictures(folder, x, y):
    image = pytest.importorskip("PIL.Image")
    for number, (picture, label) in enumerate(zip(x, y, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        path = folder / str(label) / f"{number}.png"
        image.fromarray((picture * 255).astype(np.uint8)).save(path)
    return folder


@pytest.mark.parametrize("make", [make_mnist, make_npz, make_cifar, make_pictures])
def test_files_and_folders(capsys, tmp_path, make):
    rng = np.random.default_rng(0)
    data = make(tmp_path, rng.random((20, 8, 8)), np.arange(20) % 2)
    argv = ["train", "two_block", "--data", str(data), "--epochs", "1", "--held-out", "0"]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "0 held out" in out
    assert "val_loss" not in out


@pytest.mark.parametrize(
    ("argv", "advice"),
    [
        (["train"], "say NETWORK and --data, or --resume FILE"),
        (["train", "twoblock"], "unknown network 'twoblock': did you mean 'two_block'?"),
        (["train", "two_block", "--data", "digit"], "did you mean 'digits'?"),
        (["train", "two_block", "--data", "digits"], "the data has 10 classes; take two"),
        (["train", "two_block", "--data", "digits:3,3"], "two different digits"),
        (["train", "two_block", "--data", "faces:7"], "say faces (25x25) or faces:6"),
        (["train", "small_ann", "--data", "{tmp}/rgb.npz"], "two halves of grey images"),
        (["train", "two_block", "--data", "{tmp}/bad.npz"], "--data "),
        (["train", "two_block", "--data", "{tmp}/notes.txt"], "do not know what kind of data set"),
        ([*TRAIN, "--rate", "0"], "must be a number above 0"),
        ([*TRAIN, "--held-out", "1"], "must be from 0 to below 1"),
        ([*TRAIN, "--backend", "gpu"], "invalid choice: 'gpu'"),
        ([*TRAIN, "--save", "{tmp}/no/where.npz"], "there is no folder"),
        (["train", "--resume", "{tmp}/nothing.npz"], "there is no file"),
        (["train", "--resume", "{tmp}/bad.npz"], "is not an .npz file"),
        (["train", "--resume", "{tmp}/rgb.npz"], "is not a checkpoint"),
    ],
)
def test_what_cannot_be_done_exits_with_2_and_advice(capsys, tmp_path, argv, advice):
    (tmp_path / "bad.npz").write_bytes(b"PK bad")
    (tmp_path / "notes.txt").write_text("hello")
    np.savez(tmp_path / "rgb.npz", x=np.zeros((4, 3, 8, 8), np.float32), y=np.array([0, 1, 0, 1]))
    assert cli.main([word.replace("{tmp}", str(tmp_path)) for word in argv]) == 2
    out, err = capsys.readouterr()
    assert advice in err
    assert "(see fastcnn train --help)" in err
    assert out == ""


def test_a_checkpoint_is_not_resumed_as_something_else(capsys, tmp_path):
    path = str(tmp_path / "c.npz")
    assert cli.main([*TRAIN, "--epochs", "1", "--save", path]) == 0
    capsys.readouterr()
    assert cli.main(["train", "dense_network", "--resume", path]) == 2
    assert "was trained with NETWORK two_block, not dense_network" in capsys.readouterr().err
    assert cli.main(["train", "--resume", path, "--batch-size", "7"]) == 2
    assert "was trained with --batch-size 16, not 7" in capsys.readouterr().err


def test_ctrl_c_keeps_the_finished_epochs(tmp_path):
    path = tmp_path / "c.npz"
    process = subprocess.Popen(
        [sys.executable, "-m", "fastcnn", *TRAIN, "--epochs", "100000", "--save", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for _ in range(2):
        assert "epoch" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert f"epochs saved: fastcnn train --resume {path} goes on" in out
    assert len(state(path)) > 0
