"""Large scratch arrays, kept from call to call.

Memory that is new to a process is given page by page, zeroed, as it is first touched: 8 MB take
1 ms, which is a third of a small Winograd layer. From 4 MB on NumPy asks for huge pages, which
Numba's own allocations do not.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Bytes kept at the most, of all arrays that no call is using.
KEPT = 64 << 20
_LINE = 64

_lock = threading.Lock()
_spare: list[np.ndarray] = []


def lines(size: int, dtype: Any) -> np.ndarray:
    """A new array that begins with a cache line, for vectors that do not straddle two."""
    dtype = np.dtype(dtype)
    return _aligned(np.empty(size * dtype.itemsize + _LINE, np.uint8), size, dtype)


def _aligned(memory: np.ndarray, size: int, dtype: np.dtype) -> np.ndarray:
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _take(size: int) -> np.ndarray:
    with _lock:
        fitting = [i for i, spare in enumerate(_spare) if spare.size >= size]
        if fitting:
            return _spare.pop(min(fitting, key=lambda i: _spare[i].size))
    return np.empty(size, np.uint8)


def _give(memory: np.ndarray) -> None:
    with _lock:
        _spare.append(memory)
        _spare.sort(key=lambda spare: -spare.size)
        while sum(spare.size for spare in _spare) > KEPT:
            _spare.pop(0)


@contextmanager
def borrowed(size: int, dtype: Any) -> Iterator[np.ndarray]:
    """An array of `size` elements that begins with a cache line, for the time of a `with` block.

    What it holds is arbitrary.
    """
    dtype = np.dtype(dtype)
    memory = _take(size * dtype.itemsize + _LINE)
    try:
        yield _aligned(memory, size, dtype)
    finally:
        _give(memory)
