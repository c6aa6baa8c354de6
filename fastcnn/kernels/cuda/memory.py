"""Device memory in the order of a stream: allocating and freeing it never waits for the device.

Numba's own device arrays wait for the whole device when they are freed. These come from a pool of
the driver's, are freed in the order of the stream that they were made for, and are handed out as
Numba device arrays. Within `Arena.replaying` they come from memory that an arena keeps, always the
same for the same sequence of allocations: what a captured graph needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from math import prod
from typing import Any

import numpy as np

from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import checked, driver

# Bytes beyond which the pool gives memory back to the driver: never.
_KEEP_ALL = 2**64 - 1


@cache
def _pool(device: int) -> Any:
    """One pool for each device."""
    properties = driver.CUmemPoolProps()
    properties.allocType = driver.CUmemAllocationType.CU_MEM_ALLOCATION_TYPE_PINNED
    properties.location.type = driver.CUmemLocationType.CU_MEM_LOCATION_TYPE_DEVICE
    properties.location.id = device
    pool = checked(*driver.cuMemPoolCreate(properties))
    keep = driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
    checked(*driver.cuMemPoolSetAttribute(pool, keep, driver.cuuint64_t(_KEEP_ALL)))
    return pool


# Addresses and streams of what was dropped and is still to be freed.
_unfreed: list[tuple[int, int]] = []


class Memory:
    """Some bytes on the device, freed with this object, after what its stream has been given."""

    def __init__(self, nbytes: int, stream: int) -> None:
        target.expect_not_recording("allocating memory")
        self.stream = stream
        pool = _pool(int(target.current_device()))
        made = driver.cuMemAllocFromPoolAsync(max(nbytes, 1), pool, stream)
        self.pointer = int(checked(*made))

    def __del__(self) -> None:
        # At the interpreter's end the driver frees everything by itself.
        if hasattr(self, "pointer") and not sys.is_finalizing():
            _unfreed.append((self.pointer, self.stream))
            # Freeing, too, would be captured by whoever captures this stream, in any thread.
            with suppress(Exception), target.nobody_records() as may:
                while may and _unfreed:
                    driver.cuMemFreeAsync(*_unfreed.pop())


class _Described:
    """Memory with a shape and type, as numba.cuda.as_cuda_array reads it; holds it alive."""

    def __init__(self, memory: Memory, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory = memory
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": dtype.str,
            "data": (memory.pointer, False),
            "version": 3,
            "strides": None,
            "stream": memory.stream or None,
        }


class Arena:
    """The memory of one sequence of allocations, kept from its first run for all others.

    Numbers that the host moves to the device within it are kept likewise, equal ones once.

    Parameters
    ----------
    most : int
        Bytes that are kept. As soon as a sequence takes more nothing of it is: the memory that it
        needs is then what it holds at a time, and not the sum of all that it ever makes.

    Attributes
    ----------
    moved : list of arrays
        Where these numbers are. Later runs write nothing there: whoever repeats the sequence does.
    reason : str
        Why nothing is kept, so that the sequence cannot be repeated; empty if it can.
    """

    def __init__(self, most: int) -> None:
        self._most, self._nbytes = most, 0
        self._kept: list[Any] = []
        self._next = 0
        self._runs = 0
        self._contents: dict[Any, Any] = {}
        self.moved: list[Any] = []
        self.reason = ""

    def _drop(self) -> None:
        self.reason = f"its arrays take more than {self._most >> 20} MB"
        for kept in (self._kept, self._contents, self.moved):
            kept.clear()

    @contextmanager
    def replaying(self) -> Iterator[None]:
        """Within a `with` block, hand out the same arrays as in the blocks before, in order."""
        token = _arena.set(self)
        self._next = 0
        self._runs += 1
        self._contents.clear()
        try:
            yield
        finally:
            _arena.reset(token)

    def take(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
        """The next array; NotRecordable if the sequence is not that of the first run."""
        if self._next == len(self._kept):
            self._nbytes += prod(shape) * dtype.itemsize
            if self._nbytes > self._most and not self.reason:
                self._drop()
        if self.reason:
            return _new(shape, dtype, stream)
        if self._next == len(self._kept):
            self._kept.append(_new(shape, dtype, stream))
        array = self._kept[self._next]
        self._next += 1
        if tuple(array.shape) != shape or array.dtype != dtype:
            had = tuple(array.shape)
            raise target.NotRecordable(f"a replayed step allocates {shape} where it had {had}")
        return array

    def place(self, values: np.ndarray, stream: int) -> Any:
        """An array of host values: written in the first run, as it is in all others."""
        key = values.dtype.str, values.shape, values.tobytes()
        if key in self._contents:
            return self._contents[key]
        array = self.take(values.shape, values.dtype, stream)
        if self._runs == 1 or self.reason:
            write(array, values, stream)
        if not self.reason:
            self._contents[key] = array
            if self._runs == 1:
                self.moved.append(array)
        return array


_arena: ContextVar[Arena | None] = ContextVar("fastcnn_arena", default=None)


def _new(shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
    if target.simulated():
        target.expect_not_recording("allocating memory")
        return target.cuda.device_array(shape, dtype)
    memory = Memory(prod(shape) * dtype.itemsize, stream)
    return target.cuda.as_cuda_array(_Described(memory, shape, dtype), sync=False)


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], stream: int) -> Any:
    """A Numba device array, contiguous, its contents undefined."""
    target.require_device()
    arena = _arena.get()
    return _new(shape, dtype, stream) if arena is None else arena.take(shape, dtype, stream)


def placed(values: np.ndarray, stream: int) -> Any:
    """A Numba device array of host values (C order, native); returns once they have been read."""
    target.require_device()
    arena = _arena.get()
    if arena is not None:
        return arena.place(values, stream)
    array = _new(values.shape, values.dtype, stream)
    write(array, values, stream)
    return array


def pointer_of(array: Any) -> int:
    """The address of the first element of a Numba device array."""
    return int(array.__cuda_array_interface__["data"][0] or 0)


def write(array: Any, values: np.ndarray, stream: int) -> None:
    """Copy host values (C order) into a Numba device array; returns once they have been read."""
    target.expect_not_recording("writing from the host")
    if target.simulated():
        array.copy_to_device(values)
    elif values.nbytes:
        place = pointer_of(array)
        checked(*driver.cuMemcpyHtoDAsync(place, values.ctypes.data, values.nbytes, stream))


def read(pointer: int, values: np.ndarray, stream: int) -> None:
    """Copy from the device into a host array (C order), once the stream has come that far."""
    target.expect_not_recording("reading from the host")
    if values.nbytes:
        checked(*driver.cuMemcpyDtoHAsync(values.ctypes.data, pointer, values.nbytes, stream))
        checked(*driver.cuStreamSynchronize(stream))


def trim() -> None:
    """Give memory that nobody uses any more from the pool back to the driver; waits for it."""
    if not target.simulated():
        device = int(target.current_device())
        checked(*driver.cuCtxSynchronize())
        checked(*driver.cuMemPoolTrimTo(_pool(device), 0))
