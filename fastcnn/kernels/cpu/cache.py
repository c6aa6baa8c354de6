"""Compiled kernels on disk: what makes an entry stale, and files that many processes may share.

Numba's own cache has three faults here, each seen on Numba 0.68.1:

- it notices an edit of the file that a function stands in, and of no other: code that was inlined
  from a helper's file, or emitted by an @intrinsic, goes on running in its old form;
- an index file names numbered data files, and nothing locks the two: of two cold processes that
  save two signatures at once, one can later be given the other's machine code;
- a truncated file, or a full disk, raises out of the user's call.

So an entry here is one file, named by a hash of everything that it depends on, written whole or not
at all, and checked when read. Where it lies is Numba's choice: NUMBA_CACHE_DIR, else the
`__pycache__` beside the source, else the user's cache folder.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba.core.caching import FunctionCache
from numba.core.serialize import dumps


@cache
def source_digest() -> str:
    """SHA-256 of every source file below kernels/, so that any edit makes every entry stale.

    Raises
    ------
    RuntimeError
        No source to read, as in a zip archive.
    """
    digest = sha256()
    root = Path(__file__).parent.parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode())
        digest.update(path.read_bytes())
    if digest.digest() == sha256().digest():
        raise RuntimeError("the kernels' source cannot be read, and so its edits not be noticed")
    return digest.hexdigest()


@cache
def _compilers() -> tuple[str, str]:
    return numba.__version__, version("llvmlite")


def _hash(value: Any) -> str:
    return sha256(repr(value).encode()).hexdigest()[:32]


class _Entries:
    """The compiled signatures of one function, in files `function-python-stamp-key.nbc`.

    A file is the SHA-256 of its payload, then the payload: the pickled key and data.
    """

    def __init__(self, folder: Path, function: str, stamp: Any) -> None:
        self._folder = folder
        self._function = f"{function}-{sys.implementation.cache_tag}"
        self._prefix = f"{self._function}-{_hash(stamp)}"

    def _path(self, key: Any) -> Path:
        return self._folder / f"{self._prefix}-{_hash(key)}.nbc"

    def load(self, key: Any) -> Any:
        """The data saved under `key`; None if there are none, or none that are whole."""
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        payload = content[32:]
        if sha256(payload).digest() != content[:32]:
            return None
        saved_key, data = pickle.loads(payload)
        return data if saved_key == key else None

    def save(self, key: Any, data: Any) -> None:
        """Write an entry, and remove those of earlier versions of the source."""
        payload = dumps((key, data))
        unfinished = self._folder / f"{self._prefix}.{uuid4().hex}.tmp"
        try:
            unfinished.write_bytes(sha256(payload).digest() + payload)
            unfinished.replace(self._path(key))
        finally:
            unfinished.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._function}-*.nbc"):
            if not path.name.startswith(self._prefix):
                path.unlink(missing_ok=True)

    def flush(self) -> None:
        """Remove every entry of this function."""
        for path in self._folder.glob(f"{self._function}-*.nbc"):
            path.unlink(missing_ok=True)


class KernelCache(FunctionCache):
    """Numba's cache of a function, over the entries above.

    Parameters
    ----------
    py_func : callable
    warn : callable
        Told why entries cannot be kept, once it turns out that they cannot.
    entry : bool
        Whether it is the function as Python calls it, which other compiled code lacks.

    Raises
    ------
    RuntimeError
        No folder is writable, or there is no source to compare with.
    """

    _cache_file: Any

    def __init__(
        self, py_func: Callable[..., Any], warn: Callable[[str], None], entry: bool = False
    ) -> None:
        try:
            super().__init__(py_func)
        except RuntimeError as error:  # "cannot cache function …: no locator available for file …"
            raise RuntimeError("no folder for the cache is writable") from error
        self._warn = warn
        name = f"{Path(py_func.__code__.co_filename).stem}.{py_func.__qualname__}"
        name += ".entry" if entry else ""
        source = (self._impl.locator.get_source_stamp(), source_digest())
        self._cache_file = _Entries(
            Path(self._cache_path), name.translate({ord("<"): None, ord(">"): None}),
            (_compilers(), source),
        )  # fmt: skip

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        # Two functions of one name in one file, such as those a factory makes, differ in their line
        return self._py_func.__code__.co_firstlineno, super()._index_key(sig, codegen)

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk, or a folder that went away
            self.disable()
            self._warn(f"writing to {self._cache_path} failed ({error.strerror})")
