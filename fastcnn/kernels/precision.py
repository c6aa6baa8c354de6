"""The precision in force: which algorithms may serve."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

PRECISIONS = ("ieee", "float32", "tf32", "f16", "bf16")

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
        transforms such as Winograd's, within 1e-5 relative error in norm. The others allow tensor
        cores on CUDA that round what is multiplied, and add up in float32: "tf32" to 10 bits of
        mantissa; "f16" to IEEE half precision as well (10 bits; infinite from 65520 on, and losing
        bits below 6e-5); "bf16" to bfloat16, or to TF32 (7 bits, float32's range). Arrays stay
        float32. On the CPU, and wherever no such kernel serves, they are the same as "float32".

    Notes
    -----
    A precision allows and does not demand, as `torch.set_float32_matmul_precision` and
    `jax.default_matmul_precision` do: weights and results keep their type, and only products of
    convolutions and dense layers lose bits.

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
