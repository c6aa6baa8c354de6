"""Training to be continued later: parameters, the optimizer's memory and notes in one .npz file.

The parameters stand under their own names (`0.weight`, …), so that `numpy.load` of the file is a
`state_dict`. A file is written whole or not at all; what is read is checked against the network
before memory is taken for it, and nothing in a file is executed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.files.npz import FLOATS, TEXT, opened, read_member, write_npz
from fastcnn.files.replacing import replacing

from .sequential import Sequential
from .weights import MEMORY, NOTES

Array = np.ndarray

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
    arrays[NOTES] = np.array(json.dumps(about))
    with replacing(path) as file:
        write_npz(file, arrays)


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
    with opened(path) as archive:
        members = {name.removesuffix(".npy") for name in archive.namelist()} - {NOTES}
        kept = {n: parameters[_parameter(n)] for n in members if _parameter(n) in parameters}
        wanted = {**parameters, **kept}
        problems = [f"missing {name}" for name in parameters if name not in members]
        problems += [f"unexpected {name}" for name in sorted(members - wanted.keys())]
        arrays = {}
        for name in members & wanted.keys():
            try:
                arrays[name] = read_member(archive, name, FLOATS, wanted[name])
            except ValueError as error:
                problems.append(str(error))
    if problems:
        raise ValueError(f"{path} does not fit this network: {'; '.join(sorted(problems))}")
    network.load_state_dict({name: arrays[name] for name in parameters})
    if optimizer is not None:
        optimizer.iterations = int(about["iterations"])
        numbered = sorted(n for n in arrays if n.startswith(f"{MEMORY}."))
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
        f"{MEMORY}.{name}.{number}": array
        for name, arrays in state.items()
        for number, array in enumerate(arrays)
    }


def _parameter(name: str) -> str:
    """Whose memory an array is: optimizer.0.weight.1 is 0.weight's; "" if it is none."""
    first, _, rest = name.partition(".")
    return rest.rpartition(".")[0] if first == MEMORY else ""


def _about(path: str | os.PathLike[str]) -> dict[str, Any]:
    with opened(path) as archive:
        if f"{NOTES}.npy" not in archive.namelist():
            raise ValueError(f"is not a checkpoint: it has no member {NOTES!r}")
        if archive.getinfo(f"{NOTES}.npy").file_size > _MOST_NOTES:
            raise ValueError(f"{NOTES}: more than {_MOST_NOTES} bytes")
        text = read_member(archive, NOTES, TEXT)
    try:
        about = json.loads(str(text))
        if about.keys() >= {"optimizer", "iterations", "notes"}:
            return about
    except (ValueError, AttributeError):
        pass
    raise ValueError(f"{path}: {NOTES}: not the notes of a checkpoint")
