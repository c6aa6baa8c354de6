"""The IDX format of MNIST and its relatives, raw or gzipped.

A file is: two zero bytes, one byte for the type, one for the number of dimensions; each size as a
big-endian int32; the elements, big-endian, last dimension fastest. (Source: the description on the
MNIST database's page.)
"""

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fastcnn.files.streams import (
    DEFLATE_LIMIT,
    Readable,
    declared_bytes,
    read_exactly,
    read_last,
)

from .checks import brightness, float_type

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP_MAGIC = b"\x1f\x8b"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one IDX file, raw or gzipped (recognised by content, not by name).

    Returns
    -------
    ndarray
        Of the type and shape in the file, in native byte order, C-contiguous and writable.

    Raises
    ------
    ValueError
        If the file is not IDX, damaged, or its sizes do not match its bytes; names file and field.
    OSError
        If the file cannot be opened.
    """
    path = Path(path)
    with path.open("rb") as raw:
        size = os.fstat(raw.fileno()).st_size
        gzipped = raw.read(2) == GZIP_MAGIC
        raw.seek(0)
        if not gzipped:
            return _read_array(raw, path, size, exact=True)
        try:
            with gzip.GzipFile(fileobj=raw) as stream:
                return _read_array(stream, path, size * DEFLATE_LIMIT, exact=False)
        except (EOFError, gzip.BadGzipFile, zlib.error) as err:
            raise ValueError(f"{path}: damaged gzip data ({err})") from err


def _read_array(stream: Readable, path: Path, available: int, *, exact: bool) -> np.ndarray:
    """Read header and elements, which cannot be (or, if `exact`, must be) `available` bytes."""
    zeros_type_ndim = read_exactly(stream, 4, f"{path}: magic number")
    if zeros_type_ndim[:2] != b"\0\0":
        raise ValueError(
            f"{path}: magic number: an IDX file starts with two zero bytes, "
            f"found {bytes(zeros_type_ndim).hex(' ')}"
        )
    code, ndim = zeros_type_ndim[2:]
    if code not in IDX_TYPES:
        known = ", ".join(f"0x{known:02X}" for known in IDX_TYPES)
        raise ValueError(f"{path}: type: 0x{code:02X} is unknown, expected one of {known}")
    if ndim == 0:
        raise ValueError(f"{path}: number of dimensions: 0, expected at least 1")
    sizes = read_exactly(stream, 4 * ndim, f"{path}: sizes")
    shape = tuple(np.frombuffer(sizes, dtype=">i4").tolist())
    dtype = np.dtype(IDX_TYPES[code])
    try:
        declared = declared_bytes(shape, dtype.itemsize)
    except ValueError as err:
        raise ValueError(f"{path}: sizes: {err}") from None
    remaining = available - 4 - 4 * ndim
    if declared > remaining or (exact and declared != remaining):
        raise ValueError(
            f"{path}: sizes: {' x '.join(map(str, shape))} elements of {dtype.itemsize} bytes are "
            f"{declared} bytes, but the file has {'' if exact else 'at most '}{remaining} for them"
        )
    content = read_last(stream, declared, f"{path}: elements")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def mnist_idx(
    images_path: str | os.PathLike[str],
    labels_path: str | os.PathLike[str] | None = None,
    *,
    dtype: npt.DTypeLike = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """Read MNIST, or any data set in its form, from two IDX files.

    Parameters
    ----------
    images_path : path
        Images, three dimensions (N, H, W) of unsigned bytes; raw or gzipped.
    labels_path : path, optional
        Labels, one dimension. By default the file beside the images whose name has "labels" for
        "images" and "idx1" for "idx3" (with or without ".gz"), as MNIST's own files are named.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, 1, H, W)
        pixel / 255.
    y : ndarray of int64, (N,)

    Raises
    ------
    ValueError
        If a file is damaged or not of this form, or the two do not fit; names file and field.
    OSError
        If a file cannot be opened.
    """
    float_dtype = float_type(dtype)
    images_path = Path(images_path)
    labels_path = _beside(images_path) if labels_path is None else Path(labels_path)
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(
            f"{images_path}: images must be (N, H, W) of uint8, "
            f"found {images.shape} of {images.dtype}"
        )
    if math.prod(images.shape[1:]) == 0:
        raise ValueError(f"{images_path}: sizes: images of {images.shape[1:]} have no pixels")
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise ValueError(
            f"{labels_path}: labels must be (N,) of an integer type, "
            f"found {labels.shape} of {labels.dtype}"
        )
    if len(images) != len(labels):
        raise ValueError(
            f"{labels_path}: {len(labels)} labels do not fit {images_path}: {len(images)} images"
        )
    if (labels < 0).any():
        raise ValueError(f"{labels_path}: labels: {labels.min()} is negative")
    return brightness(images[:, None], float_dtype), labels.astype(np.int64)


def _beside(images_path: Path) -> Path:
    """Find the labels that belong to a file of images, by MNIST's names."""
    name = images_path.name
    if "images" not in name:
        raise ValueError(
            f"{images_path}: the name does not contain 'images', so the labels' name cannot be "
            "derived from it: pass labels_path"
        )
    plain = name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    candidates = [images_path.with_name(plain), images_path.with_name(plain + ".gz")]
    for candidate in candidates:
        if candidate.exists():
            return candidate
    raise FileNotFoundError(
        f"{images_path}: no labels beside it: neither {candidates[0].name} nor "
        f"{candidates[1].name}; pass labels_path"
    )
