"""Streams: on which to work whatever the arrays say, and one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import checked, driver

_stream: ContextVar[int | None] = ContextVar("fastcnn_cuda_stream", default=None)


@contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """Within a `with` block, do all work on this stream, whatever the arrays say."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


def chosen(own: int) -> int:
    """The stream of `on_stream`, where there is one, else `own`."""
    stream = _stream.get()
    return own if stream is None else stream


def follow(stream: int, other: int) -> None:
    """Let what is launched on `stream` from now on come after what `other` has been given."""
    if stream == other or target.simulated():
        return
    untimed = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
    event = checked(*driver.cuEventCreate(untimed))
    try:
        checked(*driver.cuEventRecord(event, other))
        checked(*driver.cuStreamWaitEvent(stream, event, 0))
    finally:
        checked(*driver.cuEventDestroy(event))  # once it has happened
