"""On which stream to work, whatever the arrays say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

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
