"""Sharing a kernel's chunks among threads: how many, under which lock, and when not at all.

Each thread has a share of the tasks, neighbours of each other, and takes what others have left of
theirs when it is done: one that starts late (a thread that sleeps takes 0.15 to 0.3 ms to wake on a
virtual machine), or that something else holds up, is not waited for while there is work.

There is one `prange` for all kernels, compiled once. It knows neither a chunk nor the types of its
arguments, only addresses (calls.py): a chunk compiled into its own parallel function would be
optimised again at each of that function's three levels, which took 5.5 s for the portable
convolution; a shell compiled for each chunk's types took 0.3 s, 3 s of a small network's first
step. It also means that a chunk runs the same machine code, and gives the same bits, on any number
of threads.
"""

from __future__ import annotations

import os
import threading
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import prange, types
from numba.core.compiler_lock import global_compiler_lock
from numba.np.ufunc import parallel as numba_parallel

from fastcnn.kernels.cpu.atomics import APART, look, swap
from fastcnn.kernels.cpu.calls import address_of, call_at, call_chunk, call_shell
from fastcnn.kernels.cpu.jit import config, entry, exact, kernel, shell

# A launch costs 4 to 20 us on the machines measured; work below this many FLOPs (or bytes, for
# work that only moves memory) is done sooner by the calling thread alone.
WORTH_SHARING = 400_000

# A share of tasks is one word, so that it changes at once: its first task, and above, its end.
_LOW = 0xFFFFFFFF

_lock = threading.RLock()
_requested: int | None = None
_forked = False


def _before_fork() -> None:
    # A child gets every lock as it is: one that another thread held would stay shut in it for ever.
    # In the order in which a launch takes them.
    _lock.acquire()
    global_compiler_lock.acquire()


def _after_fork_in_parent() -> None:
    global_compiler_lock.release()
    _lock.release()


def _after_fork_in_child() -> None:
    # GNU OpenMP kills a child whose parent had launched threads, and the other layers' threads do
    # not exist there: such a child works serially.
    global _forked
    _forked = _forked or numba_parallel._is_initialized
    _after_fork_in_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def set_num_threads(n: int) -> None:
    """Set how many threads fastcnn's kernels use, in the whole process.

    Parameters
    ----------
    n : int
        At least 1. More threads than cores is legal; results do not depend on it. Numba's pool has
        NUMBA_NUM_THREADS threads, by default as many as there are cores; a larger number uses all
        of them.

    Raises
    ------
    TypeError, ValueError
        `n` is not an int, or is below 1.
    """
    global _requested
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"the number of threads must be an int, but got {n!r}")
    n = n.__index__()
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, but got {n}")
    _requested = n


def get_num_threads() -> int:
    """Number of threads that `set_num_threads` was given; NUMBA_NUM_THREADS if it never was."""
    return config.NUMBA_NUM_THREADS if _requested is None else _requested


def _layer_needs_lock() -> bool:
    # The workqueue layer aborts the process when two Python threads launch at once. Which layer
    # serves is not known before the first launch.
    return not numba_parallel._is_initialized or numba.threading_layer() == "workqueue"


@kernel
def _take(left, place, first):
    """Take the first or the last task of a share off it; -1 if none is left."""
    while True:
        now = look(left, place)
        start, end = now & _LOW, now >> 32
        if start >= end:
            return -1
        rest = (start + 1, end) if first else (start, end - 1)
        if swap(left, place, now, rest[0] | rest[1] << 32):
            return start if first else end - 1


@kernel
def _work(caller, place, address, left, own):
    """Do a thread's share from its beginning, then what the others have left, from their ends."""
    failures = 0
    for i in range(0, left.size, APART):
        share = (own + i) % left.size
        task = _take(left, share, i == 0)
        while task >= 0:
            failures += call_at(caller, place, address, task)
            task = _take(left, share, i == 0)
    return failures


@shell
def _shell(caller, place, address, tasks, threads):
    left = np.empty(threads * APART, np.int64)
    for t in range(threads):
        left[t * APART] = tasks * t // threads | tasks * (t + 1) // threads << 32
    failures = 0
    for t in prange(threads):
        failures += _work(caller, place, address, left, t * APART)
    return failures


@entry
def _run(address, tasks, args, shell, threads):
    """All tasks: by the shell at address `shell`, or by the calling thread alone if that is 0."""
    if shell:
        return call_shell(shell, address, tasks, threads, args)
    failures = 0
    for task in range(tasks):
        failures += call_chunk(address, task, args)
    return failures


@cache
def _shell_address() -> int:
    return address_of(_shell, (types.intp,) * 5)


class Launch(NamedTuple):
    """A chunk to be run: its address, for every task in range(tasks), with these arguments.

    If it `tells`, the sum of the last of its arrays that the call has made is what the call
    returns, or how many numbers it could not take.
    """

    address: int
    tasks: int
    work: int
    args: tuple[Any, ...]
    tells: bool = False

    @property
    def worth_sharing(self) -> bool:
        """Whether threads would do it sooner than the calling thread alone."""
        return self.tasks > 1 and self.work >= WORTH_SHARING


# Where launches are written down while someone records them (replay.py).
tape: ContextVar[list[Launch] | None] = ContextVar("fastcnn_tape", default=None)

_addresses: dict[Any, int] = {}


def _address(chunk: Any, args: tuple[Any, ...]) -> int:
    # What Numba's types of the arguments follow from: asking Numba for six takes 1 us more. A
    # chunk's array has the same number of dimensions in every launch.
    kinds = [a.dtype if type(a) is np.ndarray else type(a) for a in args]
    key = (chunk, *kinds)
    address = _addresses.get(key)
    if address is None:
        for a in args:
            if isinstance(a, np.ndarray) and not a.flags.carray:
                raise AssertionError(f"chunk {chunk.__name__} is launched on arrays as they come")
        signature = (types.intp, *[numba.typeof(a) for a in args])
        address = address_of(chunk, signature)
        if chunk.overloads[signature].signature.return_type != types.none:
            raise AssertionError(f"chunk {chunk.__name__} must return nothing")
        _addresses[key] = address
    return address


def launch(chunk: Any, tasks: int, work: int, *args: Any, tells: bool = False) -> None:
    """Run `chunk(task, *args)` for every task in range(tasks), on threads where that pays.

    Parameters
    ----------
    chunk : kernel
        Writes to disjoint parts of its output for different tasks, and returns nothing.
    tasks : int
    work : int
        FLOPs (or bytes, where a kernel only moves memory) of the whole call. Small work is done by
        the calling thread.
    *args : ndarray, int or float
        Canonical arrays and scalars; no tuples, which Numba's prange cannot pass on.
    tells : bool
        For recordings: see `Launch`.

    Raises
    ------
    MemoryError
        A chunk could not allocate its scratch memory.
    """
    if config.DISABLE_JIT:
        with np.errstate(all="ignore"):  # compiled code does not warn either
            for task in range(tasks):
                chunk(task, *args)
        return
    this = Launch(_address(chunk, args), tasks, work, args, tells)
    launches = tape.get()
    if launches is not None:
        launches.append(this)
    if execute(this):
        raise MemoryError(f"no memory for the workspace of {chunk.__name__}")


@exact
def _clear_chunk(task, array):
    for i in range(len(array)):
        array[i] = 0


def zeros(size: int, dtype: Any) -> np.ndarray:
    """As `numpy.zeros`, and written down for those who record launches."""
    array = np.zeros(size, dtype)
    launches = tape.get()
    if launches is not None:
        launches.append(Launch(_address(_clear_chunk, (array,)), 1, 0, (array,)))
    return array


def sharers(tasks: int, work: int) -> int:
    """How many threads at the most run tasks of such a launch at a time."""
    threads = min(get_num_threads(), config.NUMBA_NUM_THREADS)
    return 1 if _forked or tasks < 2 or work < WORTH_SHARING else threads


def execute(this: Launch) -> int:
    """Run a launch, on threads where that pays; returns how many of its tasks failed."""
    address, tasks, work, args, _ = this
    threads = sharers(tasks, work)
    if threads < 2:
        return _run(address, tasks, args, 0, 1)
    return share(threads, _run, address, tasks, args)


def share(threads: int, run: Any, *args: Any) -> Any:
    """run(*args, address of the shell, threads), which may call the shell with so many threads."""
    if _layer_needs_lock():
        with _lock:
            return _share(threads, run, args)
    return _share(threads, run, args)


def _share(threads: int, run: Any, args: tuple[Any, ...]) -> Any:
    # Numba's count is per Python thread, and other libraries change it: looked at in every launch,
    # and put back for the caller's own Numba code.
    before = numba.get_num_threads()
    if before == threads:  # setting it twice takes 3 us
        return run(*args, _shell_address(), threads)
    try:
        numba.set_num_threads(threads)
        return run(*args, _shell_address(), threads)
    finally:
        numba.set_num_threads(before)
