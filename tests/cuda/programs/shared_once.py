"""Simulated threads that ask for a shared array at the same moment get the same one."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from fastcnn.kernels.cuda import target

target.cuda.jit  # noqa: B018 - imports the simulator

from numba.cuda.simulator.kernelapi import FakeCUDAShared  # noqa: E402


class Slow(dict):
    """Lets every other thread look, too, before the first has seen that there is nothing."""

    def get(self, key, default=None):
        time.sleep(0.05)
        return super().get(key, default)

    def __contains__(self, key):
        time.sleep(0.05)
        return super().__contains__(key)


def ask(shared):
    return shared.array(3, np.float32), shared.array(3, np.float32)


shared = FakeCUDAShared(0)
shared._allocations = Slow()
with ThreadPoolExecutor(4) as threads:
    found = list(threads.map(ask, [shared] * 4))
assert all(one is found[0][0] and other is found[0][1] for one, other in found), found
assert found[0][0] is not found[0][1]
print("one each")
