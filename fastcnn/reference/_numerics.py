"""What every operation of the reference shares: its arithmetic type and its checks of operands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
DType = np.dtype[Any]

PRECISIONS = ("float64", "input")
# A context variable is per thread and per asynchronous task: one benchmark's choice of precision
# never reaches a test that runs beside it.
_precision: ContextVar[str] = ContextVar("fastcnn_reference_precision", default="float64")


@contextmanager
def compute_in(precision: str) -> Iterator[None]:
    """Choose the type in which the reference computes, for the body of a ``with`` statement.

    Calls may be nested; the previous choice returns at the end of the block. The choice belongs to
    the current thread (or asynchronous task) alone.

    Parameters
    ----------
    precision : {"float64", "input"}
        "float64" (what holds outside any block) makes the reference an oracle: every operation
        computes in float64 and rounds once, to the input's type. "input" computes in the input's
        own type, which makes it the fair NumPy peer of a float32 kernel in a benchmark.

    Raises
    ------
    ValueError
        If `precision` is neither of the two, on entering the block.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"compute_in takes 'float64' or 'input', got {precision!r}")
    token = _precision.set(precision)
    try:
        yield
    finally:
        _precision.reset(token)


def float_type(array: Array, name: str) -> DType:
    """The native float32 or float64 type of `array`, or the TypeError that says how to get one."""
    native = array.dtype.newbyteorder("=")
    if native not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(
            f"{name} must be float32 or float64, but got {array.dtype}; "
            f"convert it: {name}.astype(np.float32)"
        )
    return native


def load(**operands: npt.ArrayLike | None) -> tuple[DType, list[Any]]:
    """Check that the operands share one float type and convert them to the computing type.

    Parameters
    ----------
    **operands : array_like or None
        The operands under the names the caller gave them; None passes through for b, the bias.

    Returns
    -------
    dtype : numpy.dtype
        The operands' common type, native, which the result must be given (see `store`).
    arrays : list of numpy.ndarray or None
        The operands in the computing type, in the order given.

    Raises
    ------
    TypeError
        If an operand is neither float32 nor float64, or if two operands differ.
    """
    arrays: dict[str, Array] = {}
    dtype: DType | None = None
    for name, operand in operands.items():
        if operand is None and name == "b":
            continue
        if operand is None:
            raise TypeError(f"{name} must be an array of float32 or float64, but got None")
        arrays[name] = np.asarray(operand)
        found = float_type(arrays[name], name)
        dtype = found if dtype is None else dtype
        if found != dtype:
            first = next(iter(arrays))
            raise TypeError(
                f"mixed types: {name} is {found}, but {first} is {dtype}; "
                f"convert one of them, for example {name}.astype(np.{dtype})"
            )
    if dtype is None:
        raise TypeError(f"expected arrays for {', '.join(operands)}, but got None")
    computing = np.dtype(np.float64) if _precision.get() == "float64" else dtype
    loaded = {name: array.astype(computing, copy=False) for name, array in arrays.items()}
    return dtype, [loaded.get(name) for name in operands]


def number(value: object, name: str) -> float:
    """Read one real number, or raise the TypeError that says what was given instead."""
    scalar = np.asarray(value)
    if scalar.ndim or scalar.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a number, but got {value!r}")
    return float(scalar)


def store(result: npt.ArrayLike, dtype: DType) -> Array:
    """Round a result once, to the type of the operands it came from."""
    # A float64 result beyond float32's range is inf, as it is in every float32 computation.
    with np.errstate(over="ignore"):
        return np.asarray(result).astype(dtype, copy=False)


def quiet() -> np.errstate:
    """Let inf and NaN propagate as values, without NumPy's warnings about them."""
    return np.errstate(over="ignore", invalid="ignore")


def size(shape: Sequence[int]) -> str:
    """A shape as the error texts that people search for print it: ``[1, 3, 8, 8]``."""
    return str([int(n) for n in shape])


def expect_shape(array: Array, name: str, expected: Sequence[int], why: str) -> None:
    """Raise ValueError unless `array` has exactly the `expected` shape; nothing broadcasts."""
    if array.shape != tuple(expected):
        raise ValueError(f"{name} must have shape {tuple(expected)} ({why}), but got {array.shape}")
