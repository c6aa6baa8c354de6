"""Numbers, pairs, paddings and shapes as callers write them, turned into plain tuples of ints."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from marshal import dumps
from numbers import Real
from operator import index
from typing import Any

from numpy.lib.array_utils import normalize_axis_index

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]  # top, bottom, left, right

PADDING_STRINGS = ("valid", "same", "same_upper", "same_lower")

# Kernels compute with 64-bit offsets: sums of a few such numbers still fit.
_LIMIT = 2**60
_PLAIN = (int, float, str, bool, type(None))


def _integers(value: Any, name: str, lengths: tuple[int, ...], least: int) -> tuple[int, ...]:
    """`value` as a tuple of ints of an allowed length; an int stands for all of them."""
    if type(value) is int and least <= value < _LIMIT:
        return (value,) * lengths[0]
    wanted = " or ".join(["an int", *(f"{n} ints" for n in lengths)])
    given = f"{name} must be {wanted}, but got {value!r}"
    is_list = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    members = value if is_list else (value,)
    try:
        if any(isinstance(v, bool) for v in members):
            raise TypeError
        numbers = tuple(index(v) for v in members)
    except TypeError:
        raise TypeError(given) from None
    if not is_list:
        numbers *= lengths[0]
    if len(numbers) not in lengths:
        raise ValueError(given)
    if min(numbers) < least:
        raise ValueError(f"{name} must be at least {least}, but got {value!r}")
    if max(numbers) >= _LIMIT:
        raise ValueError(f"{name} must be below 2**60, but got {value!r}")
    return numbers


def whole(value: Any, name: str, least: int = 1) -> int:
    """One int of at least `least`.

    Raises
    ------
    TypeError, ValueError
        Anything else.
    """
    try:
        if isinstance(value, bool):
            raise TypeError
        number = index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, but got {value!r}") from None
    if number < least:
        raise ValueError(f"{name} must be at least {least}, but got {value!r}")
    return number


def axis_of(value: Any, dimensions: int) -> int:
    """The axis of an array of so many dimensions, counted from its start.

    Raises
    ------
    TypeError
        No int.
    numpy.exceptions.AxisError
        No such axis (a ValueError).
    """
    try:
        return normalize_axis_index(value, dimensions)
    except TypeError:
        raise TypeError(f"axis must be an int, but got {value!r}") from None


def one_of(value: Any, name: str, known: Collection[str]) -> str:
    """A name that is known; ValueError otherwise, with all that are, and the nearest."""
    if isinstance(value, str) and value in known:
        return value
    # Only now: importing fastcnn should not pay for it.
    from difflib import get_close_matches

    near = get_close_matches(str(value).lower(), known, n=1, cutoff=0.8)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(
        f"{name} must be one of {', '.join(map(repr, known))}, but got {value!r}{hint}"
    )


def real(value: Any, name: str) -> float:
    """One real number: a Python or NumPy scalar, or an array without dimensions.

    Raises
    ------
    TypeError
        Anything else.
    """
    if isinstance(value, Real) or (
        getattr(value, "ndim", None) == 0 and value.dtype.kind in "biuf"
    ):
        return float(value)
    raise TypeError(f"{name} must be a number, but got {value!r}")


def pair(value: Any, name: str, least: int = 1) -> Pair:
    """One number for both directions, or (vertical, horizontal).

    Raises
    ------
    TypeError, ValueError
        Not one or two integers of at least `least`.
    """
    v, h = _integers(value, name, (2,), least)
    return v, h


def shape_of(value: Any, name: str, ranks: tuple[int, ...]) -> tuple[int, ...]:
    """A caller's shape as a tuple of non-negative ints, of an allowed rank (empty: any)."""
    try:
        numbers = tuple(index(v) for v in value)
    except TypeError:
        raise TypeError(f"{name} must be a tuple of ints, but got {value!r}") from None
    if ranks and len(numbers) not in ranks:
        wanted = " or ".join(str(r) for r in ranks)
        raise ValueError(f"{name} must have {wanted} dimensions, but got {list(numbers)}")
    if numbers and min(numbers) < 0:
        raise ValueError(f"{name} must not have negative sizes, but got {list(numbers)}")
    return numbers


def padding_of(padding: Any) -> str | Sides:
    """A padding's name, or its four numbers in whatever form they were given.

    Raises
    ------
    TypeError, ValueError
        No such name; not one, two or four integers of at least 0.
    """
    if isinstance(padding, str):
        if padding not in PADDING_STRINGS:
            raise ValueError(
                f"Invalid padding string: {padding!r}, should be one of "
                "'valid', 'same', 'same_upper', 'same_lower'"
            )
        return padding
    numbers = _integers(padding, "padding", (2, 4), 0)
    if len(numbers) == 2:
        v, h = numbers
        return v, v, h, h
    return numbers[0], numbers[1], numbers[2], numbers[3]


def sides_of(padding: str | Sides, size: Pair, window: Pair, stride: Pair, dilation: Pair) -> Sides:
    """What `padding_of` returned, as (top, bottom, left, right) for these sizes.

    "same" is PyTorch's rule: total = dilation*(k-1), the smaller half first. "same_upper" and
    "same_lower" are ONNX's (Keras's "same" is the former): the output has ceil(size/stride)
    elements at any stride, and the odd element of padding goes to the end or to the start.
    """
    if not isinstance(padding, str):
        return padding
    if padding == "valid":
        return 0, 0, 0, 0
    if padding == "same" and stride != (1, 1):
        raise ValueError(
            "padding='same' is not supported for strided convolutions and pooling; 'same_upper' "
            "is TensorFlow's and Keras's rule for them"
        )
    sides: list[int] = []
    for length, k, s, d in zip(size, window, stride, dilation, strict=True):
        if padding == "same":
            total = d * (k - 1)
        else:
            total = max((-(-length // s) - 1) * s + d * (k - 1) + 1 - length, 0)
        small, large = total // 2, total - total // 2
        sides += [large, small] if padding == "same_lower" else [small, large]
    return sides[0], sides[1], sides[2], sides[3]


def is_plain(parameter: Any) -> bool:
    """Whether marshal's bytes of a parameter tell its type: NumPy's numbers' are bare numbers."""
    if type(parameter) in (tuple, list):
        return all(map(is_plain, parameter))
    return type(parameter) in _PLAIN


class Remembered:
    """What was made of arguments, found again by the very arguments, in the form they came in.

    1, 1.0 and True are told apart, which as keys of a dictionary they are not: reading arguments
    again takes 3 us, finding them here 1, and a small layer is computed in 2.
    """

    _MOST = 4096

    def __init__(self) -> None:
        self._made: dict[bytes, Any] = {}

    def find(self, given: tuple[Any, ...]) -> Any:
        """What was kept for these arguments; None for new ones."""
        try:
            return self._made.get(dumps(given, 2))
        except ValueError:  # of types that have no such bytes
            return None

    def keep(self, given: tuple[Any, ...], made: Any) -> Any:
        """Keep what was made of these arguments, and return it."""
        if is_plain(given):
            if len(self._made) >= self._MOST:
                self._made.clear()
            self._made[dumps(given, 2)] = made
        return made
