"""A `state_dict` in a file: .npz or .safetensors, whole or not at all, and never trusted.

Both formats hold plain arrays under the parameters' names, so that `numpy.load` and
`safetensors.numpy.load_file` read what is written here, and the other way round.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.files.npz import FLOATS, opened, read_member, write_npz
from fastcnn.files.replacing import replacing
from fastcnn.files.streams import declared_bytes

Array = np.ndarray

# What a checkpoint, itself an .npz file, holds besides the parameters.
NOTES = "checkpoint"  # the member that holds the notes, as a string of JSON
MEMORY = "optimizer"  # optimizer.0.weight.1: the second array that is kept for 0.weight

# A name of the safetensors format itself: what is said about a file as a whole.
_METADATA = "__metadata__"
# The format's names of types; its numbers are little-endian.
_SAFETENSORS_TYPES: dict[str, np.dtype] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}


def save_weights(path: str | os.PathLike[str], state_dict: Mapping[str, Any]) -> None:
    """Write arrays to a file, in the format that its suffix names.

    Parameters
    ----------
    path : path
        Ends in .npz or .safetensors; replaced at once, when the new file is complete.
    state_dict : mapping of str to array_like
        float32 or float64, of any shapes.

    Raises
    ------
    ValueError
        Another suffix, or a name that the formats cannot hold.
    TypeError
        An array of another type.
    ImportError
        A .safetensors file without the package safetensors.
    OSError
        The file cannot be written; an older one is as it was.
    """
    suffix = _suffix(path)
    arrays = {_name(name): _floats(name, values) for name, values in state_dict.items()}
    if suffix == ".npz":
        with replacing(path) as file:
            write_npz(file, arrays)
    else:
        content = _safetensors().numpy.save(arrays)
        with replacing(path) as file:
            file.write(content)


def load_weights(path: str | os.PathLike[str]) -> dict[str, Array]:
    """Read the arrays of a file; of a checkpoint (`fastcnn train --save`) the parameters alone.

    Parameters
    ----------
    path : path
        Ends in .npz or .safetensors.

    Returns
    -------
    dict of str to ndarray
        float32 or float64, in C order and native byte order.

    Raises
    ------
    ValueError
        Another suffix, a damaged file, or arrays of another type: names the file and what is
        wrong in it. Nothing in a file is executed, and memory is taken only for what it contains.
    ImportError
        A .safetensors file without the package safetensors.
    OSError
        The file cannot be opened.
    """
    return _load_npz(path) if _suffix(path) == ".npz" else _load_safetensors(path)


def _suffix(path: str | os.PathLike[str]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".npz", ".safetensors"):
        raise ValueError(f"weights are kept in .npz or .safetensors files, but got {str(path)!r}")
    return suffix


def _name(name: Any) -> str:
    # A zip archive ends names at the first NUL.
    if not isinstance(name, str) or "\0" in name or name == _METADATA:
        raise ValueError(f"an array in a file needs a plain name such as '0.weight', got {name!r}")
    return name


def _floats(name: str, values: Any) -> Array:
    """The array in C order and native byte order, as both formats need it."""
    array = np.asarray(values)
    native = array.dtype.newbyteorder("=")
    if native not in (np.float32, np.float64):
        raise TypeError(
            f"{name} must be float32 or float64, but got {array.dtype}; "
            "convert it: .astype(np.float32)"
        )
    return array.astype(native, order="C", copy=False)


def _load_npz(path: str | os.PathLike[str]) -> dict[str, Array]:
    with opened(path) as archive:
        members = archive.infolist()
        names: dict[str, None] = {}  # in the file's order
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename:
                raise ValueError(f"unexpected member {name[:80]!r}: arrays end in .npy")
            if name in names:
                raise ValueError(f"{name}: stands in the file twice")
            names[name] = None
        # Members that share their bytes could be as many as the file has room for their names.
        stored, size = sum(m.compress_size for m in members), os.path.getsize(path)
        if stored > size:
            raise ValueError(f"members overlap: {stored} bytes in a file of {size}")
        if NOTES in names:
            names = {n: None for n in names if n != NOTES and not n.startswith(f"{MEMORY}.")}
        return {name: read_member(archive, name, FLOATS) for name in names}


def _safetensors() -> Any:
    """The optional package."""
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            "safetensors is needed for .safetensors files: pip install 'fastcnn[demo]', "
            f"or use .npz ({error})"
        ) from error
    return safetensors


def _load_safetensors(path: str | os.PathLike[str]) -> dict[str, Array]:
    package = _safetensors()
    # Read, not mapped: a mapped file that another process shortens ends this one.
    content = Path(path).read_bytes()
    try:
        # Holds sizes and offsets against the bytes there are.
        tensors = package.deserialize(content)
    except package.SafetensorError as error:
        raise ValueError(f"{path}: header: {error}") from error
    return {name: _tensor(f"{path}: {name}", tensor) for name, tensor in tensors}


def _tensor(where: str, tensor: Mapping[str, Any]) -> Array:
    dtype = _SAFETENSORS_TYPES.get(tensor["dtype"])
    if dtype is None:
        raise ValueError(f"{where}: dtype: {tensor['dtype']}, expected F32 or F64")
    try:
        declared_bytes(tensor["shape"], dtype.itemsize)
    except ValueError as error:
        raise ValueError(f"{where}: shape: {error}") from error
    array = np.frombuffer(tensor["data"], dtype).astype(dtype.newbyteorder("="))
    return array.reshape(tensor["shape"])
