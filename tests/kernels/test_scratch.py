"""Scratch memory that is kept from call to call."""

import numpy as np
import pytest

from fastcnn.kernels.cpu import scratch
from fastcnn.kernels.cpu.scratch import borrowed


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(scratch, "_spare", [])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 1000, 1 << 21])
def test_it_begins_with_a_cache_line(dtype, size):
    with borrowed(size, dtype) as array:
        assert (array.size, array.dtype) == (size, dtype)
        assert array.ctypes.data % 64 == 0 or not size
        array.fill(1)


def test_the_smallest_that_fits_is_used_again():
    with borrowed(1000, np.float32) as large, borrowed(100, np.float32) as small:
        places = large.ctypes.data, small.ctypes.data
    with borrowed(90, np.float32) as second, borrowed(900, np.float32) as first:
        assert (first.ctypes.data, second.ctypes.data) == places


def test_two_that_are_in_use_are_apart():
    with borrowed(100, np.float32) as one, borrowed(100, np.float32) as other:
        assert not np.shares_memory(one, other)


def test_not_more_is_kept_than_said(monkeypatch):
    monkeypatch.setattr(scratch, "KEPT", 10_000)
    with borrowed(2000, np.float32), borrowed(300, np.float32), borrowed(400, np.float32):
        pass
    assert 300 * 4 < sum(spare.size for spare in scratch._spare) <= 10_000
    with borrowed(5000, np.float32):
        pass
    assert sum(spare.size for spare in scratch._spare) <= 10_000
