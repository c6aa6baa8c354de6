"""Which part of the work a thread does, divisions that cost little, and sums over a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import Program, cuda, helper

# Threads per block of kernels in which each thread works by itself: enough warps to hide the
# memory's latency, few enough that a block's end wastes little. In the simulator every thread is
# one of Python's.
THREADS = 256
_SIMULATED = 4

# Blocks along y and z are numbered in 16 bits; kernels whose grids could be larger stride by this.
MOST_BLOCKS = 65535


def threads(number: int = THREADS) -> int:
    """Threads per block: `number`, or a few in the simulator."""
    return _SIMULATED if target.simulated() else number


def launch_elements(program: Program, stream: int, n: int, *arguments: Any) -> None:
    """Launch a kernel of one thread for each of n elements."""
    per_block = threads()
    program.launch(stream, (-(-n // per_block),), per_block, *arguments)


@helper
def element():
    """The number of this thread in the whole grid."""
    return np.int64(cuda.blockIdx.x) * cuda.blockDim.x + cuda.threadIdx.x


@helper
def add_up(partial, t, count):
    """The sum of partial[:count] of shared memory, in partial[0]; count is a power of 2.

    Halves are folded onto each other: the order depends on `count` alone. All threads take part.
    """
    cuda.syncthreads()
    step = count // 2
    while step > 0:
        if t < step:
            partial[t] += partial[t + step]
        cuda.syncthreads()
        step //= 2


@helper
def over(a, b):
    """a // b for 0 <= a, b < 2^31: unsigned and 32 bits wide, a quarter of a signed 64-bit one.

    A negative a gives a large number, and no error.
    """
    return np.int32(np.uint32(a & 0x7FFFFFFF) // np.uint32(b))


@helper
def rest(a, b):
    """a % b, likewise."""
    return np.int32(np.uint32(a & 0x7FFFFFFF) % np.uint32(b))


def reciprocal(divisor: int) -> tuple[int, int]:
    """The numbers with which `quotient` divides by `divisor`, from 1 to 2^31.

    n // d = n m >> s, exact for n < 2^31, with m = ceil(2^s / d) and s = 31 + ceil(log2 d): m d
    exceeds 2^s by less than d <= 2^(s - 31), so that n m / 2^s exceeds n / d by less than 1/d.
    """
    shift = 31 + (divisor - 1).bit_length()
    return -(-(1 << shift) // divisor), shift


@helper
def quotient(n, multiplier, shift):
    """n // d in one multiplication and one shift, for 0 <= n < 2^31; see `reciprocal`."""
    return np.int32((np.uint64(n) * np.uint64(multiplier)) >> np.uint64(shift))
