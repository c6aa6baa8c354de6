"""The one place that decides how kernels are compiled and cached.

Three decorators, and no kernel uses Numba's own:

`kernel`  a serial function that may reorder and contract sums (convolution, dense, updates)
`exact`   the same without any floating-point licence (pooling, softmax, losses)
`shell`   the one `prange` of the CPU kernels, in threads.py

A kernel that is to be shared among threads does one chunk: its first argument is the chunk's
number, the others are whole arrays, and `threads.launch` runs it for every number.

Nothing compiles before its first call. No signature is given to any decorator, because Numba
compiles those on import.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba.core import config as numba_config
from numba.core.caching import FunctionCache, IndexDataCacheFile

# Numba's settings; its module is filled in at run time, which type checkers cannot see.
config: Any = numba_config

# Every licence but nnan and ninf: a NaN or an infinity stays where direct arithmetic puts it.
REORDER = frozenset({"nsz", "arcp", "contract", "afn", "reassoc"})


@cache
def source_digest() -> str:
    """SHA-256 of every source file below kernels/.

    Numba notices an edit of the file that a cached function stands in, and of no other: code that
    was inlined from a helper's file, or emitted by an @intrinsic, would go on running in its old
    form. The digest is part of each cache entry's stamp, so any edit makes all of them stale.
    """
    digest = hashlib.sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _Cache(FunctionCache):
    """Numba's on-disk cache, with the digest in the stamp."""

    def __init__(self, py_func: Callable[..., Any]) -> None:
        super().__init__(py_func)
        stamp = (self._impl.locator.get_source_stamp(), source_digest())
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=stamp,
        )


@cache
def _warn_uncached(reason: str) -> None:
    warnings.warn(
        f"fastcnn compiles its kernels anew in every process: {reason}. Set NUMBA_CACHE_DIR to a "
        "writable folder to keep them, or FASTCNN_CACHE=0 to silence this.",
        RuntimeWarning,
        stacklevel=4,
    )


def _compile(py_func: Callable[..., Any], **options: Any) -> Any:
    dispatcher = numba.njit(nogil=True, error_model="numpy", boundscheck=False, **options)(py_func)
    if config.DISABLE_JIT or os.environ.get("FASTCNN_CACHE") == "0":
        return dispatcher
    try:
        dispatcher._cache = _Cache(py_func)
    except RuntimeError:  # "cannot cache function …: no locator available"
        _warn_uncached("no folder for the cache is writable")
    return dispatcher


def kernel(py_func: Callable[..., Any]) -> Any:
    """Compile a serial kernel that may reorder sums."""
    return _compile(py_func, fastmath=set(REORDER))


def exact(py_func: Callable[..., Any]) -> Any:
    """Compile a serial kernel in strict IEEE arithmetic."""
    return _compile(py_func)


def shell(py_func: Callable[..., Any]) -> Any:
    """Compile a function whose outermost `prange` is shared among Numba's threads."""
    return _compile(py_func, parallel=True)
