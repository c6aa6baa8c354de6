"""What a GPU can do at the most: kernels that multiply and do nothing else, and a plain copy.

    FFMA            y_i <- a y_i + b, 16 chains a thread: an FFMA takes 4 cycles, a multiprocessor
                    starts 128 a cycle, and 16 warps of 16 chains are twice as many as cover that
    tensor cores    C_i <- A B + C_i, 8 chains of m16n8 a warp, from registers, in TF32 or bf16:
                    what mma.sync reaches, which every tensor-core kernel here uses (wgmma, on
                    sm_90, is said to reach half as much again)

Memory is touched once, at the end, so that the compiler keeps the products.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.kernels.cuda import elements, memory, target, timing
from fastcnn.kernels.cuda.arrays import DeviceArray, to_device
from fastcnn.kernels.cuda.indices import element, threads
from fastcnn.kernels.cuda.ptx import as_word, multiply_bf16, multiply_tf32
from fastcnn.kernels.cuda.target import cuda, kernel, real

THREADS, BLOCKS_PER_SM = 256, 2
CHAINS, STEPS = 16, 16  # FFMA: chains of a thread, and steps of each between two jumps
TILES, PRODUCTS = 8, 4  # tensor cores: accumulators of a warp, and products likewise
# Depth of a product of 16 x 8, by the 32 threads of a warp, and its instruction.
_KINDS: dict[str, tuple[int, Any]] = {"tf32": (8, multiply_tf32), "bf16": (16, multiply_bf16)}
multiply: Any = multiply_tf32  # settled with the program
# Rounds of a timed launch: some milliseconds on any GPU, far more than launching takes.
_ROUNDS = 4096
# Bytes of the arrays that are copied: more than any cache holds.
_COPIED = 1 << 30
# Launches of which the fastest counts.
_RUNS = 10


@kernel("real* y, int32 rounds", threads=THREADS, blocks_per_sm=BLOCKS_PER_SM, unroll=True)
def _multiply_adds(y, rounds):
    own = cuda.local.array(CHAINS, real)
    a, b = y[0], y[1]
    for chain in range(CHAINS):
        own[chain] = real(chain)
    for _ in range(rounds):
        for _step in range(STEPS):
            for chain in range(CHAINS):
                own[chain] = a * own[chain] + b
    total = real(0)
    for chain in range(CHAINS):
        total += own[chain]
    y[2 + element()] = total


@kernel("float32* y, int32 rounds", threads=THREADS, blocks_per_sm=BLOCKS_PER_SM, unroll=True)
def _multiply_tiles(y, rounds):
    c0, c1 = cuda.local.array(TILES, np.float32), cuda.local.array(TILES, np.float32)
    c2, c3 = cuda.local.array(TILES, np.float32), cuda.local.array(TILES, np.float32)
    a, b = as_word(y[0]), as_word(y[1])
    for tile in range(TILES):
        c0[tile] = c1[tile] = c2[tile] = c3[tile] = np.float32(tile)
    for _ in range(rounds):
        for _step in range(PRODUCTS):
            for tile in range(TILES):
                before = (c0[tile], c1[tile], c2[tile], c3[tile])
                c = multiply(before, (a, b, a, b), (b, a))
                c0[tile], c1[tile], c2[tile], c3[tile] = c[0], c[1], c[2], c[3]
    total = np.float32(0)
    for tile in range(TILES):
        total += (c0[tile] + c1[tile]) + (c2[tile] + c3[tile])
    y[2 + element()] = total


def _rounds() -> int:
    return 1 if target.simulated() else _ROUNDS


def _run(program: target.Program, block: int) -> tuple[float, int]:
    """Seconds of the fastest launch on all multiprocessors, and how many threads it had."""
    blocks = BLOCKS_PER_SM * target.multiprocessors()
    # a and b, whose products neither overflow nor vanish, and a result for each thread
    y = to_device(np.full(2 + blocks * block, 0.5, np.float32))

    def launch() -> None:
        program.launch(y.stream, (blocks,), block, y, _rounds())

    return timing.least_seconds(launch, _RUNS, y.stream), blocks * block


def multiply_adds() -> float:
    """FLOP/s of float32 multiply-adds, two each."""
    seconds, count = _run(_multiply_adds.of(real="float32"), threads(THREADS))
    return 2 * CHAINS * STEPS * _rounds() * count / seconds


def tensor_cores(kind: str) -> float | None:
    """FLOP/s of products in "tf32" or "bf16" by mma.sync; None where there are none."""
    if target.simulated() or target.architecture(target.current_device())[:2] < (8, 0):
        return None
    depth, instruction = _KINDS[kind]
    seconds, count = _run(_multiply_tiles.of(multiply=instruction), THREADS)
    return 2 * 16 * 8 * depth * TILES * PRODUCTS * _rounds() * (count // 32) / seconds


def copied() -> float:
    """Bytes per second, read and written, of a copy far beyond the caches."""
    size = 64 if target.simulated() else _COPIED
    seconds = _copy_seconds(size)
    memory.trim()
    return 2 * size / seconds


def _copy_seconds(size: int) -> float:
    """Of a copy of so many bytes; its arrays are let go."""
    x = to_device(np.zeros(size // 4, np.float32))
    y: DeviceArray = x.empty(x.shape, x.dtype)
    return timing.least_seconds(lambda: elements.copy(x, y), _RUNS, x.stream)
