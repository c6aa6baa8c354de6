"""The same bits on 1, 2, 4 and 100 threads, and as many threads as were asked for."""

import sys

import numba
import numpy as np
import pytest
import work

import fastcnn
from fastcnn.kernels.cpu.atomics import look, swap
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch

pool, first = map(int, sys.argv[1:])


@kernel
def who(task, seen, here):
    """Wait until as many tasks as there are run at a time."""
    seen[task] = numba.get_thread_id()
    arrived = look(here, 0)
    while not swap(here, 0, arrived, arrived + 1):
        arrived = look(here, 0)
    while look(here, 0) < seen.size:
        pass


@kernel
def whoever(task, seen):
    seen[task] = numba.get_thread_id()


def threads_used(count):
    """Of `count` tasks that need a thread each."""
    seen = np.full(count, -1)
    numba.get_num_threads()  # loads the pool, which one thread alone never does
    launch(who, count, WORTH_SHARING, seen, np.zeros(1, np.int64))
    return set(seen.tolist())


fastcnn.functional.relu([1.0])  # too little work to wake a thread for
with pytest.raises(ValueError, match="not initialized"):
    numba.threading_layer()
assert fastcnn.get_num_threads() == numba.config.NUMBA_NUM_THREADS == pool
fastcnn.set_num_threads(first)  # before the first launch
digests = {work.digest()}
for count in (1, 2, 4, 100):
    fastcnn.set_num_threads(count)
    assert fastcnn.get_num_threads() == count
    assert threads_used(min(count, pool)) == set(range(min(count, pool)))
    seen = np.full(64, -1)
    launch(whoever, len(seen), WORTH_SHARING, seen)
    assert set(seen.tolist()) <= set(range(min(count, pool)))
    digests.add(work.digest())
assert len(digests) == 1
