"""NumPy archives, as ``numpy.savez`` and ``savez_compressed`` write them.

Read here and not with ``numpy.load``, which takes the memory that a header declares before it looks
at what follows. (Format: ``numpy.lib.format``; versions 1, 2 and 3 differ in the header only.)
"""

import ast
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np

from .streams import DEFLATE_LIMIT, Readable, declared_bytes, read_exactly, read_last

NPY_MAGIC = b"\x93NUMPY"
# A header of a plain array with 64 dimensions of 20 digits each fits; numpy.save writes 118 bytes.
LONGEST_HEADER = 4096
STORED_OR_DEFLATED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# The checks below, and what zipfile raises of damaged, encrypted or exotic archives.
DAMAGE = (
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
)


class Kind(NamedTuple):
    """Types that a reader accepts: NumPy's names of them, and what an error calls them."""

    descr: re.Pattern[str]
    name: str


NUMBERS = Kind(re.compile(r"[<>|=](b1|u[1248]|i[1248]|f[248])"), "a plain number type")
FLOATS = Kind(re.compile(r"[<>|=]f[48]"), "float32 or float64")
TEXT = Kind(re.compile(r"[<>|=]U[0-9]{1,7}"), "text")


def write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays under any names; ``numpy.savez`` has two that are its own arguments.

    Raises
    ------
    ValueError
        An array of objects.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # As numpy.savez does: the size is not known before, and may need 64 bits.
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """Open an archive; what is wrong with it, there or in the block, names the file.

    Raises
    ------
    ValueError
        In place of every error about the content.
    OSError
        The file cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except DAMAGE as err:
            raise ValueError(f"{path}: is not an .npz file: {err}") from err
        try:
            with archive:
                yield archive
        except DAMAGE as err:
            raise ValueError(f"{path}: {err}") from err


def read_member(
    archive: zipfile.ZipFile, name: str, kind: Kind = NUMBERS, like: np.ndarray | None = None
) -> np.ndarray:
    """Read one array, C-contiguous and in native byte order.

    Parameters
    ----------
    archive : ZipFile
    name : str
        Without ``.npy``.
    kind : Kind
    like : ndarray, optional
        Of the shape and type expected: held against the header before memory is taken.

    Raises
    ------
    ValueError
        The array is missing, damaged, or of another kind; names it and the field.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        present = ", ".join(file.removesuffix(".npy") for file in archive.namelist()) or "nothing"
        raise ValueError(f"has no array {name!r}; it has: {present[:500]}") from None
    try:
        return _read(archive, info, kind, like)
    except DAMAGE as err:
        raise ValueError(f"{name}: {err}") from err


def _read(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, kind: Kind, like: np.ndarray | None
) -> np.ndarray:
    if info.compress_type not in STORED_OR_DEFLATED:
        raise ValueError(f"compression {info.compress_type}, expected stored or deflated")
    if info.file_size > info.compress_size * DEFLATE_LIMIT:
        raise ValueError(f"size: {info.compress_size} bytes cannot expand to {info.file_size}")
    with archive.open(info) as member:
        dtype, fortran, shape, header_bytes = _read_header(member, kind)
        native = dtype.newbyteorder("=")
        if like is not None and (native, shape) != (like.dtype, like.shape):
            raise ValueError(
                f"{native} of shape {shape}, expected {like.dtype} of shape {like.shape}"
            )
        try:
            declared = declared_bytes(shape, dtype.itemsize)
        except ValueError as err:
            raise ValueError(f"shape: {err}") from None
        available = info.file_size - header_bytes
        if declared != available:
            raise ValueError(
                f"shape: {shape} of {dtype} is {declared} bytes, but {available} follow"
            )
        content = read_last(member, declared, "data")
    # Any byte but 0 means true, as in numpy.load; in memory NumPy's own bool has to be 0 or 1.
    flat = np.frombuffer(content, np.uint8 if dtype.kind == "b" else dtype)
    flat = flat != 0 if dtype.kind == "b" else flat.astype(native, copy=False)
    array = flat.reshape(shape, order="F" if fortran else "C")
    return array.copy(order="C") if fortran else array


def _read_header(member: Readable, kind: Kind) -> tuple[np.dtype, bool, tuple[int, ...], int]:
    """Read the header of a .npy: type, Fortran order?, shape, and its own length in bytes."""
    start = read_exactly(member, len(NPY_MAGIC) + 2, "magic number")
    if not start.startswith(NPY_MAGIC):
        raise ValueError(f"magic number: not a .npy file: {bytes(start).hex(' ')}")
    form = {1: "<H", 2: "<I", 3: "<I"}.get(start[len(NPY_MAGIC)])
    if form is None:
        raise ValueError(f"version: {start[len(NPY_MAGIC)]}, expected 1, 2 or 3")
    length_bytes = read_exactly(member, struct.calcsize(form), "header length")
    length = struct.unpack(form, length_bytes)[0]
    if length > LONGEST_HEADER:
        raise ValueError(f"header length: {length}, at most {LONGEST_HEADER} expected")
    text = bytes(read_exactly(member, length, "header"))
    try:
        header = ast.literal_eval(text.decode("latin-1").strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise ValueError(f"header: {text[:80]!r} is not a dictionary of literals") from None
    match header:
        case {
            "descr": str() as descr,
            "fortran_order": bool() as fortran,
            "shape": tuple() as shape,
        }:
            pass
        case _:
            raise ValueError(f"header: {text[:80]!r} does not describe an array of numbers")
    if not kind.descr.fullmatch(descr):
        raise ValueError(f"descr: {descr[:40]!r} is not {kind.name}")
    if not all(type(size) is int for size in shape):
        raise ValueError(f"shape: {str(shape)[:80]} does not hold integers only")
    return np.dtype(descr), fortran, shape, len(start) + len(length_bytes) + length
