"""Arrays that live on a GPU: seen alike whoever made them, and made alike for whoever gave them.

Anything with `__cuda_array_interface__` goes in. What comes out is of the kind of the first array
of the call: a torch tensor for torch, a CuPy array for CuPy, else a Numba device array. Work is
done on the stream that the owner has current: torch's, CuPy's, or the one that a Numba array or
the interface names. Nothing is copied between host and device, and nothing waits, but where
`to_host` says so.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels.cuda import memory, target

_stream: ContextVar[int | None] = ContextVar("fastcnn_cuda_stream", default=None)


@contextmanager
def on_stream(stream: int) -> Iterator[None]:
    """Within a `with` block, do all work on this stream, whatever the arrays say."""
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)


class _NumbaKind:
    """Numba device arrays, and whatever else offers the interface and nothing more."""

    name = "Numba device array"

    def stream(self, owner: Any) -> int:
        return int(owner.__cuda_array_interface__.get("stream") or 0)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        return memory.allocate(shape, dtype, stream)

    def contiguous(self, owner: Any, name: str) -> Any:
        raise ValueError(
            f"{name} is a strided array on the device; pass a contiguous copy of it "
            "(C order), which fastcnn does not make behind your back"
        )

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        made = owner.reshape(shape)
        made.stream = owner.stream  # which Numba forgets
        return made


class _SimulatedKind(_NumbaKind):
    """The simulator's arrays, which wrap NumPy's and have no interface."""

    def stream(self, owner: Any) -> int:
        return 0

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return type(owner)(owner._ary.reshape(shape))


class _TorchKind(_NumbaKind):
    """torch.cuda's tensors, on torch's current stream, from torch's allocator."""

    name = "torch tensor"

    def stream(self, owner: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(owner.device).cuda_stream)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def contiguous(self, owner: Any, name: str) -> Any:
        return owner.contiguous()

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return owner.reshape(shape)


class _CuPyKind(_NumbaKind):
    """CuPy's arrays, on CuPy's current stream, from CuPy's pool."""

    name = "CuPy array"

    def stream(self, owner: Any) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        return sys.modules["cupy"].empty(shape, dtype)

    def contiguous(self, owner: Any, name: str) -> Any:
        return sys.modules["cupy"].ascontiguousarray(owner)

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return owner.reshape(shape)


_NUMBA, _SIMULATED, _TORCH, _CUPY = _NumbaKind(), _SimulatedKind(), _TorchKind(), _CuPyKind()


def _kind(owner: Any) -> _NumbaKind:
    # Whoever holds such an array has imported its package.
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(owner, torch.Tensor):
        return _TORCH
    if cupy is not None and isinstance(owner, cupy.ndarray):
        return _CUPY
    return _SIMULATED if target.simulated() else _NUMBA


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
        kind: _NumbaKind,
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
    owner: Any, kind: _NumbaKind, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int
) -> DeviceArray:
    if kind is _SIMULATED:
        pointer = 0
    elif kind is _TORCH:
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
    kind = _kind(value)
    if kind is _SIMULATED:
        flags = value._ary.flags
        if not flags.c_contiguous:
            kind.contiguous(value, name)
        return _seen(value, kind, tuple(value._ary.shape), value._ary.dtype, 0)
    _expect_current(value, kind, name)
    if value.__cuda_array_interface__.get("strides") is not None and not _contiguous(value):
        value = kind.contiguous(value, name)
    interface = value.__cuda_array_interface__
    chosen = _stream.get()
    stream = kind.stream(value) if chosen is None else chosen
    dtype = np.dtype(interface["typestr"])
    pointer = int(interface["data"][0] or 0)
    return DeviceArray(value, kind, tuple(interface["shape"]), dtype, pointer, stream)


def _contiguous(value: Any) -> bool:
    interface = value.__cuda_array_interface__
    step = np.dtype(interface["typestr"]).itemsize
    pairs = zip(interface["shape"], interface["strides"], strict=True)
    for size, stride in reversed(list(pairs)):
        if size == 0:
            return True
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def _expect_current(value: Any, kind: _NumbaKind, name: str) -> None:
    if kind is _TORCH:
        own, current = value.device.index, sys.modules["torch"].cuda.current_device()
    elif kind is _CUPY:
        own, current = value.device.id, sys.modules["cupy"].cuda.Device().id
    else:
        return
    if own != current:
        raise ValueError(
            f"{name} is on device {own}, but device {current} is the current one: work within "
            f"`with torch.cuda.device({own})` (CuPy: `with cupy.cuda.Device({own})`)"
        )


def follow(stream: int, other: int) -> None:
    """Let what is launched on `stream` from now on come after what `other` has been given."""
    if stream == other or target.simulated():
        return
    driver, checked = target.driver, target.checked
    untimed = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
    event = checked(*driver.cuEventCreate(untimed))
    try:
        checked(*driver.cuEventRecord(event, other))
        checked(*driver.cuStreamWaitEvent(stream, event, 0))
    finally:
        checked(*driver.cuEventDestroy(event))  # once it has happened


def to_device(values: np.ndarray, stream: int = 0) -> DeviceArray:
    """A host array (C order, native) copied to the device; returns once it has been read."""
    chosen = _stream.get()
    stream = stream if chosen is None else chosen
    owner = memory.placed(values, stream)
    kind = _SIMULATED if target.simulated() else _NUMBA
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
