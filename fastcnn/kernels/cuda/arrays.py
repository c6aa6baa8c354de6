"""Arrays that live on a GPU: seen alike whoever made them, and made alike for whoever gave them.

Anything with `__cuda_array_interface__` goes in. What comes out is of the kind of the first array
of the call: a torch tensor for torch, a CuPy array for CuPy, else a Numba device array. Work is
done on the stream that the owner has current: torch's, CuPy's, or the one that a Numba array or
the interface names. Nothing is copied between host and device, and nothing waits, but where
`to_host` says so.
"""

from __future__ import annotations

from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels.cuda import memory, target
from fastcnn.kernels.cuda.array_kinds import (
    NUMBA,
    SIMULATED,
    TORCH,
    NumbaKind,
    expect_current,
    is_contiguous,
    kind_of,
)
from fastcnn.kernels.cuda.streams import chosen


class DeviceArray:
    """A C-contiguous array on the device, as operations and kernels see it.

    Attributes
    ----------
    owner : object
        The caller's array, or what is given back to the caller.
    shape, dtype, ndim, size, itemsize, nbytes
        As of an ndarray.
    pointer, stream : int
        Address of the first element; address of the stream on which to work with it.
    shared : bool
        One number that stands for all of `shape`: a bias that all outputs share.
    """

    device = "cuda"
    __cuda_ndarray__ = True  # what `is_device_array` knows it by

    def __init__(
        self,
        owner: Any,
        kind: NumbaKind,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        pointer: int,
        stream: int,
        shared: bool = False,
    ) -> None:
        self.owner, self.kind, self.shape, self.dtype = owner, kind, shape, dtype
        self.pointer, self.stream, self.shared = pointer, stream, shared
        self.ndim, self.size, self.itemsize = len(shape), prod(shape), dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @cached_property
    def flat(self) -> Any:
        """The simulator's own memory, as a flat array."""
        return self.owner._ary.reshape(-1)

    def __len__(self) -> int:
        return self.shape[0]

    def empty(self, shape: tuple[int, ...], dtype: Any) -> DeviceArray:
        """A new array of the same kind, for the same stream."""
        dtype = np.dtype(dtype)
        owner = self.kind.empty(shape, dtype, self.stream, self.owner)
        return _seen(owner, self.kind, shape, dtype, self.stream)

    def reshape(self, *shape: int) -> DeviceArray:
        """The same memory in another shape."""
        if -1 in shape:
            known = -prod(shape)
            shape = tuple(self.size // known if n == -1 else n for n in shape)
        owner = self.kind.reshaped(self.owner, shape)
        return DeviceArray(owner, self.kind, shape, self.dtype, self.pointer, self.stream)

    def copied(self, shape: tuple[int, ...]) -> DeviceArray:
        """New memory with the same elements, in another shape."""
        made = self.empty(shape, self.dtype)
        self.copy_into(made)
        return made

    def copy_into(self, other: DeviceArray) -> None:
        """Copy all elements into another array of the same size and type."""
        from fastcnn.kernels.cuda.elements import copy

        copy(self, other)

    def write(self, values: np.ndarray) -> None:
        """Copy all elements from a host array of the same size."""
        memory.write(self.owner, np.ascontiguousarray(values, self.dtype), self.stream)

    def shared_by(self, units: int) -> DeviceArray:
        """This one number as a bias of so many outputs."""
        shape = (units,)
        return DeviceArray(
            self.owner, self.kind, shape, self.dtype, self.pointer, self.stream, shared=True
        )

    def taken(self, rows: DeviceArray) -> DeviceArray:
        """The rows that `rows` (int64) names, counted along the first axis."""
        from fastcnn.kernels.cuda.rows import take

        made = self.empty((rows.size, *self.shape[1:]), self.dtype)
        take(self, rows, made)
        return made

    def part(self, start: int, stop: int) -> DeviceArray:
        """The rows from start to stop, in place."""
        step = self.itemsize * prod(self.shape[1:])
        shape = (stop - start, *self.shape[1:])
        pointer = self.pointer + start * step
        owner = self.owner[start:stop]
        return DeviceArray(owner, self.kind, shape, self.dtype, pointer, self.stream)

    def one_hot(self, classes: int, dtype: np.dtype[Any]) -> DeviceArray:
        """Rows of 0 and one 1 from class numbers; rows of NaN for numbers of no class."""
        from fastcnn.kernels.cuda.loss import one_hot

        rows = self.empty((*self.shape, classes), dtype)
        one_hot(self, rows)
        return rows

    def uploaded(self, values: np.ndarray) -> DeviceArray:
        """Host values on the device, for the same stream; of Numba's kind, for kernels alone."""
        return to_device(values, self.stream)

    def overlaps(self, other: DeviceArray) -> bool:
        """Whether two contiguous arrays share memory."""
        if target.simulated():
            return np.shares_memory(self.flat, other.flat)
        end, other_end = self.pointer + self.nbytes, other.pointer + other.nbytes
        return self.pointer < other_end and other.pointer < end


def is_device_array(value: Any) -> bool:
    """Whether an array lives on a GPU (or in the simulator's)."""
    if getattr(value, "__cuda_ndarray__", False):
        return True
    if getattr(value, "requires_grad", False):  # whose interface raises
        return bool(getattr(value, "is_cuda", False))
    return hasattr(value, "__cuda_array_interface__")


def _seen(
    owner: Any, kind: NumbaKind, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int
) -> DeviceArray:
    if kind is SIMULATED:
        pointer = 0
    elif kind is TORCH:
        pointer = owner.data_ptr()
    else:
        pointer = memory.pointer_of(owner)
    return DeviceArray(owner, kind, shape, dtype, pointer, stream)


def device_array(value: Any, name: str) -> DeviceArray:
    """A caller's array on the device.

    Raises
    ------
    CudaUnavailable
        No CUDA package, driver or device.
    TypeError
        A tensor that requires grad.
    ValueError
        On another device than the current one, or strided and of a kind that fastcnn does not copy.
    """
    if isinstance(value, DeviceArray):
        return value
    target.require_device()
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{name} is a tensor that requires grad, and fastcnn records no graph: "
            f"pass {name}.detach()"
        )
    kind = kind_of(value)
    if kind is SIMULATED:
        flags = value._ary.flags
        if not flags.c_contiguous:
            kind.contiguous(value, name)
        return _seen(value, kind, tuple(value._ary.shape), value._ary.dtype, 0)
    expect_current(value, kind, name)
    if value.__cuda_array_interface__.get("strides") is not None and not is_contiguous(value):
        value = kind.contiguous(value, name)
    interface = value.__cuda_array_interface__
    stream = chosen(kind.stream(value))
    dtype = np.dtype(interface["typestr"])
    pointer = int(interface["data"][0] or 0)
    return DeviceArray(value, kind, tuple(interface["shape"]), dtype, pointer, stream)


def to_device(values: np.ndarray, stream: int = 0) -> DeviceArray:
    """A host array (C order, native) copied to the device; returns once it has been read."""
    stream = chosen(stream)
    owner = memory.placed(values, stream)
    kind = SIMULATED if target.simulated() else NUMBA
    return _seen(owner, kind, values.shape, values.dtype, stream)


def to_host(array: DeviceArray) -> np.ndarray:
    """A copy on the host, once the array's stream has come that far."""
    target.expect_not_recording("reading from the host")
    values = np.empty(array.shape, array.dtype)
    if target.simulated():
        values[...] = array.owner._ary
    else:
        memory.read(array.pointer, values, array.stream)
    return values
