"""CIFAR-10 from its original files, the "python version" and the "binary version".

Both hold 3,072 bytes per image: 1,024 of red, then green, then blue, row after row of 32x32. The
binary version puts the label's byte in front. (Source: the data set's own page.)
"""

import os
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .checks import brightness, float_type
from .pickled_arrays import PickledArray
from .pickles import read_pickle

CLASSES = 10
IMAGE_SHAPE = (3, 32, 32)
IMAGE_BYTES = 3 * 32 * 32
RECORD_BYTES = 1 + IMAGE_BYTES
# Ten times the whole data set in one file: what is larger is something else, and is not read.
LARGEST_FILE = 10 * 60_000 * RECORD_BYTES

# file names of each part, without the suffix ".bin" of the binary version
PARTS = {
    "train": [f"data_batch_{number}" for number in range(1, 6)],
    "test": ["test_batch"],
}


def cifar10(
    folder_or_file: str | os.PathLike[str],
    *,
    part: str | None = None,
    dtype: npt.DTypeLike = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """Read CIFAR-10: a folder of batches or one batch, python or binary version.

    The version is recognised by the content. Pickles are read, not executed: one that asks for
    anything but arrays, containers, strings and numbers is refused.

    Parameters
    ----------
    folder_or_file : path
        The unpacked ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, or one file of it.
    part : "train" or "test", optional
        Of a folder: the five training batches in order (the default), or the test batch. Not for
        one file.
    dtype : "float32" or "float64"

    Returns
    -------
    x : ndarray, (N, 3, 32, 32)
        Red, green, blue: pixel / 255.
    y : ndarray of int64, (N,)
        0 airplane, 1 automobile, 2 bird, 3 cat, 4 deer, 5 dog, 6 frog, 7 horse, 8 ship, 9 truck.

    Raises
    ------
    ValueError
        If a file is damaged, malicious or not CIFAR-10; names file and field.
    OSError
        If a file cannot be opened; FileNotFoundError if the folder lacks a batch.
    """
    float_dtype = float_type(dtype)
    path = Path(folder_or_file)
    if part is not None and part not in PARTS:
        raise ValueError(f"part must be 'train' or 'test', got {part!r}")
    if path.is_dir():
        batches = [_read_batch(file) for file in _files(path, part or "train")]
    elif part is not None:
        raise ValueError(f"{path} is not a folder, part={part!r} means nothing: leave it out")
    else:
        batches = [_read_batch(path)]
    images = np.concatenate([images for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    return brightness(images.reshape(-1, *IMAGE_SHAPE), float_dtype), labels


def _files(folder: Path, part: str) -> list[Path]:
    """List the batches of one part, of the one version that the folder holds."""
    versions = {
        version: [folder / (name + suffix) for name in PARTS[part]]
        for version, suffix in (("python", ""), ("binary", ".bin"))
    }
    begun = [files for files in versions.values() if any(file.exists() for file in files)]
    if len(begun) == 2:
        raise ValueError(f"{folder}: holds both the python and the binary version: keep one")
    files = begun[0] if begun else versions["python"]
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise FileNotFoundError(
            f"{folder}: lacks {', '.join(missing)}"
            + ("" if begun else " (binary version: with .bin); is the archive unpacked here?")
        )
    return files


def _read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read one file of either version: images (N, 3072) uint8 and labels (N,) int64."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > LARGEST_FILE:
            raise ValueError(f"{path}: size: {size} bytes are too many for a batch of CIFAR-10")
        content = file.read(size)
    if content.startswith(pickle.PROTO):
        return _from_pickle(path, content)
    return _from_records(path, content)


def _from_records(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Cut the binary version into records of one label and 3,072 pixels."""
    if content.startswith(b"\x1f\x8b"):
        raise ValueError(f"{path}: a gzip archive; unpack it first (tar xzf)")
    if not content or len(content) % RECORD_BYTES:
        raise ValueError(
            f"{path}: {len(content)} bytes are neither a pickle of protocol 2 or later (python "
            f"version) nor records of {RECORD_BYTES} bytes (binary version)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int64)
    if (labels >= CLASSES).any():
        record = int(np.argmax(labels >= CLASSES))
        raise ValueError(
            f"{path}: label of record {record}: {labels[record]}, expected 0 to {CLASSES - 1}"
        )
    return records[:, 1:], labels


def _from_pickle(path: Path, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Take ``data`` and ``labels`` out of the python version's dictionary."""
    try:
        batch = read_pickle(content)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    if not isinstance(batch, dict):
        raise ValueError(f"{path}: holds a {type(batch).__name__}, expected a dictionary")
    entries = {key if isinstance(key, bytes) else key.encode(): batch[key] for key in batch}
    for needed in (b"data", b"labels"):
        if needed not in entries:
            present = ", ".join(sorted(key[:40].decode("latin-1") for key in entries)) or "nothing"
            raise ValueError(f"{path}: has no '{needed.decode()}'; it has: {present}")
    images = _pickled_images(path, entries[b"data"])
    labels = _pickled_labels(path, entries[b"labels"])
    if len(images) != len(labels):
        raise ValueError(f"{path}: labels: {len(labels)} labels for {len(images)} images")
    return images, labels


def _pickled_images(path: Path, data: object) -> np.ndarray:
    if not isinstance(data, PickledArray):
        raise ValueError(f"{path}: data: expected an array, found a {type(data).__name__}")
    images = data.value
    if images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != IMAGE_BYTES:
        raise ValueError(
            f"{path}: data: expected (N, {IMAGE_BYTES}) of uint8, "
            f"found {images.shape} of {images.dtype}"
        )
    if not len(images):
        raise ValueError(f"{path}: data: no images")
    return images


def _pickled_labels(path: Path, labels: object) -> np.ndarray:
    if isinstance(labels, PickledArray) and labels.value.ndim == 1:
        labels = labels.value.tolist()
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        raise ValueError(f"{path}: labels: expected a list of integers")
    for place, label in enumerate(labels):
        if not 0 <= label < CLASSES:
            raise ValueError(
                f"{path}: labels: label {place} is {str(label)[:40]}, expected 0 to {CLASSES - 1}"
            )
    return np.array(labels, dtype=np.int64)
