"""Training to be continued later: parameters, the optimizer's memory and notes in one .npz file.

The parameters stand under their own names (`0.weight`, …), so that `numpy.load` of the file is a
`state_dict`. A file is written whole or not at all; what is read is checked against the network
before memory is taken for it, and nothing in a file is executed.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from .sequential import Sequential

Array = np.ndarray

_NOTES = "checkpoint"  # the member that holds the notes, as a string of JSON
_MEMORY = "optimizer"  # optimizer.0.weight.1: the second array that is kept for 0.weight
# Notes hold a few figures per epoch: a megabyte would be ten thousand epochs.
_MOST_NOTES = 1 << 20


def save(path: str | os.PathLike[str], network: Sequential, notes: Mapping[str, Any]) -> None:
    """Write a network, its optimizer and `notes` to an .npz file.

    Parameters
    ----------
    path : path
        Replaced at once, when the new file is complete.
    network : Sequential
        With an optimizer.
    notes : mapping
        Anything that JSON can say.

    Raises
    ------
    OSError
        The file cannot be written; an older one is as it was.
    """
    optimizer = network.optimizer
    about = {
        "optimizer": type(optimizer).__name__,
        "iterations": 0 if optimizer is None else optimizer.iterations,
        "notes": dict(notes),
    }
    arrays: dict[str, Any] = {**network.parameters(), **_memory(network)}
    arrays[_NOTES] = np.array(json.dumps(about))
    path = Path(path)
    unfinished = path.with_name(f"{path.name}.{uuid4().hex}.tmp")
    try:
        with open(unfinished, "wb") as file:
            np.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_notes(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The notes that `save` was given.

    Raises
    ------
    ValueError
        Not a file that `save` has written; names what is wrong.
    OSError
        The file cannot be opened.
    """
    return _about(path)["notes"]


def load(path: str | os.PathLike[str], network: Sequential) -> dict[str, Any]:
    """Put a saved state into a network and its optimizer; returns the notes.

    Parameters
    ----------
    path : path
    network : Sequential
        Built, with an optimizer of the kind that was saved.

    Raises
    ------
    ValueError
        The file is damaged or does not fit the network: each difference is named, and network and
        optimizer are as they were.
    OSError
        The file cannot be opened.
    """
    about = _about(path)
    optimizer = network.optimizer
    if type(optimizer).__name__ != about["optimizer"]:
        raise ValueError(
            f"{path} was saved with the optimizer {about['optimizer']}, but the network has "
            f"{type(optimizer).__name__}"
        )
    parameters = network.parameters()
    with _archive(path) as archive:
        members = {name.removesuffix(".npy") for name in archive.namelist()} - {_NOTES}
        kept = {n: parameters[_parameter(n)] for n in members if _parameter(n) in parameters}
        wanted = {**parameters, **kept}
        problems = [f"missing {name}" for name in parameters if name not in members]
        problems += [f"unexpected {name}" for name in sorted(members - wanted.keys())]
        arrays = {}
        for name in members & wanted.keys():
            try:
                arrays[name] = _read(archive, name, wanted[name])
            except ValueError as error:
                problems.append(str(error))
        if problems:
            raise ValueError(f"{path} does not fit this network: {'; '.join(sorted(problems))}")
    network.load_state_dict({name: arrays[name] for name in parameters})
    if optimizer is not None:
        optimizer.iterations = int(about["iterations"])
        numbered = sorted(n for n in arrays if n.startswith(f"{_MEMORY}."))
        optimizer.state = {
            name: tuple(arrays[n] for n in numbered if _parameter(n) == name)
            for name in parameters
            if any(_parameter(n) == name for n in numbered)
        }
    return about["notes"]


def _memory(network: Sequential) -> dict[str, Array]:
    """The arrays that the optimizer keeps, under names that say whose they are."""
    state = {} if network.optimizer is None else network.optimizer.state
    return {
        f"{_MEMORY}.{name}.{number}": array
        for name, arrays in state.items()
        for number, array in enumerate(arrays)
    }


def _parameter(name: str) -> str:
    """Whose memory an array is: optimizer.0.weight.1 is 0.weight's; "" if it is none."""
    first, _, rest = name.partition(".")
    return rest.rpartition(".")[0] if first == _MEMORY else ""


def _archive(path: str | os.PathLike[str]) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path} is not an .npz file: {error}") from error


def _about(path: str | os.PathLike[str]) -> dict[str, Any]:
    with _archive(path) as archive:
        if f"{_NOTES}.npy" not in archive.namelist():
            raise ValueError(f"{path} is not a checkpoint: it has no member {_NOTES!r}")
        if archive.getinfo(f"{_NOTES}.npy").file_size > _MOST_NOTES:
            raise ValueError(f"{path}: {_NOTES}: more than {_MOST_NOTES} bytes")
        try:
            text = _read(archive, _NOTES, None)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    try:
        about = json.loads(str(text))
        if about.keys() >= {"optimizer", "iterations", "notes"}:
            return about
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{path}: {_NOTES}: not the notes of a checkpoint")


def _read(archive: zipfile.ZipFile, name: str, like: Array | None) -> Array:
    """One member, of the shape and type of `like`; the notes, a single string, if that is None."""
    try:
        with archive.open(f"{name}.npy") as member:
            version = np.lib.format.read_magic(member)
            if version != (1, 0):
                raise ValueError(f"format {version}, expected (1, 0)")
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(member)
            expected = ((), "<U") if like is None else (like.shape, like.dtype.str)
            found = shape, dtype.str[:2] if like is None else dtype.str
            if found != expected or fortran:
                raise ValueError(f"{dtype} of shape {shape}, expected {_said(like)}")
            size = dtype.itemsize * int(np.prod(shape))
            content = member.read(size + 1)
            if len(content) != size:
                raise ValueError(f"{len(content)} bytes of data, expected {size}")
    # zipfile's errors for a damaged, an encrypted and a strangely compressed member
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise ValueError(f"{name}: {error}") from error
    return np.frombuffer(content, dtype).reshape(shape).copy()


def _said(like: Array | None) -> str:
    return "one string" if like is None else f"{like.dtype} of shape {like.shape}"
