"""Arrays as pickles describe them, built from the arguments of NumPy's constructors without a call.

NumPy's own ``__setstate__`` of arrays and types trusts its arguments; here each is checked, and the
only types are plain numbers.
"""

from enum import Enum
from typing import Any

import numpy as np

from fastcnn.files.streams import declared_bytes

NUMBER_TYPES = frozenset(["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"])


class Name(Enum):
    """The only global names a pickle may mention, as marks; none is ever called."""

    NDARRAY = "numpy.ndarray"
    DTYPE = "numpy.dtype"
    RECONSTRUCT = "numpy._core.multiarray._reconstruct"
    FROMBUFFER = "numpy._core.numeric._frombuffer"
    ENCODE = "_codecs.encode"  # how Python 3 writes bytes in protocol 2


class PickledType:
    """A number type in the making: its code first, its byte order when its state arrives."""

    def __init__(self, code: str) -> None:
        if code not in NUMBER_TYPES:
            raise ValueError(f"type {code[:40]!r}: only arrays of plain numbers are read")
        self.code = code
        self.order = "="

    def set_state(self, state: object) -> None:
        """Take (version, byte order, no subarray, no names, no fields, …)."""
        match state:
            case (3 | 4, str() | bytes() as order, None, None, None, *_):
                self.order = _text(order)
            case _:
                raise ValueError("the state of a dtype is not that of a plain number")
        if self.order not in ("|", "<", ">", "="):
            raise ValueError(f"byte order {self.order[:40]!r} is unknown")

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class PickledArray:
    """An array in the making: empty until its state arrives."""

    def __init__(self) -> None:
        self.value: np.ndarray = np.empty(0, np.uint8)

    def set_state(self, state: object) -> None:
        """Take (version, shape, dtype, Fortran order?, bytes), or that without the version."""
        match state:
            case (1, shape, PickledType() as kind, fortran, bytes() as content):
                self.fill(shape, kind, bool(fortran), content)
            case (shape, PickledType() as kind, fortran, bytes() as content):
                self.fill(shape, kind, bool(fortran), content)
            case _:
                raise ValueError("the state of an array is not shape, dtype, order and bytes")

    def fill(self, shape: object, kind: PickledType, fortran: bool, content: bytes) -> None:
        if not isinstance(shape, tuple) or not all(type(size) is int for size in shape):
            raise ValueError("the shape of an array is not a tuple of integers")
        dtype = kind.dtype()
        declared = declared_bytes(shape, dtype.itemsize)
        if declared != len(content):
            raise ValueError(
                f"an array's shape {shape} declares {declared} bytes, it has {len(content)}"
            )
        self.value = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def known_name(module: str, attribute: str) -> Name:
    """Look a global name up among the known ones; nothing is imported."""
    name = f"{module}.{attribute}"
    try:
        # numpy.core became numpy._core in NumPy 2; both spellings are in use.
        return Name(name.replace("numpy.core.", "numpy._core.", 1))
    except ValueError:
        raise ValueError(
            f"the pickle asks for {name[:100]!r}; only NumPy arrays, lists, dictionaries, "
            "strings and numbers are read, and nothing is executed"
        ) from None


def made(name: Name, arguments: tuple[Any, ...]) -> object:
    """Build what a call of `name` would have built, from its arguments alone."""
    match name, arguments:
        case Name.RECONSTRUCT, (Name.NDARRAY, (0,), "b" | b"b"):
            return PickledArray()
        case Name.DTYPE, (str() | bytes() as code, _, _):
            return PickledType(_text(code))
        case Name.FROMBUFFER, (
            bytes() as content,
            PickledType() as kind,
            shape,
            "C" | "F" as order,
        ):
            array = PickledArray()
            array.fill(shape, kind, order == "F", content)
            return array
    raise ValueError(f"the arguments of {name.value} are not those of a plain array of numbers")
