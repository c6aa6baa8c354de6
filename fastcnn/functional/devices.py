"""Where arrays are: moving them between host and GPU, and what NumPy does for arrays on the host.

Nothing else moves anything: an operation works where its arrays are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastcnn.arrays import Array, canonical, given_back, on_device


def is_on_device(value: Any) -> bool:
    """Whether an array lives on a GPU: Numba's, CuPy's, torch.cuda's, or with their interface."""
    return type(value) is not np.ndarray and on_device(value)


def to_device(array: Any) -> Any:
    """A copy of a host array on the current GPU, as a Numba device array.

    Parameters
    ----------
    array : array_like
        Of numbers. An array that is on a GPU already is returned as it is.

    Returns
    -------
    Numba device array
        Operations of `fastcnn.functional` on it run on the GPU and give such arrays back.

    Raises
    ------
    fastcnn.CudaUnavailable
        Without the CUDA extra, a driver or a GPU; says which, and what to do.
    """
    if is_on_device(array):
        return array
    from fastcnn.kernels.cuda import arrays

    return arrays.to_device(np.ascontiguousarray(canonical(np.asarray(array)))).owner


def to_host(array: Any) -> Array:
    """A copy on the host of an array on a GPU, of whatever kind; waits until it is computed.

    Parameters
    ----------
    array : array
        A NumPy array is returned as it is.
    """
    if not is_on_device(array):
        return np.asarray(array)
    from fastcnn.kernels.cuda import arrays

    return arrays.to_host(arrays.device_array(array, "array"))


def assign(array: Any, values: Any) -> None:
    """Copy values into an array, wherever it is: from the host, or to a GPU from itself."""
    if not is_on_device(array):
        array[...] = values
        return
    from fastcnn.kernels.cuda import arrays

    place = arrays.device_array(array, "array")
    if is_on_device(values):
        arrays.device_array(values, "values").copy_into(place)
    else:
        place.write(values)


def copied(array: Any) -> Any:
    """New memory with the same elements, where the array is."""
    if not is_on_device(array):
        return array.copy()
    from fastcnn.kernels.cuda import arrays

    own = arrays.device_array(array, "array")
    return given_back(own.copied(own.shape))


def contiguous(array: Any) -> Any:
    """The array, or a copy in C order that its own package makes on its own stream, where it is."""
    if not is_on_device(array):
        return array
    from fastcnn.kernels.cuda import arrays

    return given_back(arrays.device_array(array, "array"))


def reshaped(array: Any, shape: tuple[int, ...]) -> Any:
    """The same memory in another shape, where memory allows."""
    if not is_on_device(array):
        return array.reshape(shape)
    from fastcnn.kernels.cuda import arrays

    return given_back(arrays.device_array(array, "array").reshape(*shape))


def shared(bias: Any, units: int) -> Any:
    """One number as a bias of so many outputs, without a copy."""
    if not is_on_device(bias):
        return np.broadcast_to(bias, (units,))
    from fastcnn.kernels.cuda import arrays

    return arrays.device_array(bias, "bias").shared_by(units)


def zeros(shape: tuple[int, ...], dtype: Any, like: Any) -> Any:
    """An array of zeros where `like` is."""
    made = np.zeros(shape, dtype)
    return to_device(made) if is_on_device(like) else made


def joined(parts: list[Any]) -> Any:
    """Arrays one after the other along their first axes."""
    if not is_on_device(parts[0]):
        return np.concatenate(parts)
    from fastcnn.kernels.cuda import arrays

    seen = [arrays.device_array(part, "part") for part in parts]
    rows = sum(len(part) for part in seen)
    whole = seen[0].empty((rows, *seen[0].shape[1:]), seen[0].dtype)
    start = 0
    for part in seen:
        part.copy_into(whole.part(start, start + len(part)))
        start += len(part)
    return given_back(whole)


def part(array: Any, rows: slice) -> Any:
    """Consecutive rows, in place."""
    if not is_on_device(array):
        return array[rows]
    from fastcnn.kernels.cuda import arrays

    start, stop, _ = rows.indices(len(array))
    return given_back(arrays.device_array(array, "array").part(start, stop))


def one_hot(labels: Any, classes: int, dtype: Any) -> Any:
    """Rows of 0 and one 1, on the GPU, from class numbers there."""
    from fastcnn.kernels.cuda import arrays

    return given_back(arrays.device_array(labels, "labels").one_hot(classes, np.dtype(dtype)))


def count_right(p: Any, y: Any) -> Any:
    """Three numbers, on the GPU, of which `fastcnn.training.losses` reads the accuracy."""
    from fastcnn.kernels.cuda import arrays, rows

    outputs = arrays.device_array(p, "p")
    right = outputs.empty((3,), np.int64)
    rows.count_right(outputs, arrays.device_array(y, "y"), right)
    return given_back(right)


def taken(array: Any, rows: Any) -> Any:
    """The rows of an array that an array of int64 on the host names."""
    if not is_on_device(array):
        return array[rows]
    from fastcnn.kernels.cuda import arrays

    own = arrays.device_array(array, "array")
    return given_back(own.taken(own.uploaded(np.ascontiguousarray(rows, np.int64))))
