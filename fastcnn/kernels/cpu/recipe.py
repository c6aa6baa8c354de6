"""A call's launches with holes where its arrays go: a repeated call is one call of compiled code.

What an implementation launches on small arrays depends on the geometry alone: the same chunks on
the same tables, scratch memory and parts of the caller's arrays. Two recordings of a call, on
different arrays, tell these apart:

    inside one of the call's arrays            a hole: which array, how many bytes from its start
    the same object in both recordings         a table, which the recipe keeps
    else                                       scratch memory, which every run has anew

What a call returns, or how many numbers it could not take, is the sum of the last scratch array of
the launch that tells it.

A call in which NumPy or Python touches numbers between the launches has no recipe. It shows: a
recipe is kept only if it gives the bits of the second recording, which is of random numbers, on
outputs and scratch memory full of NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.jit import config
from fastcnn.kernels.cpu.recipe_code import ANSWERS, MOST_ARRAYS, WORD, compiled, form_of
from fastcnn.kernels.cpu.replay import encode, entry_of
from fastcnn.memory import LINE_BYTES, SCRATCH

# Bytes of scratch memory of a call, which is allocated by every run; what is larger than the first
# comes from the pool of workspaces, for memory new to the process takes longer than asking for it.
_FROM_HEAP, _MOST_SCRATCH = 64 << 10, 32 << 20
# What a call returns, as a recipe's numbers: its kind, where in scratch memory, how many elements.
_Answer = tuple[int, int, int]
_NO_ANSWER = (0, 0, 0)


class Recipe:
    """What a call launches, on arrays yet to come; laid out as recipe_code.py says.

    Attributes
    ----------
    run : callable
        Of the addresses of inputs and outputs, Python's objects. Does the call's work on them;
        returns what the call would, or how many numbers it could not take, 0 for nothing. None or
        NaN, and nothing is done, if they are of other forms; while launches are recorded, for a
        recipe makes none; and with another number of threads than it was made for. Raises
        MemoryError if a chunk could not allocate its scratch memory.
    threads : int
        How many threads share its launches; 0 if none is worth sharing.
    """

    def __init__(
        self,
        arrays: list[np.ndarray | None],
        rows: list[Any],
        holes: list[Any],
        words: list[int],
        scratch: int,
        answer: _Answer,
        kept: list[Any],
        sharers: int,
    ) -> None:
        room = (scratch + LINE_BYTES) // WORD if scratch else 0
        forms = [form_of(a) for a in arrays]
        flat = [number for row in (*forms, *rows, *holes) for number in row]
        head = len(rows), len(holes), len(words), room, *answer
        self._layout = np.array([*head, *flat, *words], np.int64)
        self._kept = *kept, *(None if a is None else a.dtype for a in arrays)
        self._perform = partial(compiled(), self._layout.ctypes.data)
        self._others = (0,) * (MOST_ARRAYS - len(arrays))
        self.scratch = scratch
        self.threads = sharers if any(row[-1] for row in rows) else 0
        small = not self.threads and scratch <= _FROM_HEAP
        self.run = self._run_small() if small else self._run

    @property
    def stale(self) -> bool:
        """Whether it was made for another number of threads."""
        return self.threads not in (0, _sharers())

    def _run_small(self) -> Callable[..., float | None]:
        """`run` for a call that one thread does in a few microseconds."""
        perform, recorded = partial(self._perform, 0), threads.tape.get
        last = *self._others, 0, 1

        def run(*things: int) -> float | None:
            return perform(*things, *last) if recorded() is None else None

        return run

    def _run(self, *things: int) -> float | None:
        if threads.tape.get() is not None or self.stale:
            return None
        if self.scratch <= _FROM_HEAP:
            return self.run_in(0, *things)
        room = SCRATCH.empty((self.scratch,), np.uint8)
        return self.run_in(room.ctypes.data, *things)

    def run_in(self, room: int, *things: int) -> float:
        """As `run`, in scratch memory at this address, which must begin with a line."""
        if self.threads < 2:
            return self._perform(room, *things, *self._others, 0, 1)
        return threads.share(self.threads, self._perform, room, *things, *self._others)


def _sharers() -> int:
    """How many threads share a launch that is worth it."""
    return threads.sharers(2, threads.WORTH_SHARING)


def _root(array: np.ndarray) -> tuple[np.ndarray, int]:
    """The array that has the memory of another, and where its first line begins, if from a pool."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    of_pool = root is not array and root.dtype == np.uint8
    return root, root.ctypes.data + (-root.ctypes.data % LINE_BYTES if of_pool else 0)


class _Scratch:
    """Where the scratch arrays of a call lie, each behind the other.

    Parameters
    ----------
    arrays : iterable of ndarray
        All of them.
    """

    def __init__(self, arrays: Iterable[np.ndarray]) -> None:
        ends: dict[int, int] = {}
        self._roots = []  # alive, so that no other has its id
        for array in arrays:
            root, start = _root(array)
            self._roots.append(root)
            end = array.ctypes.data + array.nbytes - start
            ends[id(root)] = max(end, ends.get(id(root), 0))
        self.size = 0
        self._starts = {}
        for key, end in ends.items():
            self._starts[key] = self.size
            self.size += -(-end // LINE_BYTES) * LINE_BYTES

    def place(self, array: np.ndarray) -> int:
        root, start = _root(array)
        return self._starts[id(root)] + array.ctypes.data - start


def _within(array: np.ndarray, arrays: list[Any]) -> tuple[int, int] | None:
    """Which of `arrays` an array lies in, and how many bytes from its start."""
    for i, whole in enumerate(arrays):
        if whole is not None:
            offset = array.ctypes.data - whole.ctypes.data
            if 0 <= offset < whole.nbytes:
                return i, offset
    return None


def recipe_of(
    run: Callable[..., Any],
    inputs: list[np.ndarray | None],
    outputs: list[np.ndarray],
    tells: bool = False,
) -> Recipe | None:
    """The recipe of a call; None if it has none.

    Parameters
    ----------
    run : callable
        Makes the call's launches on arrays like the inputs and the outputs.
    inputs, outputs : lists of ndarray or None
        What it was called with, and what it wrote.
    tells : bool
        Whether a launch must tell how many numbers the call could not take.
    """
    arrays = [*inputs, *outputs]
    if config.DISABLE_JIT or len(arrays) > MOST_ARRAYS:
        return None
    sharers = _sharers()
    takes: list[tuple[list[threads.Launch], list[Any]]] = []
    answers: list[Any] = []
    for other in (False, True):
        own: list[Any] = [a if a is None else _others(a) if other else a.copy() for a in arrays]
        launches: list[threads.Launch] = []
        token = threads.tape.set(launches)
        try:
            answers.append(run(*own))
        finally:
            threads.tape.reset(token)
        takes.append((launches, own))
    made = _compare(*takes[0], *takes[1], tells or answers[1] is not None, sharers)
    if made is None or made.stale:
        return None
    own = takes[1][1]
    expected = own[len(inputs) :]
    # all ones are NaN in every type of floats
    poisoned = [np.full(a.nbytes, 255, np.uint8).view(a.dtype).reshape(a.shape) for a in expected]
    room = SCRATCH.empty((made.scratch,), np.uint8)
    room.fill(255)
    answer = made.run_in(room.ctypes.data, *map(id, own[: len(inputs)]), *map(id, poisoned))
    results = [*expected, np.float64(answers[1] or 0)]
    again = [*poisoned, np.float64(answer or 0)]
    same = all(a.tobytes() == b.tobytes() for a, b in zip(results, again, strict=True))
    return made if same else None


def _others(array: np.ndarray) -> np.ndarray:
    """Other numbers in place of an array's; codes and labels stay, which not every number is."""
    if array.dtype.kind != "f":
        return array.copy()
    return np.random.default_rng(0).standard_normal(array.shape, array.dtype)


def _compare(
    launches: list[threads.Launch],
    own: list[Any],
    others: list[threads.Launch],
    other: list[Any],
    answers: bool,
    sharers: int,
) -> Recipe | None:
    """The recipe of what was launched twice, on `own` and on `other`."""
    rows, holes, kept, answer = [], [], [], _NO_ANSWER
    words: list[int] = []
    if len(launches) != len(others) or any(
        (a.address, a.tasks, a.worth_sharing, a.tells, len(a.args))
        != (b.address, b.tasks, b.worth_sharing, b.tells, len(b.args))
        for a, b in zip(launches, others, strict=True)
    ):
        return None
    pairs = [
        (a, b)
        for one, two in zip(launches, others, strict=True)
        for a, b in zip(one.args, two.args, strict=True)
        if isinstance(a, np.ndarray) and a is not b and a.size
    ]
    scratch = _Scratch(a for a, _ in pairs if _within(a, own) is None)
    other_scratch = _Scratch(b for _, b in pairs if _within(b, other) is None)
    for one, two in zip(launches, others, strict=True):
        told = _NO_ANSWER
        rows.append((entry_of(one), len(words), one.address, one.tasks, one.worth_sharing))
        for a, b in zip(one.args, two.args, strict=True):
            block = encode(a)
            if not isinstance(a, np.ndarray):
                if block != encode(b):
                    return None
            elif a is b or not a.size:
                kept.append(a)
            else:
                place = _within(a, own)
                if place != _within(b, other) or a.shape != b.shape:
                    return None
                if place is None:
                    place = MOST_ARRAYS, scratch.place(a)
                    if place[1] != other_scratch.place(b) or a.ctypes.data < _root(a)[1]:
                        return None
                    told = ANSWERS.get(a.dtype.name, 0), place[1], a.size
                holes.append((len(words) + 4, *place))
            words += block
        if one.tells:
            if answer != _NO_ANSWER:
                return None  # two answers
            answer = told
    if not launches or scratch.size > _MOST_SCRATCH or answers != (answer[0] > 0):
        return None
    return Recipe(own, rows, holes, words, scratch.size, answer, kept, sharers)
