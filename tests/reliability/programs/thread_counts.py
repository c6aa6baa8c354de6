"""The same bits on 1, 2, 4 and 100 threads, and as many threads as were asked for."""

import sys

import numba
import numpy as np
import pytest
import work

import fastcnn
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch

pool, first = map(int, sys.argv[1:])


@kernel
def who(task, seen):
    seen[task] = numba.get_thread_id()


def threads_used():
    seen = np.full(64, -1)
    numba.get_num_threads()  # loads the pool, which one thread alone never does
    launch(who, len(seen), WORTH_SHARING, seen)
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
    assert threads_used() == set(range(min(count, pool)))
    digests.add(work.digest())
assert len(digests) == 1
