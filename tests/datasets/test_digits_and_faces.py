"""The two sets of real images that come with installed packages."""

import builtins
import socket

import numpy as np
import pytest

from fastcnn import datasets


def test_all_digits():
    x, y = datasets.digits()
    assert x.shape == (1797, 1, 8, 8)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert x.min() == 0
    assert x.max() == 1
    assert np.array_equal(x * 16, np.round(x * 16))
    # the counts that scikit-learn's description of the set gives
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_the_first_digit_is_the_zero_of_scikit_learns_guide():
    x, y = datasets.digits(dtype="float64")
    assert y[0] == 0
    assert x.dtype == np.float64
    assert (x[0, 0, 0] * 16).tolist() == [0, 0, 5, 13, 9, 1, 0, 0]
    assert (x[0, 0, 7] * 16).tolist() == [0, 0, 6, 13, 10, 0, 0, 0]


def test_a_pair_of_digits():
    x, y = datasets.digits(pair=(3, 8))
    every_x, every_y = datasets.digits()
    assert y.dtype == np.int64
    assert np.bincount(y).tolist() == [183, 174]
    assert np.array_equal(x[y == 0], every_x[every_y == 3])
    assert np.array_equal(x[y == 1], every_x[every_y == 8])
    reversed_x, reversed_y = datasets.digits(pair=(8, 3))
    assert np.array_equal(reversed_x, x)
    assert np.array_equal(reversed_y, 1 - y)


def test_the_centre_of_digits():
    x, y = datasets.digits(size=6)
    whole, labels = datasets.digits()
    assert x.shape == (1797, 1, 6, 6)
    assert x.flags.c_contiguous
    assert np.array_equal(y, labels)
    for row in range(6):
        for column in range(6):
            assert np.array_equal(x[:, 0, row, column], whole[:, 0, row + 1, column + 1])


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"pair": (3, 3)}, ValueError, r"two different digits, got \(3, 3\)"),
        ({"pair": (3, 10)}, ValueError, "from 0 to 9"),
        ({"pair": (1, 2, 3)}, ValueError, "two different digits"),
        ({"pair": (3.0, 8)}, TypeError, "integer"),
        ({"size": 7}, ValueError, "size must be 8"),
        ({"dtype": "int32"}, ValueError, "dtype must be 'float32' or 'float64', got 'int32'"),
        ({"dtype": "no type"}, ValueError, "got 'no type'"),
        ({"dtype": None}, ValueError, "got None"),
    ],
)
def test_wrong_arguments_of_digits(arguments, error, text):
    with pytest.raises(error, match=text):
        datasets.digits(**arguments)


def test_faces_as_they_are():
    x, y = datasets.faces()
    assert x.shape == (200, 1, 25, 25)
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    assert y.tolist() == [1] * 100 + [0] * 100
    assert x.min() >= 0
    assert x.max() <= 1
    # Faces are alike, other things are not.
    distance = ((x - x[:100].mean(axis=0)) ** 2).mean(axis=(1, 2, 3))
    assert distance[100:].mean() > 2 * distance[:100].mean()


def test_faces_as_means():
    x, y = datasets.faces(size=6, dtype="float64")
    whole, labels = datasets.faces(dtype="float64")
    assert x.shape == (200, 1, 6, 6)
    assert x.flags.c_contiguous
    assert np.array_equal(y, labels)
    for image, row, column in [(0, 0, 0), (57, 2, 3), (199, 5, 5)]:
        block = whole[image, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert x[image, 0, row, column] == pytest.approx(
            sum(block.ravel().tolist()) / 16, rel=1e-14
        )


def test_faces_need_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert len(datasets.faces()[0]) == 200


def test_wrong_size_of_faces():
    with pytest.raises(ValueError, match="size must be 25"):
        datasets.faces(size=24)


@pytest.mark.parametrize(
    ("call", "module", "package"),
    [
        (datasets.digits, "sklearn", "scikit-learn"),
        (datasets.faces, "skimage", "scikit-image"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, call, module, package):
    real_import = builtins.__import__

    def without(name, *arguments):
        if name.partition(".")[0] == module:
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real_import(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"{package} is needed .*pip install 'fastcnn\[demo\]'"):
        call()
