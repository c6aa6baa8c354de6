"""The one place that decides how kernels are compiled and cached.

Five decorators, and no kernel uses Numba's own:

`kernel`  a serial function that may reorder and contract sums (convolution, dense, updates)
`exact`   the same without any floating-point licence (pooling, softmax, losses)
`shell`   the one `prange` of the CPU kernels, in threads.py
`inner`   what a kernel calls for each block of its work: as `kernel`, without reference counts
`entry`   what Python calls to run the others

and two for what kernels call: `in_place_of` gives a Python function the code that compiled callers
run for it, `helper` makes such code callable by more of it. Their products and sums may be
contracted to one rounding, not reordered.

A kernel that is to be shared among threads does one chunk: its first argument is the chunk's
number, the others are whole arrays, and `threads.launch` runs it for every number.

The code that takes Python's objects apart, which Numba adds to every function for each of its
types, is an eighth of what a small network's first step compiled. Only an `entry` has it; compiled
code calls the others.

Nothing compiles before its first call. No signature is given to any decorator, because Numba
compiles those on import.
"""

from __future__ import annotations

import gc
import os
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from typing import Any

import numba
from numba.core import config as numba_config
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import overload, register_jitable

from fastcnn.kernels.cpu.cache import KernelCache

# Numba's settings; its module is filled in at run time, which type checkers cannot see.
config: Any = numba_config

# Every licence but nnan and ninf: a NaN or an infinity stays where direct arithmetic puts it.
REORDER = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})
_CONTRACT: Any = {"fastmath": {"contract"}, "error_model": "numpy"}


@cache
def _warn_uncached(reason: str) -> None:
    warnings.warn(
        f"fastcnn compiles its kernels anew in every process: {reason}. Set NUMBA_CACHE_DIR to a "
        "writable folder to keep them, or FASTCNN_CACHE=0 to silence this.",
        RuntimeWarning,
        stacklevel=4,
    )


def _undisturbed(compile_: Callable[..., Any], signature: Any) -> Any:
    """Compile while Python's collector of cycles waits.

    The compiler makes millions of objects, and few that only the collector would free: it ran 1,700
    times in a small network's first step, for a tenth of the time. Under Numba's lock, so that no
    two compilations, nor a fork, meet the other's setting.
    """
    with global_compiler_lock:
        if not gc.isenabled():
            return compile_(signature)
        gc.disable()
        try:
            return compile_(signature)
        finally:
            gc.enable()


def _out_of_reach(compile_: Callable[..., Any], signature: Any) -> Any:
    """Compile where no signal can interrupt it.

    A KeyboardInterrupt inside Numba's compiler leaves its tables of types half filled, and nothing
    compiles afterwards (seen on Numba 0.68.1). Python runs signal handlers in the main thread
    alone: that thread only waits, and Ctrl-C ends the wait while the compilation goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        return compile_(signature)
    outcome: Future[Any] = Future()

    def work() -> None:
        try:
            outcome.set_result(compile_(signature))
        except BaseException as error:
            outcome.set_exception(error)

    try:
        threading.Thread(target=work, name="fastcnn-compiler").start()
    except RuntimeError:  # no more threads: the interpreter is shutting down, or at its limit
        work()
    return outcome.result()


def _compile(py_func: Callable[..., Any], entry: bool = False, **options: Any) -> Any:
    options |= {"no_cpython_wrapper": not entry, "no_cfunc_wrapper": True}
    dispatcher = numba.njit(nogil=True, error_model="numpy", boundscheck=False, **options)(py_func)
    if config.DISABLE_JIT:
        return dispatcher
    if not entry:
        _add_entry_at_need(dispatcher, partial(_compile, py_func, entry=True, **options))
    dispatcher.compile = partial(_out_of_reach, partial(_undisturbed, dispatcher.compile))
    if os.environ.get("FASTCNN_CACHE") == "0":
        return dispatcher
    try:
        dispatcher._cache = KernelCache(py_func, _warn_uncached, entry)
    except RuntimeError as error:
        _warn_uncached(str(error))
    return dispatcher


def _add_entry_at_need(dispatcher: Any, compile_entry: Callable[[], Any]) -> None:
    """Let Python call what has no entry from it: by another compilation, which has one.

    None of the package's calls comes this way. A dispatcher asks `_compile_for_args` for what to
    call when it has nothing for the arguments' types, and so it is told of nothing.
    """
    twin = cache(compile_entry)
    dispatcher._insert = lambda *_: None
    dispatcher._compile_for_args = lambda *args: twin()._compile_for_args(*args)


def kernel(py_func: Callable[..., Any]) -> Any:
    """Compile a serial kernel that may reorder sums."""
    return _compile(py_func, fastmath=set(REORDER))


def inner(py_func: Callable[..., Any]) -> Any:
    """Compile what a kernel calls with its own arrays, and which makes none.

    Numba counts a reference to every array around every use, in atomic additions, and leaves out
    only what it can see to cancel; around loops that an intrinsic emits it cannot. Twelve of them
    for a register tile took 70 ns of one thread, and more of two, who count the same arrays.
    """
    return _compile(py_func, fastmath=set(REORDER), _nrt=False)


def exact(py_func: Callable[..., Any]) -> Any:
    """Compile a serial kernel in strict IEEE arithmetic."""
    return _compile(py_func)


def shell(py_func: Callable[..., Any]) -> Any:
    """Compile a function whose outermost `prange` is shared among Numba's threads."""
    return _compile(py_func, parallel=True)


def entry(py_func: Callable[..., Any]) -> Any:
    """Compile a serial kernel that Python calls with its objects."""
    return _compile(py_func, entry=True, fastmath=set(REORDER))


def in_place_of(function: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate what returns, for Numba's types of the arguments, the body to compile for a call."""
    return overload(function, jit_options=_CONTRACT)


def helper(py_func: Callable[..., Any]) -> Any:
    """Make a function callable from a body of `in_place_of`."""
    return register_jitable(**_CONTRACT)(py_func)
