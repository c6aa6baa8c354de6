"""A layer's parameters by name, with checks on assignment."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import numpy as np

from fastcnn.functional.devices import assign, to_host

Array = np.ndarray


class Parameters(MutableMapping[str, Array]):
    """Name -> live array: what the layer computes with at its next forward pass.

    Edit the arrays in place (``parameters["weight"] *= 2``) or assign: the values are copied into
    the layer's own array, which stays the same object for as long as the layer lives.

    Raises
    ------
    KeyError
        For a name that the layer does not have, or does not have yet.
    ValueError, TypeError
        On assignment of another shape or type.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._arrays: dict[str, Array] = {}

    def create(self, name: str, values: Array) -> None:
        """Take `values` itself as the parameter `name`; for the layer's build."""
        self._arrays[name] = values

    def __getitem__(self, name: str) -> Array:
        try:
            return self._arrays[name]
        except KeyError:
            has = (
                f"has {', '.join(self._arrays)}"
                if self._arrays
                else "has none (those that depend on the input exist from build(input_shape) "
                "or the first forward)"
            )
            raise KeyError(f"no parameter {name!r}: {self._owner} {has}") from None

    def __setitem__(self, name: str, values: Any) -> None:
        array = self[name]
        values = to_host(values)
        refusal = difference(array, values)
        if refusal:
            raise (TypeError if "type" in refusal else ValueError)(
                f"parameter {name!r} of {self._owner}: {refusal}"
            )
        assign(array, values)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a layer's parameters cannot be deleted")

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return repr(self._arrays)


def difference(array: Array, values: Array) -> str:
    """Why `values` cannot replace those of `array`: another shape or type; empty if they can."""
    if values.shape != array.shape:
        return f"expected shape {array.shape}, but got {values.shape}"
    if values.dtype.newbyteorder("=") != array.dtype:
        return (
            f"expected type {array.dtype}, but got {values.dtype}; "
            f"convert it: .astype('{array.dtype}')"
        )
    return ""
