"""Holding images back, and two numbers from one image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import datasets


def test_each_class_is_split_in_the_same_proportion():
    x, y = datasets.digits()
    x_train, y_train, x_test, y_test = datasets.split(x, y)
    assert len(x_train) + len(x_test) == len(x)
    expected = np.floor(np.bincount(y) / 4 + 0.5)
    assert np.array_equal(np.bincount(y_test), expected)
    assert np.array_equal(np.bincount(y_train), np.bincount(y) - expected)


def test_a_split_is_shuffled_and_repeatable():
    y = np.repeat([0, 1], 50)
    x = np.arange(100)
    first = datasets.split(x, y, 0.5, seed=3)
    for one, other in zip(first, datasets.split(x, y, 0.5, seed=3), strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(first[0], datasets.split(x, y, 0.5, seed=4)[0])
    # shuffled within and across the classes
    assert not np.array_equal(first[0], np.sort(first[0]))
    assert 5 < np.count_nonzero(np.diff(first[1])) < 45


@settings(deadline=None, max_examples=60)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=5),
    held_out=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
    column=st.booleans(),
)
def test_a_split_keeps_every_image_once_with_its_label(counts, held_out, seed, column):
    y = np.repeat(np.arange(len(counts)), counts)
    x = np.arange(len(y))
    held = [min(int(held_out * count + 0.5), count - 1) for count in counts]
    labels = y[:, None] if column else y
    if not sum(held):
        with pytest.raises(ValueError, match="too few"):
            datasets.split(x, labels, held_out, seed)
        return
    x_train, y_train, x_test, y_test = datasets.split(x, labels, held_out, seed)
    assert sorted([*x_train, *x_test]) == x.tolist()
    assert np.array_equal(labels[x_train], y_train)
    assert np.array_equal(labels[x_test], y_test)
    assert np.bincount(y_test.ravel(), minlength=len(counts)).tolist() == held


def test_a_split_returns_copies():
    x, y = np.zeros((8, 2)), np.repeat([0, 1], 4)
    for part in datasets.split(x, y):
        assert not np.shares_memory(part, x)
        assert not np.shares_memory(part, y)


@pytest.mark.parametrize(
    ("x_shape", "y", "held_out", "text"),
    [
        ((3,), np.zeros(4), 0.5, r"equally long, got shapes \(3,\) and \(4,\)"),
        ((), np.zeros(4), 0.5, "equally long"),
        ((4,), np.eye(4), 0.5, r"argmax\(axis=1\)"),
        ((4,), np.float64(1), 0.5, "one label per image"),
        ((4,), np.zeros(4), 0.0, "held_out must be above 0 and below 1, got 0.0"),
        ((4,), np.zeros(4), 1, "got 1"),
        ((4,), np.zeros(4), float("nan"), "got nan"),
        ((4,), np.array([0, 1, np.nan, 1]), 0.5, "NaN"),
        ((2,), np.array([0, 1]), 0.5, "too few"),
        ((0,), np.zeros(0), 0.5, "too few"),
    ],
)
def test_wrong_arguments_of_split(x_shape, y, held_out, text):
    with pytest.raises(ValueError, match=text):
        datasets.split(np.zeros(x_shape), y, held_out)


def test_two_means_by_hand():
    x = np.array([[[[1, 3], [5, 7]]], [[[0, 0], [0, 1]]]], dtype=np.float32)
    features = datasets.two_means(x)
    assert features.dtype == np.float32
    assert features.tolist() == [[2, 6], [0, 0.5]]


def test_two_means_leave_out_the_middle_row():
    x = np.array([[[[1.0], [100.0], [3.0]]]])
    assert datasets.two_means(x).tolist() == [[1, 3]]
    assert datasets.two_means(x).dtype == np.float64


def test_two_means_of_no_image():
    assert datasets.two_means(np.zeros((0, 1, 8, 8), np.float32)).shape == (0, 2)


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 8, 8), (2, 1, 1, 8), (2, 1, 8, 0)])
def test_wrong_shapes_of_two_means(shape):
    with pytest.raises(ValueError, match=r"x must be \(N, 1, H, W\)"):
        datasets.two_means(np.zeros(shape))


def test_wrong_type_of_two_means():
    with pytest.raises(TypeError, match=r"got int64: use x.astype\(np.float32\)"):
        datasets.two_means(np.zeros((1, 1, 2, 2), np.int64))
