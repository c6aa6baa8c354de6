"""A call's launches with holes where its arrays go: a repeated call is one call of compiled code.

What an implementation launches on small arrays depends on the geometry alone: the same chunks on
the same tables, scratch memory and parts of the caller's arrays. Two recordings of a call, on
different arrays, tell these apart:

    inside one of the call's arrays            a hole: which array, how many bytes from its start
    the same object in both recordings         a table, which the recipe keeps
    else                                       scratch memory, which every run has anew

What a call returns, if anything, is the sum of the last scratch array of its last launch.

A call in which NumPy or Python touches numbers between the launches has no recipe. It shows: a
recipe is kept only if it gives the bits of the second recording, which is of random numbers, on
outputs and scratch memory full of NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.jit import config, entry
from fastcnn.kernels.cpu.replay import call_entry, encode, entry_of
from fastcnn.memory import LINE_BYTES

# Arrays of a call, inputs and outputs: dy, mask, passes and dx of a pooling, x, w, b and y.
MOST_ARRAYS = 4
# Bytes of scratch memory of a call, which is allocated by every run.
_MOST_SCRATCH = 64 << 10
_WORD = 8  # bytes
# Words before the rows, words of a row, words of a hole, and base addresses before the blocks.
_HEAD, _ROW, _HOLE, _BASES = 7, 4, 3, MOST_ARRAYS + 1
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
def _perform(layout, poison, a, b, c, d):
    """Run a recipe, laid out as `Recipe` says, on these arrays; returns its answer.

    What no kernel does, raising, costs nothing here, where it is the one thing left to say.
    """
    rows, holes, words, scratch = layout[0], layout[1], layout[2], layout[3]
    own = np.empty(_BASES + words + scratch, np.int64)
    start = _address(own)
    to_line = start + _WORD * (_BASES + words) + LINE_BYTES - 1
    own[0], own[1], own[2], own[3] = _address(a), _address(b), _address(c), _address(d)
    own[4] = to_line - to_line % LINE_BYTES
    at_holes = _HEAD + _ROW * rows
    at_words = at_holes + _HOLE * holes
    for i in range(words):
        own[_BASES + i] = layout[at_words + i]
    for i in range(at_holes, at_words, _HOLE):
        own[_BASES + layout[i]] = own[layout[i + 1]] + layout[i + 2]
    if poison:
        for i in range(_BASES + words, len(own)):
            own[i] = -1  # NaN in every type of floats
    for i in range(_HEAD, at_holes, _ROW):
        block = start + _WORD * (_BASES + layout[i + 1])
        if call_entry(layout[i], block, layout[i + 2], layout[i + 3]):
            raise MemoryError("no memory for the workspace of a repeated call")
    answer, first = np.float64(0), own[4] + layout[5]
    if layout[4] == 1:
        for i in range((first - start) // _WORD, (first - start) // _WORD + layout[6]):
            answer += own[i]
    elif layout[4] == 2:
        sums = own.view(np.float64)
        for i in range((first - start) // _WORD, (first - start) // _WORD + layout[6]):
            answer += sums[i]
    return answer


class Recipe:
    """What a call launches, on arrays yet to come.

    Laid out in words of 8 bytes: how many rows, holes, words of blocks and words of scratch memory
    there are; of the answer its kind, the bytes before it in scratch memory and its length; the
    rows (entry, where its block begins, chunk, tasks); the holes (word, array or scratch memory,
    bytes from its start); the blocks of replay.py one after the other.
    """

    def __init__(
        self,
        rows: list[Any],
        holes: list[Any],
        words: list[int],
        scratch: int,
        answer: tuple[int, int, int],
        kept: list[Any],
    ) -> None:
        room = (scratch + LINE_BYTES) // _WORD if scratch else 0
        flat = [number for row in (*rows, *holes) for number in row]
        head = len(rows), len(holes), len(words), room, *answer
        layout = np.array([*head, *flat, *words], np.int64)
        self._perform, self._perform_poisoned = (
            partial(_perform, layout, p) for p in (False, True)
        )
        self._kept = kept

    def run(self, *arrays: np.ndarray | None, poison: bool = False) -> float | None:
        """Do the call's work on these arrays, its inputs and then its outputs.

        Returns what the call would, 0 for nothing; None, and nothing is done, while launches are
        recorded: a recipe makes none.

        Raises
        ------
        MemoryError
            A chunk could not allocate its scratch memory.
        """
        if threads.tape.get() is not None:
            return None
        perform = self._perform_poisoned if poison else self._perform
        return perform(*arrays, *_NONE[len(arrays)])


# In place of arrays that a call does not have, by the number of those it has.
_NONE = [(None,) * (MOST_ARRAYS - n) for n in range(MOST_ARRAYS + 1)]


class _Scratch:
    """Where the scratch arrays of a call lie, each behind the other."""

    def __init__(self) -> None:
        self.size = 0
        self._starts: dict[int, int] = {}

    def place(self, array: np.ndarray) -> int:
        root = array
        while isinstance(root.base, np.ndarray):
            root = root.base
        if id(root) not in self._starts:
            self._starts[id(root)] = self.size
            self.size += -(-root.nbytes // LINE_BYTES) * LINE_BYTES
        return self._starts[id(root)] + array.ctypes.data - root.ctypes.data


def _within(array: np.ndarray, arrays: list[Any]) -> tuple[int, int] | None:
    """Which of `arrays` an array lies in, and how many bytes from its start."""
    for i, whole in enumerate(arrays):
        if whole is not None:
            offset = array.ctypes.data - whole.ctypes.data
            if 0 <= offset < whole.nbytes:
                return i, offset
    return None


def recipe_of(
    run: Callable[..., Any], inputs: list[np.ndarray | None], outputs: list[np.ndarray]
) -> Recipe | None:
    """The recipe of a call; None if it has none.

    Parameters
    ----------
    run : callable
        Makes the call's launches on arrays like the inputs and the outputs.
    inputs, outputs : lists of ndarray or None
        What it was called with, and what it wrote.
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
    made = _compare(*takes[0], *takes[1], answers[1] is not None)
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
    rows, holes, kept = [], [], []
    words: list[int] = []
    scratch, other_scratch, answer = _Scratch(), _Scratch(), (0, 0, 0)
    if not launches or len(launches) != len(others):
        return None
    for one, two in zip(launches, others, strict=True):
        if one.worth_sharing or (one.address, one.tasks) != (two.address, two.tasks):
            return None
        answer = 0, 0, 0
        rows.append((entry_of(one), len(words), one.address, one.tasks))
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
                    answer = _ANSWERS.get(a.dtype.name, 0), place[1], a.size
                holes.append((len(words) + 4, *place))
            words += block
    if scratch.size > _MOST_SCRATCH or (answers and not answer[0]):
        return None
    return Recipe(rows, holes, words, scratch.size, answer if answers else (0, 0, 0), kept)
