"""Numbers, pairs, paddings and shapes as callers write them, turned into plain tuples of ints."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index
from typing import Any

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]  # top, bottom, left, right

PADDING_STRINGS = ("valid", "same", "same_upper", "same_lower")


def _integers(value: Any, name: str, lengths: tuple[int, ...], least: int) -> tuple[int, ...]:
    """`value` as a tuple of ints of an allowed length; an int stands for all of them."""
    wanted = " or ".join(["an int", *(f"{n} ints" for n in lengths)])
    if isinstance(value, bool):
        raise TypeError(f"{name} must be {wanted}, but got {value!r}")
    try:
        numbers = (index(value),) * lengths[0]
    except TypeError:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise TypeError(f"{name} must be {wanted}, but got {value!r}") from None
        if any(isinstance(v, bool) for v in value):
            raise TypeError(f"{name} must be {wanted}, but got {value!r}") from None
        try:
            numbers = tuple(index(v) for v in value)
        except TypeError:
            raise TypeError(f"{name} must be {wanted}, but got {value!r}") from None
    if len(numbers) not in lengths:
        raise ValueError(f"{name} must be {wanted}, but got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"{name} must be at least {least}, but got {value!r}")
    return numbers


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
    """A shape given by the caller, as a tuple of non-negative ints of an allowed rank."""
    try:
        numbers = tuple(index(v) for v in value)
    except TypeError:
        raise TypeError(f"{name} must be a tuple of ints, but got {value!r}") from None
    if len(numbers) not in ranks:
        wanted = " or ".join(str(r) for r in ranks)
        raise ValueError(f"{name} must have {wanted} dimensions, but got {list(numbers)}")
    if numbers and min(numbers) < 0:
        raise ValueError(f"{name} must not have negative sizes, but got {list(numbers)}")
    return numbers


def hashable(value: Any) -> Any:
    """A list as a tuple, so that it can be a key; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def sides_of(padding: Any, size: Pair, window: Pair, stride: Pair, dilation: Pair) -> Sides:
    """The padding as (top, bottom, left, right), whatever form it was given in.

    "same" is PyTorch's rule: total = dilation*(k-1), the smaller half first. "same_upper" and
    "same_lower" are ONNX's (Keras's "same" is the former): the output has ceil(size/stride)
    elements at any stride, and the odd element of padding goes to the end or to the start.
    """
    if isinstance(padding, str):
        if padding == "valid":
            return 0, 0, 0, 0
        if padding not in PADDING_STRINGS:
            raise ValueError(
                f"Invalid padding string: {padding!r}, should be one of "
                "'valid', 'same', 'same_upper', 'same_lower'"
            )
        if padding == "same" and stride != (1, 1):
            raise ValueError(
                "padding='same' is not supported for strided convolutions; 'same_upper' is "
                "TensorFlow's and Keras's rule for them"
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
    numbers = _integers(padding, "padding", (2, 4), 0)
    if len(numbers) == 2:
        v, h = numbers
        return v, v, h, h
    return numbers[0], numbers[1], numbers[2], numbers[3]
