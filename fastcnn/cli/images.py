"""Data sets as the command line names them: a name, or the path of a file or folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import datasets
from fastcnn.cli.options import UsageError
from fastcnn.verification.problems import unknown

Array = np.ndarray

HELP = (
    "digits, digits:3,8 (two of them), faces, faces:6 (6x6), or a path: an .npz file, a folder of "
    "pictures by class, a CIFAR-10 folder or batch, MNIST's folder or its file of images"
)


def _digits(options: str, dtype: str) -> tuple[Array, Array]:
    try:
        pair = tuple(int(part) for part in options.split(",")) if options else None
    except ValueError:
        raise UsageError(f"--data digits:{options}: say two digits, such as digits:4,9") from None
    return datasets.digits(pair, dtype=dtype)  # type: ignore[arg-type]


def _faces(options: str, dtype: str) -> tuple[Array, Array]:
    if options not in ("", "6", "25"):
        raise UsageError(f"--data faces:{options}: say faces (25x25) or faces:6 (6x6)")
    return datasets.faces(size=int(options or 25), dtype=dtype)


_NAMED: dict[str, Callable[[str, str], tuple[Array, Array]]] = {"digits": _digits, "faces": _faces}


def _mnist_images(path: Path) -> Path | None:
    """The file of training images, if `path` is one or a folder that has one."""
    if path.is_file():
        return path if "idx3" in path.name else None
    return next((p for p in sorted(path.glob("train*images*idx3*")) if p.is_file()), None)


def _is_cifar(path: Path) -> bool:
    if path.is_file():
        return "batch" in path.name
    return any(path.glob("data_batch_*"))


def _from_path(path: Path, dtype: str) -> tuple[Array, Array]:
    if path.suffix == ".npz":
        return datasets.npz(path, dtype=dtype)
    images = _mnist_images(path)
    if images is not None:
        return datasets.mnist_idx(images, dtype=dtype)
    if _is_cifar(path):
        return datasets.cifar10(path, dtype=dtype)
    if path.is_dir():
        return datasets.image_folder(path, dtype=dtype)[:2]
    raise UsageError(f"do not know what kind of data set {str(path)!r} is; --data takes {HELP}")


def load(text: str, dtype: str) -> tuple[Array, Array]:
    """Images (N, C, H, W), or rows, and integer labels of a data set.

    Raises
    ------
    UsageError
        No such data set, or one that cannot be read; says why.
    """
    name, _, options = text.partition(":")
    path = Path(text)
    try:
        if name in _NAMED:
            return _NAMED[name](options, dtype)
        if path.exists():
            return _from_path(path, dtype)
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise UsageError(f"--data {text}: {error}") from error
    raise UsageError(f"{unknown('data set', text, _NAMED)} It is no file or folder either.")


def fit_for(
    network: str, options: dict[str, Any], x: Array, y: Array, binary: bool
) -> tuple[Array, Array, dict[str, Any]]:
    """Data as a network takes it, and the options that the network needs for it.

    Parameters
    ----------
    network : str
    options : dict
        What the network is made with anyway.
    x, y : ndarray
        From `load`.
    binary : bool
        Whether the network has one output.

    Raises
    ------
    UsageError
        The network cannot learn this data.
    """
    classes = int(y.max()) + 1 if len(y) else 0
    if binary and (classes > 2 or y.dtype.kind not in "iu"):
        raise UsageError(
            f"{network} has one output and learns labels 0 and 1, but the data has {classes} "
            "classes; take two, such as --data digits:4,9, or another network"
        )
    if network == "small_ann" and x.ndim == 4:
        try:
            x = datasets.two_means(x)
        except ValueError as error:
            raise UsageError(f"{network} takes the two halves of grey images: {error}") from error
    return x, y, options if binary else {**options, "classes": max(classes, 2)}
