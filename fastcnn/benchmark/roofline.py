"""The machine's own limits: multiply-adds out of L1, bytes copied through memory, clock, and how
long a cache line is on its way from one core to another.

They are measured with as many threads as the work that they judge, and again and again during a
run: the clock of a shared machine wanders.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastcnn.benchmark.machine import last_cache_bytes
from fastcnn.kernels.cpu.atomics import APART, look, swap
from fastcnn.kernels.cpu.jit import config, exact, kernel
from fastcnn.kernels.cpu.peak_tile import peak_tile
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch, sharers
from fastcnn.kernels.cpu.units import vector_unit

# 256 steps of k: A and B of the tile take 47 KB on AVX-512, which is within the 48 KB L1 of the
# machines that have it, and 23 KB on AVX2, within 32 KB.
_DEPTH = 256
# Set before the kernel below is first compiled: asking Numba for its target loads a good deal.
_TILE: Any = None
_SAMPLES = 5


@dataclass(frozen=True)
class Limits:
    """What one measurement found.

    Attributes
    ----------
    threads : int
    at : float
        Seconds since the run began.
    fma_gflops : float or None
        10^9 FLOP/s of the register tile, two per multiply-add; None where no vector unit is known.
    copy_gbs : float
        10^9 bytes/s, read and written, of arrays well beyond the last cache.
    clock_ghz : float or None
        Dependent one-cycle operations per nanosecond.
    trip_ns : float or None
        Nanoseconds that a cache line takes from one thread's core to another's and back; None for
        one thread. A virtual machine's cores may be neighbours that share a cache at one moment
        and not at the next: what threads hand to each other takes so many times as long then.
    """

    threads: int
    at: float
    fma_gflops: float | None
    copy_gbs: float
    clock_ghz: float | None
    trip_ns: float | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@kernel
def _tiles(task: Any, repeats: Any, depth: Any, a: Any, b: Any, c: Any) -> None:
    """One thread's share: the same tile, from L1, over and over."""
    mine = c[task]
    for _ in range(repeats):
        _TILE(depth, a, b, mine)


@exact
def _chain(task: Any, rounds: Any, out: Any) -> None:
    """Six dependent operations of one cycle each per round: a shift and an exclusive or, thrice."""
    x = np.uint64(88172645463325252)
    for _ in range(rounds):
        x ^= x << np.uint64(13)
        x ^= x >> np.uint64(7)
        x ^= x << np.uint64(17)
    out[task] = x


@kernel
def _hand_over(task: Any, trips: Any, words: Any) -> None:
    """One of two threads that hand a word to each other in turn."""
    for i in range(trips):
        while look(words, 0) != 2 * i + task:
            pass
        swap(words, 0, 2 * i + task, 2 * i + task + 1)


def _best(work: Callable[[], Any]) -> float:
    """Shortest of a few timings, in seconds, after one that does not count."""
    work()
    found = []
    for _ in range(_SAMPLES):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def fma_peak(threads: int) -> float | None:
    """Multiply-adds of `threads` threads out of L1, in 10^9 FLOP/s."""
    global _TILE
    unit = vector_unit()
    if unit is None:
        return None
    _TILE = _TILE or peak_tile()
    columns = unit.vectors * unit.lanes(4)
    rng = np.random.default_rng(0)
    a = rng.standard_normal((_DEPTH, unit.rows), np.float32)
    b = rng.standard_normal((_DEPTH, columns), np.float32)
    # a cache line between the threads' tiles
    c = np.zeros((threads, unit.rows * columns + 16), np.float32)
    flops = 2 * _DEPTH * unit.rows * columns
    repeats = max(1, round(2e9 / flops))  # about 20 ms on one core
    seconds = _best(
        lambda: launch(_tiles, threads, threads * repeats * flops, repeats, _DEPTH, a, b, c)
    )
    return threads * repeats * flops / seconds / 1e9


def copy_bandwidth(threads: int) -> float:
    """Bytes read and written by `threads` threads that copy large arrays, in 10^9/s."""
    size = min(max(4 * last_cache_bytes(), 1 << 26), 1 << 29)
    source, target = np.ones(size, np.uint8), np.zeros(size, np.uint8)
    pieces = [slice(i * size // threads, (i + 1) * size // threads) for i in range(threads)]

    def copy(piece: slice) -> None:
        target[piece] = source[piece]

    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(copy, pieces)))
    return 2 * size / seconds / 1e9


def clock() -> float | None:
    """The clock of one busy core, in GHz."""
    if vector_unit() is None:
        return None
    rounds, out = 5_000_000, np.zeros(1, np.uint64)
    seconds = _best(lambda: launch(_chain, 1, 0, rounds, out))
    return 6 * rounds / seconds / 1e9


def round_trip(threads: int) -> float | None:
    """A cache line's way to another core and back, in ns."""
    # a thread alone would wait for ever
    if threads < 2 or config.DISABLE_JIT or sharers(2, WORTH_SHARING) < 2:
        return None
    trips, words = 2000, np.zeros(APART, np.int64)

    def hand_over() -> None:
        words[0] = 0
        launch(_hand_over, 2, WORTH_SHARING, trips, words)

    return _best(hand_over) / trips * 1e9


def measure(threads: int, at: float) -> Limits:
    """All limits, with fastcnn's kernels on `threads` threads; takes about a second."""
    return Limits(
        threads, at, fma_peak(threads), copy_bandwidth(threads), clock(), round_trip(threads)
    )
