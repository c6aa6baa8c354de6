"""Sharing tasks among threads: each is done once, by whoever comes first; rooms are lent."""

import numpy as np
import pytest
from numba import types
from numba.extending import intrinsic

import fastcnn
from fastcnn.kernels.cpu import rooms, threads
from fastcnn.kernels.cpu.atomics import APART, look, swap
from fastcnn.kernels.cpu.calls import address_of
from fastcnn.kernels.cpu.jit import config, kernel

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has no threads here")


@pytest.fixture(params=[2, 3, 8])
def thread_count(request):
    before = fastcnn.get_num_threads()
    fastcnn.set_num_threads(request.param)
    yield min(request.param, config.NUMBA_NUM_THREADS)
    fastcnn.set_num_threads(before)


@kernel
def _count(task, counts):
    """Tasks of very different length, the longest first."""
    total = 0.0
    for i in range(200_000 // (1 + task)):
        total += np.sqrt(float(i))
    counts[task] += 1 if total >= 0 else 2


@pytest.mark.parametrize("tasks", [1, 2, 3, 7, 64, 1001])
def test_each_task_is_done_once(thread_count, tasks):
    counts = np.zeros(tasks, np.int64)
    for _ in range(3):
        threads.launch(_count, tasks, threads.WORTH_SHARING, counts)
    assert counts.tolist() == [3] * tasks


def test_a_share_is_taken_from_both_ends():
    """Its thread takes its first tasks, the others its last ones."""
    left = np.array([3 | 7 << 32])
    assert [threads._take(left, 0, first) for first in (True, False, False, True)] == [3, 6, 5, 4]
    assert threads._take(left, 0, True) == threads._take(left, 0, False) == -1


def test_one_thread_does_what_the_others_leave():
    """As where the operating system has not woken them: of three shares, all by the second's."""
    counts = np.zeros(9, np.int64)

    work = threads._work

    @kernel
    def alone(caller, place, address, tasks, threads):
        left = np.empty(threads * APART, np.int64)
        for t in range(threads):
            left[t * APART] = tasks * t // threads | tasks * (t + 1) // threads << 32
        return work(caller, place, address, left, APART)

    shell = address_of(alone, (types.intp,) * 5)
    address = threads._address(_count, (counts,))
    assert threads._run(address, 9, (counts,), shell, 3) == 0
    assert counts.tolist() == [1] * 9


def _owner_typer(typingctx, array):
    def codegen(context, builder, signature, arguments):
        word = context.get_value_type(types.intp)
        return builder.ptrtoint(builder.extract_value(arguments[0], 0), word)

    return types.intp(array), codegen


_owner = intrinsic(_owner_typer)


@kernel
def _note_owners(task, owners):
    owners[task] = _owner(owners)


@pytest.mark.parametrize("work", [1, threads.WORTH_SHARING])
def test_references_of_arrays_are_not_counted(work):
    """Nothing to count them with comes along: slices would change a number that threads share."""
    owners = np.ones(8, np.int64)
    threads.launch(_note_owners, 8, work, owners)
    assert not owners.any()


@kernel
def _borrow(task, taken, memory, seen):
    room = rooms.claim(taken)
    for _ in range(1000):  # nobody else writes here meanwhile
        memory[room, 0] = task
        seen[task] += memory[room, 0] == task
    rooms.give_back(taken, room)


def test_a_room_is_one_tasks_at_a_time(thread_count):
    tasks = 300
    taken, seen = rooms.flags(tasks, threads.WORTH_SHARING), np.zeros(tasks, np.int64)
    assert rooms.rooms(taken) == thread_count
    threads.launch(_borrow, tasks, threads.WORTH_SHARING, taken, np.zeros((thread_count, 8)), seen)
    assert seen.tolist() == [1000] * tasks
    assert not taken.any()


def test_the_first_free_room_is_claimed():
    taken = np.zeros(3 * APART, np.int64)
    assert [rooms.claim(taken) for _ in range(2)] == [0, 1]
    rooms.give_back(taken, 0)
    assert [rooms.claim(taken) for _ in range(2)] == [0, 2]


@kernel
def _swapped(words):
    return swap(words, 1, 5, 6), swap(words, 1, 5, 7), look(words, 1)


def test_swap_replaces_what_is_expected_alone():
    assert _swapped(np.array([5, 5])) == (True, False, 6)
