"""Whether launches are being written down, and where: see kernels/cuda/graphs.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import RLock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastcnn.kernels.cuda.target.launching import Recorded


class NotRecordable(RuntimeError):
    """Something was done while launches were written down that cannot be repeated with them."""


# Where launches are written down, in this thread or task.
_written: ContextVar[list[Recorded] | None] = ContextVar("fastcnn_cuda_written", default=None)

# All lists that are being written now, whatever the thread; held while that changes or must not.
_all_written: list[list[Recorded]] = []
_holding = RLock()


@contextmanager
def writing_down(launches: list[Recorded]) -> Iterator[None]:
    """Within a `with` block, append every launch to a list; the simulator runs none of them.

    A driver decides by its stream's state: see graphs.py.
    """
    token = _written.set(launches)
    with _holding:
        _all_written.append(launches)
    try:
        yield
    finally:
        with _holding:
            _all_written.pop()  # one for one: whose it is makes no difference
        _written.reset(token)


def is_recording() -> bool:
    """Whether launches are being written down in this thread or task."""
    return _written.get() is not None


@contextmanager
def nobody_records() -> Iterator[bool]:
    """Whether no thread is writing launches down, which none begins to within a `with` block."""
    with _holding:
        yield not _all_written


def expect_not_recording(what: str) -> None:
    """NotRecordable, if launches are being written down."""
    if is_recording():
        raise NotRecordable(f"{what} cannot be part of a graph")


def written() -> list[Recorded] | None:
    """Where to write launches down; None if nowhere."""
    return _written.get()
