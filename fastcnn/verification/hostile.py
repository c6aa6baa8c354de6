"""Arrays and arguments as callers really pass them: every memory layout, and every mistake.

A form keeps an array's values and changes how they lie in memory; `mistakes` are values that an
argument should mostly not have. Both serve `fuzz.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
Form = Callable[[Array], Array]


def _filled(shape: Any, dtype: Any) -> Array:
    """Memory round an array, full of what must never be read: NaN, or the largest integer."""
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


def _plain(a: Array) -> Array:
    return a.copy()


def _every(of_an_axis: slice, a: Array) -> Any:
    """An index that takes this slice of every axis; a view for no axes, too."""
    return (..., *(of_an_axis for _ in a.shape))


def _strided(a: Array) -> Array:
    """Every second element along every axis."""
    outer = _filled([2 * n for n in a.shape], a.dtype)
    view = outer[_every(slice(1, None, 2), a)]
    view[...] = a
    return view


def _reversed(a: Array) -> Array:
    back = _every(slice(None, None, -1), a)
    return a[back].copy()[back]


def _transposed(a: Array) -> Array:
    """The first axis innermost in memory, with room behind each row."""
    outer = _filled((*a.shape[1:], a.shape[0] + 1), a.dtype) if a.ndim else a.copy()
    view = np.moveaxis(outer, -1, 0)[: a.shape[0]] if a.ndim else outer
    view[...] = a
    return view


def _inside(a: Array) -> Array:
    """C order, aligned to one element only, within other memory."""
    outer = _filled(a.size + 8, a.dtype)
    view = outer[3 : 3 + a.size].reshape(a.shape)
    view[...] = a
    return view


def _unaligned(a: Array) -> Array:
    outer = np.full(a.nbytes + 16, 0xA5, np.uint8)
    view = outer[1 : 1 + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view


def _byte_swapped(a: Array) -> Array:
    return a.astype(a.dtype.newbyteorder())


def _read_only(a: Array) -> Array:
    a = a.copy()
    a.flags.writeable = False
    return a


# Forms that can also be written to: `out=`, and what the optimizer steps change.
WRITABLE: dict[str, Form] = {
    "plain": _plain,
    "strided": _strided,
    "F order": lambda a: np.array(a, order="F"),
    "reversed": _reversed,
    "transposed": _transposed,
    "inside": _inside,
    "unaligned": _unaligned,
    "byte-swapped": _byte_swapped,
}
FORMS: dict[str, Form] = {**WRITABLE, "read-only": _read_only}


def _other_float(a: Array) -> Array:
    return a.astype(np.float32 if a.dtype == np.float64 else np.float64)


# What may come in the place of an array of floats.
ARRAY_MISTAKES: dict[str, Callable[[Array], Any]] = {
    "float16": lambda a: np.zeros(a.shape, np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "complex": lambda a: a.astype(np.complex64),
    "integers": lambda a: np.zeros(a.shape, np.int64),
    "bools": lambda a: a > 0,
    "objects": lambda a: a.astype(object),
    "strings": lambda a: a.astype(str),
    "the other float": _other_float,
    "a list": lambda a: a.tolist(),
    "one axis more": lambda a: a[np.newaxis],
    "one axis less": lambda a: a.reshape(-1, *a.shape[2:]) if a.ndim > 1 else a,
    "last axis longer": lambda a: np.concatenate([a, a[..., :1]], -1) if a.ndim else a,
    "last axis shorter": lambda a: a[..., :-1] if a.ndim else a,
    "first axis shorter": lambda a: a[:-1] if a.ndim else a,
    "no axes": lambda a: np.array(1, a.dtype),
    "no elements": lambda a: a[:0] if a.ndim else a,
    "None": lambda a: None,
    "a number": lambda a: 1.5,
    "a string": lambda a: "array",
    "a ragged list": lambda a: [[1.0, 2.0], [3.0]],
    "an empty list": lambda a: [],
    "a dict": lambda a: {},
}

_KEEP_TYPE = (
    *("one axis more", "one axis less", "last axis longer", "last axis shorter", "no axes"),
    *("complex", "strings", "None", "a number", "a string", "a ragged list", "a dict"),
)

# What may come in the place of a mask or of labels. Other integers may not: the kernels want a mask
# in its own type, the reference in any.
INTEGER_MISTAKES: dict[str, Callable[[Array], Any]] = {
    **{name: ARRAY_MISTAKES[name] for name in _KEEP_TYPE},
    "too large": lambda a: a + a.dtype.type(100),
    "too small": lambda a: a - a.dtype.type(1),
}

_COUNTS = (0, -1, 2, 1.5, "1", None, True, np.int64(2), np.float64(1), (), (1,), (1, 2, 3), [2, 1])
_PAIRS = (*_COUNTS, (0, 1), (1, -1), (1.0, 2), (True, 1), np.array([1, 2]), 2**70, (1, "2"))
_SHAPES = (
    None,
    3,
    "1234",
    (),
    (1, 2),
    (1, 2, 3, -4),
    (1, 2, 3, 4.0),
    (1, 2, 3, 4, 5),
    [1, 1, 9, 9],
)
_NUMBERS = (
    *(0.5, 0, 1, -1.0, np.float32(0.25), np.array(0.5), True, np.nan),
    *("0.1", None, 1j, np.complex64(1j), np.array([0.1])),
)

# What may come in the place of other arguments, by their names. Some of it is right.
VALUES: dict[str, tuple[Any, ...]] = {
    "stride": _PAIRS,
    "dilation": _PAIRS,
    "kernel_size": (*_PAIRS, 100),
    "padding": (
        *_PAIRS,
        *("valid", "same", "same_upper", "same_lower", "SAME", "", "reflect"),
        *((0, 1), (1, 0, 0, 1), [0, 1], (1, 1, 1, -1), 40, np.uint8(1)),
    ),
    "groups": (0, -1, 2, 3, 1.0, "1", None, True, np.int64(1), (1,), 2**70),
    "input_shape": _SHAPES,
    "weight_shape": _SHAPES,
    "axis": (0, -1, 5, -6, 1.0, None, "0", (0,), True, np.int64(0)),
    "reduction": ("mean", "sum", "none", "avg", "", None, 1, b"mean", "MEAN"),
    "at_zero": _NUMBERS,
    "learning_rate": _NUMBERS,
    "momentum": _NUMBERS,
    "beta_1": (*_NUMBERS, 0.99),
    "beta_2": (*_NUMBERS, 0.99),
    "step": (0, -1, 2, 1.0, "1", None, True, np.int64(3), 10**6),
}
