"""The forms in which the same numbers can come to a public function.

Each form is a function from a plain array to `(value, memory)`: what to hand in, and an array over
all the memory that the value lies in, of which no bit may change. Gaps are filled with NaN (or the
largest integer), so that what is read from them shows in the result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from fastcnn.memory import Pool

Form = Callable[[np.ndarray], tuple[Any, np.ndarray]]


def poison(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of NaN, or of the type's largest integer."""
    dtype = np.dtype(dtype)
    return np.full(shape, np.nan if dtype.kind == "f" else np.iinfo(dtype).max, dtype)


class PoisonedPool(Pool):
    """New memory each time, full of NaN."""

    def __init__(self) -> None:
        super().__init__(bound=0, least=0)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        found = super().empty(shape, dtype)
        found.fill(np.nan)
        return found


def strided(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """Every second element of every axis."""
    memory = poison(tuple(2 * n for n in a.shape), a.dtype)
    view = memory[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view, memory


def fortran(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """Column-major."""
    value = np.asfortranarray(a)
    return value, value.T


def reversed_axes(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """Negative strides along every axis."""
    backwards = tuple(slice(None, None, -1) for _ in a.shape)
    memory = a[backwards].copy()
    return memory[backwards], memory


def inside(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """In C order, but at an address that is aligned to one element only."""
    memory = poison((a.size + 6,), a.dtype)
    view = memory[3 : 3 + a.size].reshape(a.shape)
    view[...] = a
    return view, memory


def unaligned(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """At an address that is not a multiple of the element's size."""
    memory = np.zeros(a.nbytes + 2, np.uint8)
    view = memory[1 : 1 + a.nbytes].view(a.dtype).reshape(a.shape)
    view[...] = a
    return view, memory


def byte_swapped(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """The other byte order."""
    value = a.astype(a.dtype.newbyteorder())
    return value, value


class Subclass(np.ndarray):
    """As pandas, astropy and others make them."""


def subclass(a: np.ndarray) -> tuple[Any, np.ndarray]:
    value = a.copy()
    return value.view(Subclass), value


def read_only(a: np.ndarray) -> tuple[Any, np.ndarray]:
    value = a.copy()
    value.flags.writeable = False
    return value, value


def memory_map(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """Pages that the processor itself protects: a write would kill the process."""
    with tempfile.TemporaryFile() as file:
        file.write(a.tobytes() or b"\0")
        file.flush()
        value = np.memmap(file, a.dtype, "r", shape=a.shape)
    return value, value


class _Interface:
    def __init__(self, array: np.ndarray) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array = array


def array_interface(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """An object with __array_interface__ and nothing else."""
    value = a.copy()
    return _Interface(value), value


class _DLPack:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


def dlpack(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """An object with __dlpack__ and nothing else."""
    value = a.copy()
    return _DLPack(value), value


class _Array:
    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self._array


def array_method(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """An object with __array__ and nothing else."""
    value = a.copy()
    return _Array(value), value


def torch_tensor(a: np.ndarray) -> tuple[Any, np.ndarray]:
    """A PyTorch tensor in CPU memory."""
    import torch

    value = a.copy()
    return torch.from_numpy(value), value


# Arrays that can be written to, whatever their layout: `out=` and in-place arguments take them too.
WRITABLE: dict[str, Form] = {
    "strided": strided,
    "fortran": fortran,
    "reversed": reversed_axes,
    "inside": inside,
    "unaligned": unaligned,
    "byte_swapped": byte_swapped,
    "subclass": subclass,
}
READABLE: dict[str, Form] = {
    "read_only": read_only,
    "memory_map": memory_map,
    "array_interface": array_interface,
    "dlpack": dlpack,
    "array_method": array_method,
}
if find_spec("torch") is not None:
    READABLE["torch_tensor"] = torch_tensor
