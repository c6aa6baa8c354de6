"""Read exactly what a file declares: no more memory than bytes that really arrive."""

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

# One read: large enough to be fast, small enough not to matter when a file lies.
CHUNK = 1 << 20
# NumPy 2 has no arrays of more dimensions.
MAX_DIMENSIONS = 64
# Deflate's longest match is 258 bytes and its shortest code for one takes 2 bits, so that no
# stream can expand more than 258 * 8 / 2 = 1032 times. What declares more lies.
DEFLATE_LIMIT = 1032


class Readable(Protocol):
    """Anything with read(n), as files, gzip streams and members of zip archives have."""

    def read(self, size: int, /) -> bytes: ...


def declared_bytes(shape: Sequence[int], itemsize: int) -> int:
    """Return the bytes of an array of this shape.

    Raises
    ------
    ValueError
        If no NumPy array can have this shape. NumPy counts an axis of length 0 as 1 here, and so
        refuses (0, 2**62, 2**62).
    """
    if len(shape) > MAX_DIMENSIONS:
        raise ValueError(f"{len(shape)} dimensions, at most {MAX_DIMENSIONS} are possible")
    for axis, size in enumerate(shape):
        if size < 0:
            raise ValueError(f"the size of dimension {axis} is negative: {size}")
    if math.prod(max(size, 1) for size in shape) * itemsize > np.iinfo(np.intp).max:
        raise ValueError("the sizes are beyond any array")
    return math.prod(shape) * itemsize


def read_exactly(stream: Readable, count: int, what: str) -> bytearray:
    """Read `count` bytes; memory grows with what arrives, not with what was declared.

    Raises
    ------
    ValueError
        If the stream ends early; the message starts with `what`.
    """
    content = bytearray()
    while len(content) < count:
        chunk = stream.read(min(CHUNK, count - len(content)))
        if not chunk:
            raise ValueError(f"{what}: the file ends after {len(content)} of {count} bytes")
        content += chunk
    return content


def read_last(stream: Readable, count: int, what: str) -> bytearray:
    """Read `count` bytes that must be the last ones of the stream.

    Raises
    ------
    ValueError
        If the stream ends early or goes on; the message starts with `what`.
    """
    content = read_exactly(stream, count, what)
    if stream.read(1):
        raise ValueError(f"{what}: more bytes follow than the {count} declared")
    return content
