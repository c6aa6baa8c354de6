"""Memory for large arrays that is used again once nobody holds it.

Memory that is new to a process is given page by page, cleared, as it is first touched. From 32 MB
on (and for what lies at the heap's end) the C library gives it back and asks for it again at every
call: the 51 MB of VGG's first layer took 2.4 ms on one thread, and up to 30 where two touched them
at once. An array from here lies in a block that its pool holds as well. The block is free again
when the pool's is the last reference to it: NumPy's views hold the block, not the array that they
were taken from, so that no view can outlive its memory.
"""

from __future__ import annotations

import sys
import threading
from math import prod
from typing import Any

import numpy as np

# Bytes of a cache line. Where lines are longer, what fetches them line by line fetches some twice.
# Blocks begin with one, for vectors that do not straddle lines: malloc's 16 bytes would let every
# second store do so.
LINE_BYTES = 64
# A block may be so many times larger than what is asked for.
_SLACK = 2


def _references(blocks: list[np.ndarray], i: int) -> int:
    return sys.getrefcount(blocks[i])


# The list's, and what versions of Python count for the call itself.
_IDLE = _references([np.empty(0)], 0)


def _new(size: int) -> tuple[np.ndarray, int]:
    """A block, and where its first line begins."""
    block = np.empty(size, np.uint8)
    return block, -block.ctypes.data % LINE_BYTES


class Pool:
    """Arrays with arbitrary content that begin with a cache line.

    Parameters
    ----------
    bound : int
        Bytes held at the most, in use or not. What is beyond is new every time.
    least : int
        Smaller arrays, in bytes, are NumPy's own, and begin anywhere.
    """

    def __init__(self, bound: int, least: int) -> None:
        self.bound, self.least = bound, least
        self._blocks: list[np.ndarray] = []  # the one used last comes last
        self._starts: list[int] = []  # of the first line in each
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes of all blocks."""
        return sum(block.size for block in self._blocks)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """As `numpy.empty`."""
        dtype = np.dtype(dtype)
        size = prod(shape) * dtype.itemsize
        if size < self.least:
            return np.empty(shape, dtype)
        size += LINE_BYTES
        # Another thread in here, or one that was when this process was forked: do without.
        if size <= self.bound and self._lock.acquire(blocking=False):
            try:
                block, start = self._take(size)
            finally:
                self._lock.release()
        else:
            block, start = _new(size)
        return np.ndarray(shape, dtype, block, start)

    def _take(self, size: int) -> tuple[np.ndarray, int]:
        blocks = self._blocks
        fitting = [
            i
            for i in range(len(blocks))
            if size <= blocks[i].size <= _SLACK * size and _references(blocks, i) == _IDLE
        ]
        if fitting:
            i = min(fitting, key=lambda i: blocks[i].size) if len(fitting) > 1 else fitting[0]
            block, start = blocks.pop(i), self._starts.pop(i)
        else:
            self._make_room(size)
            block, start = _new(size)
            if self.held + size > self.bound:
                return block, start
        blocks.append(block)
        self._starts.append(start)
        return block, start

    def _make_room(self, size: int) -> None:
        """Let go of idle blocks, the one used longest ago first, until `size` bytes fit."""
        i = 0
        while i < len(self._blocks) and self.held + size > self.bound:
            if _references(self._blocks, i) == _IDLE:
                del self._blocks[i], self._starts[i]
            else:
                i += 1


# Workspaces of whole calls; Winograd's transformed weights take 38 MB for 512 channels.
SCRATCH = Pool(64 << 20, 0)
# Results. Below, malloc gives memory that the process has had before.
RESULTS = Pool(256 << 20, 256 << 10)
