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
from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.jit import config, entry
from fastcnn.kernels.cpu.replay import call_entry, call_shared, encode, entry_of
from fastcnn.memory import LINE_BYTES, SCRATCH

# Arrays of a call, inputs and outputs: dy, mask, passes and dx of a pooling, x, w, b and y.
MOST_ARRAYS = 4
# Bytes of scratch memory of a call, which is allocated by every run; what is larger than the first
# comes from the pool of workspaces, for memory new to the process takes longer than asking for it.
_FROM_HEAP, _MOST_SCRATCH = 64 << 10, 32 << 20
_WORD = 8  # bytes
# Words before the rows, words of a row, words of a hole, and base addresses before the blocks.
_HEAD, _ROW, _HOLE, _BASES = 7, 5, 3, MOST_ARRAYS + 1
# What a call returns, as a recipe's numbers: nothing, or the sum of an array of one of two types.
_ANSWERS = {"int64": 1, "float64": 2}


def _address_typer(typingctx, array):
    """The address of an array's first element; 0 for None."""

    def codegen(context, builder, signature, values):
        kind = signature.args[0]
        if not isinstance(kind, types.Array):
            return context.get_constant(types.intp, 0)
        data = context.make_array(kind)(context, builder, values[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), codegen


_address: Any = intrinsic(_address_typer)


@entry
def _perform(layout, poison, room, a, b, c, d, shell, threads):
    """Run a recipe, laid out as `Recipe` says, on these arrays; returns its answer.

    With the address of a shell what is worth sharing is shared among so many threads. What no
    kernel does, raising, costs nothing here, where it is the one thing left to say.
    """
    rows, holes, words, scratch = layout[0], layout[1], layout[2], layout[3]
    own = np.empty(_BASES + words, np.int64)
    if len(room) < scratch:
        room = np.empty(scratch, np.int64)
    start = _address(own)
    to_line = _address(room) + LINE_BYTES - 1
    own[0], own[1], own[2], own[3] = _address(a), _address(b), _address(c), _address(d)
    own[4] = to_line - to_line % LINE_BYTES
    at_holes = _HEAD + _ROW * rows
    at_words = at_holes + _HOLE * holes
    for i in range(words):
        own[_BASES + i] = layout[at_words + i]
    for i in range(at_holes, at_words, _HOLE):
        own[_BASES + layout[i]] = own[layout[i + 1]] + layout[i + 2]
    if poison:
        for i in range(len(room)):
            room[i] = -1  # NaN in every type of floats
    for i in range(_HEAD, at_holes, _ROW):
        block = start + _WORD * (_BASES + layout[i + 1])
        if shell and layout[i + 4]:
            failures = call_shared(shell, threads, layout[i], block, layout[i + 2], layout[i + 3])
        else:
            failures = call_entry(layout[i], block, layout[i + 2], layout[i + 3])
        if failures:
            raise MemoryError("no memory for the workspace of a repeated call")
    answer, first = np.float64(0), (own[4] - _address(room) + layout[5]) // _WORD
    if layout[4] == 1:
        for i in range(first, first + layout[6]):
            answer += room[i]
    elif layout[4] == 2:
        sums = room.view(np.float64)
        for i in range(first, first + layout[6]):
            answer += sums[i]
    return answer


# What a call returns, as a recipe's numbers: its kind, where in scratch memory, how many elements.
_Answer = tuple[int, int, int]
_NO_ANSWER = (0, 0, 0)


class Recipe:
    """What a call launches, on arrays yet to come.

    Laid out in words of 8 bytes: how many rows, holes, words of blocks and words of scratch memory
    there are; of the answer its kind, the bytes before it in scratch memory and its length; the
    rows (entry, where its block begins, chunk, tasks, whether threads share them); the holes (word,
    array or scratch memory, bytes from its start); the blocks of replay.py one after the other.

    Attributes
    ----------
    threads : int
        How many threads its launches were cut for; 0 if that makes no difference.
    """

    def __init__(
        self,
        rows: list[Any],
        holes: list[Any],
        words: list[int],
        scratch: int,
        answer: _Answer,
        kept: list[Any],
    ) -> None:
        room = (scratch + LINE_BYTES) // _WORD if scratch else 0
        flat = [number for row in (*rows, *holes) for number in row]
        head = len(rows), len(holes), len(words), room, *answer
        self._layout = np.array([*head, *flat, *words], np.int64)
        self._pooled = room if scratch > _FROM_HEAP else 0
        self._quickly = partial(_perform, self._layout, False, _NO_ROOM)
        self._kept = kept
        self.threads = threads.get_num_threads() if any(row[-1] for row in rows) else 0

    @property
    def stale(self) -> bool:
        """Whether it was made for another number of threads."""
        return self.threads not in (0, threads.get_num_threads())

    def run(self, *arrays: np.ndarray | None, poison: bool = False) -> float | None:
        """Do the call's work on these arrays, its inputs and then its outputs.

        Returns what the call would, or how many numbers it could not take, 0 for nothing; None,
        and nothing is done, while launches are recorded, for a recipe makes none, and with another
        number of threads.

        Raises
        ------
        MemoryError
            A chunk could not allocate its scratch memory.
        """
        if threads.tape.get() is not None:
            return None
        others = _NONE[len(arrays)]
        if not (self.threads or self._pooled or poison):
            return self._quickly(*arrays, *others, 0, 1)
        if self.stale:
            return None
        room = SCRATCH.empty((self._pooled,), np.int64) if self._pooled else _NO_ROOM
        sharing = threads.sharers(2, threads.WORTH_SHARING) if self.threads else 1
        if sharing < 2:
            return _perform(self._layout, poison, room, *arrays, *others, 0, 1)
        return threads.share(sharing, _perform, self._layout, poison, room, *arrays, *others)


# In place of arrays that a call does not have, by the number of those it has.
_NONE = [(None,) * (MOST_ARRAYS - n) for n in range(MOST_ARRAYS + 1)]
_NO_ROOM = np.empty(0, np.int64)


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
    made = _compare(*takes[0], *takes[1], tells or answers[1] is not None)
    if made is None:
        return None
    own = takes[1][1]
    expected = own[len(inputs) :]
    # all ones are NaN in every type of floats
    poisoned = [np.full(a.nbytes, 255, np.uint8).view(a.dtype).reshape(a.shape) for a in expected]
    answer = made.run(*own[: len(inputs)], *poisoned, poison=True)
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
                    if place[1] != other_scratch.place(b):
                        return None
                    told = _ANSWERS.get(a.dtype.name, 0), place[1], a.size
                holes.append((len(words) + 4, *place))
            words += block
        if one.tells:
            if answer != _NO_ANSWER:
                return None  # two answers
            answer = told
    if not launches or scratch.size > _MOST_SCRATCH or answers != (answer[0] > 0):
        return None
    return Recipe(rows, holes, words, scratch.size, answer, kept)
