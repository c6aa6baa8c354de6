"""What must be mended in Numba's simulator."""

from __future__ import annotations

import sys
from threading import Lock
from typing import Any

import numpy as np


def share_once() -> None:
    """Let the simulated threads of a block make each shared array once.

    The simulator looks for the array of a line of code and makes it if there is none: two threads
    that looked at the same time got one each, and now and then a result was wrong. Two arrays of
    one line were one.
    """
    from numba.cuda.simulator import kernelapi

    made, lock = kernelapi.FakeCUDAShared.array, Lock()

    def array(shared: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        if shape == 0:  # dynamic: there from the start
            return made(shared, shape, dtype, alignment)
        caller = sys._getframe(1)
        place = caller.f_code, caller.f_lasti
        if isinstance(dtype, kernelapi.types.Type):
            dtype = kernelapi.numpy_support.as_dtype(dtype)
        with lock:
            if place not in shared._allocations:
                shared._allocations[place] = np.empty(shape, dtype)
            return shared._allocations[place]

    kernelapi.FakeCUDAShared.array = array
