"""The exact text of every error of the data sets, the verification tools and the command line.

Errors about what a file holds are tested with the readers, in tests/datasets; these are mistakes
of the one who calls.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import cli, datasets
from fastcnn.layers import Dense
from fastcnn.verification import gradcheck
from fastcnn.verification.compare import NothingToCompare, compare
from fastcnn.verification.problems import ProblemError, find, parse, suite
from tests.test_errors import Mistake, zeros

X = np.linspace(0, 1, 6)
LABELS = np.array([0, 1, 0, 1])

DATA = {
    "type": Mistake(
        lambda: datasets.digits(dtype="float16"),
        ValueError,
        "dtype must be 'float32' or 'float64', got 'float16'",
    ),
    "no type": Mistake(
        lambda: datasets.npz("x.npz", dtype=None),
        ValueError,
        "dtype must be 'float32' or 'float64', got None",
    ),
    "size of digits": Mistake(
        lambda: datasets.digits(size=28),
        ValueError,
        "size must be 8 (the whole image) or 6 (its centre), got 28",
    ),
    "size of faces": Mistake(
        lambda: datasets.faces(size=24),
        ValueError,
        "size must be 25 (the whole image) or 6 (4x4 means), got 24",
    ),
    "one digit twice": Mistake(
        lambda: datasets.digits((4, 4)), ValueError, "pair must be two different digits, got (4, 4)"
    ),
    "three digits": Mistake(
        lambda: datasets.digits((4, 5, 9)),
        ValueError,
        "pair must be two different digits, got (4, 5, 9)",
    ),
    "no digit": Mistake(
        lambda: datasets.digits((4, 10)),
        ValueError,
        "pair must hold digits from 0 to 9, got (4, 10)",
    ),
    "one digit": Mistake(
        lambda: datasets.digits(4),
        TypeError,
        "pair must hold two integers, such as (4, 9), got 4",
    ),
    "digits as text": Mistake(
        lambda: datasets.digits("49"),
        TypeError,
        "pair must hold two integers, such as (4, 9), got '49'",
    ),
    "part of CIFAR": Mistake(
        lambda: datasets.cifar10(".", part="validation"),
        ValueError,
        "part must be 'train' or 'test', got 'validation'",
    ),
    "part of one file": Mistake(
        lambda: datasets.cifar10("batch.bin", part="test"),
        ValueError,
        "batch.bin is not a folder, part='test' means nothing: leave it out",
    ),
    "name of images": Mistake(
        lambda: datasets.mnist_idx("mnist.gz"),
        ValueError,
        "mnist.gz: the name does not contain 'images', so the labels' name cannot "
        "be derived from it: pass labels_path",
    ),
    "size of pictures": Mistake(
        lambda: datasets.image_folder(".", size=(8, 0)),
        ValueError,
        "size must be a positive integer or (height, width), got (8, 0)",
    ),
    "one-hot labels": Mistake(
        lambda: datasets.split(zeros(4, 2), np.eye(4)),
        ValueError,
        "y must hold one label per image, (N,) or (N, 1), got (4, 4); for one-hot rows split "
        "with y.argmax(axis=1)",
    ),
    "lengths": Mistake(
        lambda: datasets.split(zeros(3, 2), LABELS),
        ValueError,
        "x and y must be equally long, got shapes (3, 2) and (4,)",
    ),
    "part held out": Mistake(
        lambda: datasets.split(zeros(4, 2), LABELS, 25),
        ValueError,
        "held_out must be above 0 and below 1, got 25",
    ),
    "too few": Mistake(
        lambda: datasets.split(zeros(4, 2), LABELS, 0.1),
        ValueError,
        "4 images are too few to hold out 0.1 of each class",
    ),
    "labels that are NaN": Mistake(
        lambda: datasets.split(zeros(2, 2), [0.0, np.nan]), ValueError, "y holds NaN"
    ),
    "halves of bytes": Mistake(
        lambda: datasets.two_means(zeros(2, 1, 4, 4, dtype=np.uint8)),
        TypeError,
        "x must be float32 or float64, got uint8: use x.astype(np.float32)",
    ),
    "halves of colours": Mistake(
        lambda: datasets.two_means(zeros(2, 3, 4, 4)),
        ValueError,
        "x must be (N, 1, H, W) with H >= 2 and W >= 1, got (2, 3, 4, 4)",
    ),
}

PROBLEMS = {
    "unknown part": Mistake(
        lambda: parse("n1c3h8q4"),
        ProblemError,
        "problem 'n1c3h8q4': cannot read 'q4'; the parts are n, c, h, w, k, r, s, g, i, o, "
        "st, d, p, ceil, each followed by its number",
    ),
    "part twice": Mistake(
        lambda: parse("c3h8k4r3k8"),
        ProblemError,
        "problem 'c3h8k4r3k8': 'k' is given twice, again as 'k8'",
    ),
    "no number": Mistake(
        lambda: parse("c3h8k4r"), ProblemError, "problem 'c3h8k4r': 'r' lacks its value"
    ),
    "a word": Mistake(
        lambda: parse("c3h8k4r3stsame"),
        ProblemError,
        "problem 'c3h8k4r3stsame': 'stsame' must have a number, not a word",
    ),
    "three numbers": Mistake(
        lambda: parse("c3h8k4r3p1x2x3"),
        ProblemError,
        "problem 'c3h8k4r3p1x2x3': 'p1x2x3' must have 1 or 2 or 4 numbers, but has 3",
    ),
    "value of a flag": Mistake(
        lambda: parse("c3h8r2ceil1"), ProblemError, "problem 'c3h8r2ceil1': 'ceil1' takes no value"
    ),
    "missing parts": Mistake(
        lambda: parse("n1k4r3"), ProblemError, "problem 'n1k4r3': missing c (channels), h (height)"
    ),
    "groups of a dense layer": Mistake(
        lambda: parse("n1i4o2g2"),
        ProblemError,
        "problem 'n1i4o2g2': a dense layer has no 'g2'; its parts are n, i, o",
    ),
    "impossible": Mistake(
        lambda: parse("c3h2k4r3"),
        ProblemError,
        "problem 'c3h2k4r3': Calculated padded input size per channel: (2 x 2). Kernel size: "
        "(3 x 3). Kernel size can't be greater than actual input size",
    ),
    "same padding with a stride": Mistake(
        lambda: parse("c3h8k4r3st2psame"),
        ProblemError,
        "problem 'c3h8k4r3st2psame': padding='same' is not supported for strided "
        "convolutions and pooling; 'same_upper' is TensorFlow's and Keras's rule for them",
    ),
    "nothing": Mistake(
        lambda: parse(""),
        ProblemError,
        "problem '': missing c (channels), h (height), r (window height)",
    ),
    "suite": Mistake(
        lambda: suite("vgg"), ValueError, "unknown suite 'vgg': did you mean 'vgg16'?"
    ),
    "layer": Mistake(
        lambda: find("vgg16.conv3_3"),
        ValueError,
        "unknown problem 'vgg16.conv3_3': did you mean 'vgg16.conv3_2'?",
    ),
}

GRADCHECK = {
    "float32": Mistake(
        lambda: gradcheck(Dense(2), zeros(1, 3)),
        TypeError,
        "gradcheck needs float64, as differences of 1e-6 drown in float32's rounding, but x "
        "is float32: pass x.astype(np.float64), and dtype='float64' to layers and networks",
    ),
    "layer of float32": Mistake(
        lambda: gradcheck(np.float32, X, np.float32),
        TypeError,
        "gradcheck needs float64, as differences of 1e-6 drown in float32's rounding, but "
        "the function's result is float32: pass the function's result.astype(np.float64), "
        "and dtype='float64' to layers and networks",
    ),
    "no gradient": Mistake(
        lambda: gradcheck(np.sin, X),
        TypeError,
        "pass a layer (with forward and backward), or a function and its gradient: "
        "gradcheck(function, x, gradient)",
    ),
    "gradients of two": Mistake(
        lambda: gradcheck(np.add, (X, X), lambda dy: dy),
        ValueError,
        "expected 2 gradients, one for each input, got 1",
    ),
    "no step": Mistake(
        lambda: gradcheck(np.sin, X, np.cos, eps=0), ValueError, "eps must be above 0, but got 0"
    ),
    "step that is no number": Mistake(
        lambda: gradcheck(np.sin, X, np.cos, eps="1"),
        TypeError,
        "eps must be a number, but got '1'",
    ),
    "no samples": Mistake(
        lambda: gradcheck(np.sin, X, np.cos, samples=0),
        ValueError,
        "samples must be at least 1, but got 0",
    ),
}

COMPARE = {
    "operation": Mistake(
        lambda: compare(["conv3d"]),
        ValueError,
        "unknown operation 'conv3d': did you mean 'conv2d'?",
    ),
    "operations as text": Mistake(
        lambda: compare("conv2d"),
        TypeError,
        "operations must be a list of names, but got 'conv2d': pass ['conv2d']",
    ),
    "implementation": Mistake(
        lambda: compare(["relu"], ["portabel"]),
        ValueError,
        "unknown implementation 'portabel': did you mean 'portable'?",
    ),
    "suite": Mistake(
        lambda: compare(["relu"], suites=["vgg"]),
        ValueError,
        "unknown suite 'vgg': did you mean 'vgg16'?",
    ),
    "problem": Mistake(
        lambda: compare(["relu"], problems=["3x"]),
        ProblemError,
        "problem '3x': cannot read '3x'; the parts are n, c, h, w, k, r, s, g, i, o, st, d, "
        "p, ceil, each followed by its number",
    ),
    "problems as text": Mistake(
        lambda: compare(["relu"], problems="2x3"),
        TypeError,
        "problems must be a list of names, but got '2x3': pass ['2x3']",
    ),
    "type": Mistake(
        lambda: compare(["relu"], dtypes=["float16"]),
        ValueError,
        "unknown dtype 'float16': did you mean 'float64'?",
    ),
    "cases": Mistake(
        lambda: compare(["relu"], cases=-1), ValueError, "cases must be at least 0, but got -1"
    ),
    "batch": Mistake(
        lambda: compare(["relu"], batch=0), ValueError, "batch must be at least 1, but got 0"
    ),
    "nothing": Mistake(
        lambda: compare(["relu"], problems=["n1i4o2"]),
        NothingToCompare,
        "no implementation asked for runs on any problem asked for",
    ),
}

ROOMS = {"data": DATA, "problems": PROBLEMS, "gradcheck": GRADCHECK, "compare": COMPARE}


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, id=f"{room}: {name}")
        for room, mistakes in ROOMS.items()
        for name, mistake in mistakes.items()
    ],
)
def test_text(mistake):
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert type(caught.value) is mistake.error
    assert str(caught.value) == mistake.text


# The words after fastcnn, and all that is said of them before the advice to see --help.
USAGE = {
    "trian": "fastcnn: unknown command 'trian': did you mean 'train'?",
    "train": "fastcnn train: say NETWORK and --data, or --resume FILE",
    "train two_blok": "fastcnn train: argument NETWORK: unknown network 'two_blok': did you mean "
    "'two_block'?",
    "train two_block --data digit": "fastcnn train: unknown data set 'digit': did you mean "
    "'digits'? It is no file or folder either.",
    "train two_block --data digits:four,9": "fastcnn train: --data digits:four,9: say two digits, "
    "such as digits:4,9",
    "train two_block --data digits:4,4": "fastcnn train: --data digits:4,4: pair must be two "
    "different digits, got (4, 4)",
    "train two_block --data faces:7": "fastcnn train: --data faces:7: say faces (25x25) or "
    "faces:6 (6x6)",
    "train two_block --data digits": "fastcnn train: two_block has one output and learns labels 0 "
    "and 1, but the data has 10 classes; take two, such as --data digits:4,9, or another network",
    "train two_block --rate 0": "fastcnn train: argument --rate: must be a number above 0, got '0'",
    "train two_block --epochs -1": "fastcnn train: argument --epochs: must be an int of at least "
    "0, got '-1'",
    "train two_block --held-out 1": "fastcnn train: argument --held-out: must be from 0 to below "
    "1, got '1'",
    "train --resume nothing.npz": "fastcnn train: argument --resume: there is no file "
    "'nothing.npz'",
    "train two_block --save nowhere/x.npz": "fastcnn train: argument --save: there is no folder "
    "'nowhere'",
    "compare --ops conv2": "fastcnn compare: argument --ops: unknown operation 'conv2': did you "
    "mean 'conv2d'?",
    "compare --threads 0": "fastcnn compare: argument --threads: must be an int of at least 1, "
    "got '0'",
    "compare --problem c3h8k4": "fastcnn compare: argument --problem: problem 'c3h8k4': missing r "
    "(kernel height)",
    "compare --problem n1i4o2 --ops relu": "fastcnn compare: no implementation asked for runs on "
    "any problem asked for",
    "warmup --suite vgg": "fastcnn warmup: argument --suite: unknown suite 'vgg': did you mean "
    "'vgg16'?",
    "bench --ops forwards": "fastcnn bench: argument --ops: unknown operation 'forwards': did you "
    "mean 'forward'?",
    "info --jason": "fastcnn: unrecognized arguments: --jason",
}


@pytest.mark.parametrize("words", USAGE)
def test_wrong_usage_is_named_with_advice_and_status_2(capsys, words):
    assert cli.main(words.split()) == cli.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    said, advice = err.rstrip("\n").rsplit("\n", 1)
    assert said.rsplit("\n", 1)[-1] == USAGE[words]
    assert advice == f"(see {USAGE[words].partition(':')[0]} --help)"


def test_a_name_that_is_no_choice_lists_the_choices(capsys):
    assert cli.main(["train", "two_block", "--optimizer", "adm"]) == cli.USAGE
    err = capsys.readouterr().err
    assert err.startswith(
        "fastcnn train: argument --optimizer: invalid choice: 'adm' (choose from "
    )
    assert all(name in err for name in ("sgd", "momentum", "adam"))
