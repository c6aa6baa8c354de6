"""Operations that treat each element by itself, cut into chunks of a fixed number of elements.

Fixed, so that a sum over chunks has the same order on any number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.kernels.cpu.threads import launch

# 16 or 32 KB of an array: too long for the call to show, short enough to share 20 us of work.
CHUNK = 4096

# Work of an element that takes an exponential or a logarithm, in the unit of `launch`: 0.15 to 0.7
# ns on one core with AVX-512, which copies 35 bytes in a ns.
TRANSCENDENTAL = 10


def chunks(size: int) -> int:
    """How many chunks `size` elements make."""
    return -(-size // CHUNK)


def rows_per_chunk(length: int) -> int:
    """How many rows of `length` elements a chunk has where a row may not be cut."""
    return max(1, CHUNK // max(1, length))


def launch_elements(chunk: Any, work: int, *args: Any) -> None:
    """Launch a kernel whose task t does the elements t*CHUNK … (t+1)*CHUNK - 1 of all its arrays.

    Parameters
    ----------
    chunk : kernel
        Sees every array flat.
    work : int
        Work per element, in the unit of `threads.launch`.
    *args : ndarray or scalar
        The first is an array; the others may be arrays of its shape, scalars, or arrays of
        another size, such as one with a place per task.
    """
    size = args[0].size
    flat = [a.reshape(-1) if isinstance(a, np.ndarray) else a for a in args]
    launch(chunk, chunks(size), work * size, *flat)
