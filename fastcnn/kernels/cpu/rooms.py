"""Scratch memory that tasks lend each other: one room per thread, however many tasks there are.

A task claims a room when it starts and gives it back when it ends. The first free one is taken, so
that a thread mostly gets the room that its last task has left in its cache. What a room holds is
the task's own: results do not depend on which room it was.
"""

from __future__ import annotations

import numpy as np

from fastcnn.kernels.cpu.atomics import APART, look, swap
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import sharers, zeros


def flags(tasks: int, work: int) -> np.ndarray:
    """Flags, all free, of as many rooms as threads run tasks of such a launch at a time."""
    return zeros(APART * sharers(tasks, work), np.int64)


def rooms(taken: np.ndarray) -> int:
    """How many rooms there are."""
    return taken.size // APART


@kernel
def claim(taken):
    """Number of a room that was free and is the caller's now: there is one for each thread."""
    place = 0
    while look(taken, place) != 0 or not swap(taken, place, 0, 1):
        place = (place + APART) % taken.size
    return place // APART


@kernel
def give_back(taken, room):
    """Let others claim a room."""
    swap(taken, room * APART, 1, 0)
