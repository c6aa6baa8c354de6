"""Images and labels from a NumPy archive, as ``numpy.savez`` and ``savez_compressed`` write it.

Read here and not with ``numpy.load``, which takes the memory that a header declares before it looks
at what follows. (Format: ``numpy.lib.format``; versions 1, 2 and 3 differ in the header only.)
"""

import ast
import os
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .checks import brightness, float_type
from .streams import DEFLATE_LIMIT, Readable, declared_bytes, read_exactly, read_last

NPY_MAGIC = b"\x93NUMPY"
# A header of a plain array with 64 dimensions of 20 digits each fits; numpy.save writes 118 bytes.
LONGEST_HEADER = 4096
# NumPy's names of plain numbers: bool, integers, floats, without byte order.
NUMBER_TYPES = frozenset(["b1", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def npz(
    path: str | os.PathLike[str],
    *,
    x: str = "x",
    y: str = "y",
    dtype: npt.DTypeLike = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """Read images (or features) and labels from an .npz file; objects and pickles are refused.

    Parameters
    ----------
    path : path
    x, y : str
        The names of the two arrays in the file.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, ...) as in the file
        Bytes become pixel / 255; floats are only converted to `dtype`.
    y : ndarray, (N, ...) as in the file
        Integers and booleans become int64, floats (targets of a regression) become `dtype`.

    Raises
    ------
    ValueError
        If the file is damaged, an array is missing or of another type, x or y are not finite, or
        they are not equally long; names file and array.
    OSError
        If the file cannot be opened.
    """
    float_dtype = float_type(dtype)
    path = Path(path)
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                images, labels = _read_member(archive, x), _read_member(archive, y)
            images, labels = _images(images, x, float_dtype), _labels(labels, y, float_dtype)
            if not images.ndim or not labels.ndim or len(images) != len(labels):
                raise ValueError(
                    f"{x} and {y} must be equally long, found shapes {images.shape} "
                    f"and {labels.shape}"
                )
        # The checks below, and what zipfile raises of damaged, encrypted or exotic archives.
        except (
            ValueError,
            zipfile.BadZipFile,
            zlib.error,
            struct.error,
            EOFError,
            OSError,
            RuntimeError,
        ) as err:
            raise ValueError(f"{path}: {err}") from err
    return images, labels


def _images(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    if values.dtype == np.uint8:
        return brightness(values, dtype)
    if values.dtype.kind == "f":
        return _finite(values, name, dtype)
    raise ValueError(
        f"{name}: expected floats, or uint8 for pixels from 0 to 255, found {values.dtype}: "
        "save it with .astype(np.float32), scaled as you mean it"
    )


def _labels(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    if values.dtype.kind == "f":
        return _finite(values, name, dtype)
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name}: {values.max()} does not fit int64")
    return values.astype(np.int64)


def _finite(values: np.ndarray, name: str, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow gives inf, which is refused below
        converted = values.astype(dtype, copy=False)
    if not np.isfinite(converted).all():
        raise ValueError(f"{name}: holds values that are not finite in {dtype}")
    return converted


def _read_member(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """Read one array, C-contiguous and in native byte order."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        present = ", ".join(file.removesuffix(".npy") for file in archive.namelist()) or "nothing"
        raise ValueError(f"has no array {name!r}; it has: {present[:500]}") from None
    if info.compress_type not in STORED_OR_DEFLATED:
        raise ValueError(f"{name}: compression {info.compress_type}, expected stored or deflated")
    if info.file_size > info.compress_size * DEFLATE_LIMIT:
        raise ValueError(
            f"{name}: size: {info.compress_size} bytes cannot expand to {info.file_size}"
        )
    with archive.open(info) as member:
        dtype, fortran, shape, header_bytes = _read_header(member, name)
        try:
            declared = declared_bytes(shape, dtype.itemsize)
        except ValueError as err:
            raise ValueError(f"{name}: shape: {err}") from None
        available = info.file_size - header_bytes
        if declared != available:
            raise ValueError(
                f"{name}: shape: {shape} of {dtype} is {declared} bytes, but {available} follow"
            )
        content = read_last(member, declared, name)
    # Any byte but 0 means true, as in numpy.load; in memory NumPy's own bool has to be 0 or 1.
    flat = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype)
    flat = flat != 0 if dtype.kind == "b" else flat.astype(dtype.newbyteorder("="), copy=False)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array.copy(order="C") if fortran else array


def _read_header(member: Readable, name: str) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Read the header of a .npy: type, Fortran order?, shape, and its own length in bytes."""
    start = read_exactly(member, len(NPY_MAGIC) + 2, f"{name}: magic number")
    if not start.startswith(NPY_MAGIC):
        raise ValueError(f"{name}: magic number: not a .npy file: {bytes(start).hex(' ')}")
    form = {1: "<H", 2: "<I", 3: "<I"}.get(start[len(NPY_MAGIC)])
    if form is None:
        raise ValueError(f"{name}: version: {start[len(NPY_MAGIC)]}, expected 1, 2 or 3")
    length_bytes = read_exactly(member, struct.calcsize(form), f"{name}: header length")
    length = struct.unpack(form, length_bytes)[0]
    if length > LONGEST_HEADER:
        raise ValueError(f"{name}: header length: {length}, at most {LONGEST_HEADER} expected")
    text = bytes(read_exactly(member, length, f"{name}: header"))
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"{name}: header: {text[:80]!r} is not a dictionary of literals") from None
    match header:
        case {
            "descr": str() as descr,
            "fortran_order": bool() as fortran,
            "shape": tuple() as shape,
        }:
            pass
        case _:
            raise ValueError(f"{name}: header: {text[:80]!r} does not describe an array of numbers")
    if descr[:1] not in ("<", ">", "|", "=") or descr[1:] not in NUMBER_TYPES:
        raise ValueError(f"{name}: descr: {descr[:40]!r} is not a plain number type")
    if not all(type(size) is int for size in shape):
        raise ValueError(f"{name}: shape: {str(shape)[:80]} does not hold integers only")
    return np.dtype(descr), fortran, shape, len(start) + len(length_bytes) + length
