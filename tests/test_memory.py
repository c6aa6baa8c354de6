"""Memory that is used again once nobody holds it."""

import os
import threading

import numpy as np
import pytest

from fastcnn import memory
from fastcnn.functional import relu
from fastcnn.memory import Pool


@pytest.fixture
def pool():
    return Pool(1 << 20, 1000)


def place(array):
    return array.ctypes.data


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("shape", [(1000,), (3, 5, 7, 11), (1 << 21,)])  # kept, kept, too large
def test_arrays_begin_with_a_cache_line(pool, shape, dtype):
    array = pool.empty(shape, dtype)
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.carray
    assert place(array) % 64 == 0
    array.fill(1)


def test_small_arrays_are_numpys_own(pool):
    assert pool.empty((249,), np.float32).flags.owndata
    assert pool.empty((0, 5), np.float32).shape == (0, 5)
    assert pool.held == 0


def test_a_block_is_used_again_once_nobody_holds_it(pool):
    first = pool.empty((1000,), np.float32)
    where = place(first)
    del first
    assert place(pool.empty((20, 45), np.float32)) == where


@pytest.mark.parametrize(
    "view",
    [lambda a: a[10:], lambda a: a.reshape(10, -1).T, memoryview, lambda a: a[3:4].view("u1")],
)
def test_a_block_is_not_used_again_while_a_view_of_it_lives(pool, view):
    array = pool.empty((1000,), np.float32)
    array.fill(7)
    kept = view(array)
    del array
    pool.empty((1000,), np.float32).fill(0)
    assert np.asarray(kept).any()


def test_arrays_in_use_are_apart(pool):
    held = [pool.empty((1000,), np.float32) for _ in range(20)]
    for i, array in enumerate(held):
        array.fill(i)
    assert all((array == i).all() for i, array in enumerate(held))


def test_the_smallest_that_fits_is_taken_and_nothing_twice_too_large(pool):
    large, small = pool.empty((8000,), np.float32), pool.empty((5000,), np.float32)
    where = place(small)
    del large, small
    assert place(pool.empty((4900,), np.float32)) == where
    held = pool.held
    tiny = pool.empty((1000,), np.float32)
    assert pool.held == held + tiny.nbytes + 64


def test_no_more_is_held_than_said():
    pool = Pool(10_000, 0)
    in_use = [pool.empty((1000,), np.float32) for _ in range(5)]
    assert pool.held == 2 * 4064
    del in_use
    larger = pool.empty((2400,), np.float32)  # what was idle makes room
    assert pool.held == larger.nbytes + 64 <= 10_000
    beyond = pool.empty((2500,), np.float32)
    beyond.fill(0)
    assert pool.held <= 10_000


def test_threads_get_arrays_of_their_own(pool):
    wrong = []

    def work(number):
        for _ in range(300):
            array = pool.empty((500 + number,), np.float32)
            array.fill(number)
            if not (array == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_forked_while_the_pool_is_locked_does_without(pool):
    with pool._lock:
        child = os.fork()
        if child == 0:
            pool.empty((1000,), np.float32).fill(1)
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_results_are_not_overwritten_by_later_ones():
    x = np.ones((512, 1024), np.float32)
    first = relu(x)
    where, row = place(first), first[5]
    assert where % 64 == 0
    del first
    second = relu(2 * x)
    assert place(second) != where
    assert (row == 1).all()
    del row
    assert place(relu(x)) == where
    assert memory.RESULTS.held <= memory.RESULTS.bound
