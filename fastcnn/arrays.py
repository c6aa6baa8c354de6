"""The array boundary: what a caller hands in, made canonical; what goes out, allocated.

Kernels see one form only (C order, aligned, native byte order, writable by type), because Numba
compiles another variant for each other form. Arrays on a GPU pass through as DeviceArray
(kernels/cuda/arrays.py); nothing is moved between devices here.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from fastcnn.memory import RESULTS

Array = np.ndarray
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class _Unlocked:
    """The memory of a read-only array, offered as writable.

    Numba types read-only arrays apart and would compile every kernel a second time for them.
    Kernels write to their outputs alone, so the memory stays untouched. Holds the array alive.
    """

    def __init__(self, array: Array) -> None:
        self._array = array
        interface = dict(array.__array_interface__)
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def on_device(value: Any) -> bool:
    """Whether an array lives on a GPU."""
    if not any(hasattr(type(value), mark) for mark in _DEVICE_MARKS):
        return False
    from fastcnn.kernels.cuda.arrays import is_device_array

    return is_device_array(value)


# What types of arrays on a device have: the common interface, and the one that Numba's simulated
# arrays have too. Tensors of torch have the former on the CPU as well.
_DEVICE_MARKS = ("__cuda_array_interface__", "__cuda_ndarray__")


def either(value: Any, name: str, like: Any = None) -> Any:
    """An ndarray, or a DeviceArray for what lives on a GPU; TypeError unless it is where `like` is.

    Where `like` is on a GPU too, its stream waits for that of `value`.
    """
    away = type(value) is not np.ndarray and on_device(value)
    if like is not None and away != (type(like) is not np.ndarray):
        there, here = f"on a CUDA device ({type(value).__name__})", "NumPy arrays"
        if not away:
            there, here = "a NumPy array", f"on a CUDA device ({like.kind.name}s)"
        raise TypeError(
            f"mixed devices: {name} is {there}, but the arrays before it are {here}; nothing is "
            f"moved silently: use fastcnn.{'to_host' if away else 'to_device'}({name})"
        )
    if not away:
        return to_numpy(value, name)
    from fastcnn.kernels.cuda.arrays import device_array
    from fastcnn.kernels.cuda.target.ordering import follow

    array = device_array(value, name)
    if like is not None:
        follow(like.stream, array.stream)
    return array


def to_numpy(value: Any, name: str) -> Array:
    """`value` as an ndarray without a change of type; TypeError for what is no array."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} is a masked array, whose mask would be ignored; "
            f"fill it first: {name}.filled(0)"
        )
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    if on_device(value):
        raise TypeError(
            f"{name} is on a CUDA device ({type(value).__name__}), but must be a NumPy array here; "
            f"nothing is moved silently: fastcnn.to_host({name})"
        )
    if getattr(value, "requires_grad", False):
        raise TypeError(
            f"{name} is a tensor that requires grad, and fastcnn records no graph: "
            f"pass {name}.detach()"
        )
    try:
        if isinstance(value, list | tuple | float):
            return np.asarray(value)
        if hasattr(value, "__array_interface__") or hasattr(value, "__array__"):
            return np.asarray(value)
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(
            f"{name} ({type(value).__name__}) cannot be read as a NumPy array: {error}"
        ) from error
    raise TypeError(
        f"{name} must be a NumPy array of float32 or float64, but got {type(value).__name__}"
    )


def canonical(array: Array) -> Array:
    """The same values in C order, aligned, in native byte order, and writable by type."""
    if not isinstance(array, np.ndarray):
        return array  # a DeviceArray, which is all that
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.array(array, order="C")
    elif not flags.writeable:
        array = np.asarray(_Unlocked(array))
    return array


def floats(value: Any, name: str, ranks: tuple[int, ...], like: Array | None = None) -> Array:
    """A caller's array of float32 or float64 in canonical form.

    Parameters
    ----------
    value : array_like
        Anything with an array interface or DLPack on the CPU, or nested lists of floats.
    name : str
        What the documentation calls it, for errors.
    ranks : tuple of int
        The numbers of dimensions allowed; empty for any.
    like : ndarray, optional
        Another argument of the call, named by `name=...` errors; types must be equal.

    Returns
    -------
    ndarray
        The caller's own memory wherever that is possible.

    Raises
    ------
    TypeError
        Not an array, not float32 or float64, or not the type of `like`.
    ValueError
        Wrong number of dimensions.
    """
    if type(value) is not np.ndarray or (like is not None and type(like) is not np.ndarray):
        value = either(value, name, like)
    dtype = value.dtype
    if dtype not in FLOATS:
        if dtype.kind != "f" or dtype.newbyteorder("=") not in FLOATS:
            fix = f"; convert it: {name}.astype(np.float32)" if dtype.kind in "biuf" else ""
            raise TypeError(f"{name} must be float32 or float64, but got {dtype}{fix}")
        dtype = dtype.newbyteorder("=")
    if like is not None and dtype != like.dtype:
        raise TypeError(
            f"mixed types: {name} is {dtype}, but the arrays before it are {like.dtype}; "
            f"convert one of them, for example {name}.astype(np.{like.dtype})"
        )
    if ranks and value.ndim not in ranks:
        wanted = " or ".join(f"{r}-D" for r in ranks)
        raise ValueError(f"{name} must be {wanted}, but got {value.ndim}-D of shape {value.shape}")
    return canonical(value)


def images(value: Any, operation: str) -> Array:
    """The x of an operation on (N, C, H, W) or (C, H, W), as `floats` gives it; errors likewise.

    A wrong rank is refused in PyTorch's words.
    """
    x = floats(value, "x", ())
    if x.ndim not in (3, 4):
        raise ValueError(
            f"Expected 3D (unbatched) or 4D (batched) input to {operation}, "
            f"but got input of size: {list(x.shape)}"
        )
    return x


def integers(value: Any, name: str, dtypes: tuple[str, ...], like: Array | None = None) -> Array:
    """A caller's array of integers of one of `dtypes`, in canonical form; TypeError otherwise."""
    if type(value) is not np.ndarray or (like is not None and type(like) is not np.ndarray):
        value = either(value, name, like)
    if value.dtype.kind not in "iu" or type_name(value) not in dtypes:
        raise TypeError(f"{name} must be {' or '.join(dtypes)}, but got {value.dtype}")
    return canonical(value)


def type_name(array: Array) -> str:
    """The name of an array's type, as plans take it; `dtype.name` spends 2 us on the same."""
    return array.dtype.type.__name__


def expect_shape(array: Array, name: str, shape: tuple[int, ...], why: str) -> None:
    """ValueError unless `array` has exactly this shape; `why` says where the shape comes from."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape} ({why}), but got {array.shape}")


def _overlaps_itself(array: Array) -> bool:
    """Whether elements of `array` share memory, as broadcasting and as_strided can make them."""
    axes = [(abs(stride), n) for stride, n in zip(array.strides, array.shape, strict=True) if n > 1]
    reach = array.itemsize  # bytes from the first to the last element along the axes so far
    nested = True  # each axis steps over all that the axes of smaller strides reach
    for stride, n in sorted(axes):
        nested = nested and stride >= reach
        reach += stride * (n - 1)
    if nested or array.nbytes > reach:
        return not nested
    places = np.zeros(1, np.intp)
    for stride, n in axes:
        places = np.add.outer(places, stride * np.arange(n)).reshape(-1)
    return bool((np.diff(np.sort(places)) < array.itemsize).any())


def writable(value: Any, name: str) -> Array:
    """`value` if it is an array, of any layout, that results can be written to.

    Raises
    ------
    TypeError
        Not a NumPy array, or a masked one.
    ValueError
        Read-only, or elements share memory; on a device, strided.
    """
    if type(value) is not np.ndarray and on_device(value):
        from fastcnn.kernels.cuda.arrays import device_array

        if device_array(value, name).owner is not value:
            raise ValueError(
                f"{name} is a strided array on the device: pass an array in C order to write to"
            )
        return value
    if not isinstance(value, np.ndarray) or isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must be a NumPy array, but got {type(value).__name__}")
    if not value.flags.writeable:
        raise ValueError(f"{name} is read-only: pass a copy, {name}.copy()")
    if not value.flags.c_contiguous and _overlaps_itself(value):
        raise ValueError(
            f"{name} has elements that share memory (shape {value.shape}, strides {value.strides}):"
            f" pass a copy, {name}.copy()"
        )
    return value


def expect_apart(**arrays: Array) -> None:
    """ValueError if two of these arrays, each of which is to be written to, share memory."""
    for (name, array), (other_name, other) in combinations(arrays.items(), 2):
        if isinstance(array, np.ndarray):
            shared = np.shares_memory(array, other)
        else:
            shared = either(array, name).overlaps(either(other, other_name))
        if shared:
            raise ValueError(
                f"{name} and {other_name} share memory, and both are changed: "
                f"pass a copy, {other_name}.copy()"
            )


def empty(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """A new array, of undefined contents, where `like` is and of its kind."""
    return RESULTS.empty(shape, dtype) if type(like) is np.ndarray else like.empty(shape, dtype)


def given_back(array: Any) -> Any:
    """What the caller gets: the array itself; of a DeviceArray the array of the caller's kind."""
    return array if type(array) is np.ndarray else array.owner


def moved(numbers: Array, like: Any) -> Any:
    """A few numbers that an operation needs where `like` is."""
    return numbers if type(like) is np.ndarray else like.uploaded(numbers)


def may_overlap(array: Any, other: Any) -> bool:
    """Whether two arrays, both on the host or both on a device, may share memory."""
    if isinstance(array, np.ndarray):
        return np.may_share_memory(array, other)
    return array.overlaps(other)


class Output:
    """Where a result is written: a new array, or the caller's `out=` once the kernel is done.

    The kernel writes to `array`. `out=` serves directly where its memory is canonical and shares
    none with an input; otherwise the kernel writes aside and `result()` copies.

    Raises
    ------
    TypeError, ValueError
        `out` has another shape or type, or is not `writable`.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: Any, out: Any, inputs: tuple[Any, ...]
    ) -> None:
        self._out = None
        like = inputs[0]
        if out is None:
            self.array = empty(shape, dtype, like)
            return
        if type(like) is not np.ndarray:
            self._on_device(shape, dtype, out, inputs)
            return
        self._out = writable(to_numpy(out, "out") if on_device(out) else out, "out")
        if out.dtype.newbyteorder("=") != dtype:
            raise TypeError(f"out must be {np.dtype(dtype)}, but got {out.dtype}")
        if out.shape != shape:
            raise ValueError(f"out must have shape {shape}, but got {out.shape}")
        flags = out.flags
        direct = (
            type(out) is np.ndarray
            and flags.c_contiguous
            and flags.aligned
            and out.dtype.isnative
            and not any(i is not None and np.may_share_memory(out, i) for i in inputs)
        )
        self.array = out if direct else RESULTS.empty(shape, dtype)

    def _on_device(self, shape: tuple[int, ...], dtype: Any, out: Any, inputs: Any) -> None:
        like = inputs[0]
        # a NumPy array is refused in the words for mixed devices
        found = either(writable(out, "out"), "out", like)
        if found.dtype != dtype:
            raise TypeError(f"out must be {np.dtype(dtype)}, but got {found.dtype}")
        if found.shape != shape:
            raise ValueError(f"out must have shape {shape}, but got {found.shape}")
        direct = not any(i is not None and found.overlaps(i) for i in inputs)
        self.array = found if direct else like.empty(shape, dtype)
        self._out = found

    def result(self) -> Array:
        """The finished result: `out` itself where one was given."""
        if type(self.array) is not np.ndarray:
            if self._out is not None and self.array is not self._out:
                self.array.copy_into(self._out)
            return given_back(self.array if self._out is None else self._out)
        if self._out is None:
            return self.array
        if self.array is not self._out:
            self._out[...] = self.array
        return self._out
