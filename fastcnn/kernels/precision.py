"""The precision in force: which algorithms may serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PRECISIONS = ("ieee", "float32", "tf32")

_precision: ContextVar[str] = ContextVar("fastcnn_precision", default="float32")


def current() -> str:
    """The precision in force in this thread or task."""
    return _precision.get()


@contextmanager
def precision(name: str) -> Iterator[None]:
    """Choose which algorithms `algorithm="auto"` may take, within a `with` block.

    Parameters
    ----------
    name : str
        "ieee": direct and GEMM algorithms in plain multiply-adds. "float32" (the default): also
        transforms such as Winograd's, within 1e-5 relative error in norm. "tf32": also TF32 tensor
        cores, on CUDA; on the CPU it is the same as "float32".

    Raises
    ------
    ValueError
        Another name.
    """
    if name not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}, but got {name!r}")
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)
