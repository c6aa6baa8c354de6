"""A sequence of launches, recorded once and run again in one compiled call.

A launch costs a few microseconds of Python: looking at each array, handing it to compiled code. For
a network of a few thousand weights that is more than its arithmetic. A `Tape` keeps the launches of
one pass, with their arrays; running it again does the same work on the same memory:

    with recording() as tape:
        ...                      # any calls of operations
    tape.run()                   # all of their launches again, on what the arrays now hold

Whatever NumPy did between the launches is not repeated. Whoever uses a tape must therefore make
sure that nothing did: `scratch` names the arrays that must not matter before a run.

A block is what one launch's arguments look like in memory, in words of 8 bytes: an array is the
seven (with one dimension) numbers that compiled code knows it by, a scalar is one word.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.calls import address_of, emit_shell_call
from fastcnn.kernels.cpu.jit import entry, kernel

_WORD = 8


class Block(types.Type):
    """Numba's type of the address of a block that holds arguments of these types."""

    def __init__(self, members):
        self.members = members
        super().__init__(name=f"Block{tuple(map(str, members))}")

    @property
    def key(self):
        return self.members


@register_model(Block)
class _BlockModel(models.OpaqueModel):
    pass


def _words(kind: Any) -> int:
    """Words that an argument of a Numba type takes."""
    return 5 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


def encode(value: Any) -> list[int]:
    """An argument's words; an array of a caller counts no references."""
    if isinstance(value, np.ndarray):
        return [0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides]
    number = np.asarray(value)
    return [int.from_bytes(number.tobytes().ljust(_WORD, b"\0"), "little", signed=True)]


def _call_block_typer(typingctx, address, task, block):
    """Call the compiled chunk at `address` with (task, *members of the block); 1 if it failed."""
    members = block.members
    argtypes = (types.intp, *members)

    def codegen(context, builder, signature, values):
        address, task, block = values
        unpacked, word = [task], 0
        for kind in members:
            place = builder.gep(
                builder.bitcast(block, context.get_value_type(types.intp).as_pointer()),
                [context.get_constant(types.intp, word)],
                source_etype=context.get_value_type(types.intp),
            )
            stored = context.get_data_type(kind)
            model = context.data_model_manager[kind]
            place = builder.bitcast(place, stored.as_pointer())
            unpacked.append(model.from_data(builder, builder.load(place, typ=stored, align=_WORD)))
            word += _words(kind)
        convention = context.call_conv
        pointer = convention.get_function_type(types.none, argtypes).as_pointer()
        status, _ = convention.call_function(
            builder, builder.inttoptr(address, pointer), types.none, argtypes, unpacked
        )
        return builder.zext(status.is_error, context.get_value_type(types.intp))

    return types.intp(types.intp, types.intp, block), codegen


_call_block: Any = intrinsic(_call_block_typer)


@kernel
def _entry(block, address, first, end):
    """Tasks first … end-1 of one launch."""
    failures = 0
    for task in range(first, end):
        failures += _call_block(address, task, block)
    return failures


ANY_BLOCK = Block(())


def _emit_entry(context, builder, entry, block, address, first, end):
    """Call an `_entry`, compiled for any type of block, by its address."""
    argtypes = (ANY_BLOCK, types.intp, types.intp, types.intp)
    convention = context.call_conv
    pointer = convention.get_function_type(types.intp, argtypes).as_pointer()
    place = builder.inttoptr(block, context.get_value_type(ANY_BLOCK))
    arguments = [place, address, first, end]
    _, failures = convention.call_function(
        builder, builder.inttoptr(entry, pointer), types.intp, argtypes, arguments
    )
    return failures


def _call_entry_typer(typingctx, entry, block, address, tasks):
    """All tasks by the `_entry` at an address; returns how many failed."""

    def codegen(context, builder, signature, values):
        entry, block, address, tasks = values
        first = context.get_constant(types.intp, 0)
        return _emit_entry(context, builder, entry, block, address, first, tasks)

    return types.intp(types.intp, types.intp, types.intp, types.intp), codegen


def _call_shared_typer(typingctx, shell, threads, entry, block, address, tasks):
    """The same by the shell at address `shell` (threads.py), which shares tasks among threads."""

    def codegen(context, builder, signature, values):
        shell, threads, entry, block, address, tasks = values

        def one_task(inner, place, chunk, task):
            of_entry, of_block = (inner.extract_value(place, i) for i in range(2))
            end = inner.add(task, task.type(1))
            return _emit_entry(context, inner, of_entry, of_block, chunk, task, end)

        place = cgutils.pack_array(builder, [entry, block])
        return emit_shell_call(context, builder, (shell, address, tasks, threads), place, one_task)

    return types.intp(*[types.intp] * 6), codegen


call_entry: Any = intrinsic(_call_entry_typer)
call_shared: Any = intrinsic(_call_shared_typer)


@entry
def _run_rows(rows):
    """rows[i] = (entry, block, chunk, tasks): the launches in order."""
    failures = 0
    for i in range(rows.shape[0]):
        failures += call_entry(rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3])
    return failures


def entry_of(launch: threads.Launch) -> int:
    """Address of the code that takes a launch's arguments from a block."""
    members = tuple(numba.typeof(a) for a in launch.args)
    return address_of(_entry, (Block(members), types.intp, types.intp, types.intp))


class Tape:
    """Launches in order, with their arguments.

    Attributes
    ----------
    launches : list of threads.Launch
    conditional : bool
        Whether numbers decided what was launched, so that others may need other launches.
    """

    def __init__(self) -> None:
        self.conditional = False
        self.launches: list[threads.Launch] = []
        self._segments: list[Any] | None = None
        self._blocks: list[np.ndarray] = []

    def scratch(self, *kept: np.ndarray) -> list[np.ndarray]:
        """The arrays of floats among the arguments that share no memory with those in `kept`.

        Each is written by one launch before another reads it, or else something other than a
        launch wrote it and the tape cannot be run again.
        """
        found = {id(a): a for launch in self.launches for a in launch.args if _is_floats(a)}
        return [
            a for a in found.values() if a.size and not any(np.may_share_memory(a, k) for k in kept)
        ]

    def _row(self, launch: threads.Launch) -> tuple[int, int, int, int]:
        entry = entry_of(launch)
        block = np.array([word for a in launch.args for word in encode(a)], np.int64)
        self._blocks.append(block)
        return entry, block.ctypes.data, launch.address, launch.tasks

    def _compile(self) -> list[Any]:
        """Runs of serial launches as tables, launches worth sharing as they are."""
        segments: list[Any] = []
        rows: list[tuple[int, int, int, int]] = []
        for launch in self.launches:
            if launch.worth_sharing:
                if rows:
                    segments.append(np.array(rows, np.int64))
                    rows = []
                segments.append(launch)
            else:
                rows.append(self._row(launch))
        if rows:
            segments.append(np.array(rows, np.int64))
        return segments

    def run(self) -> None:
        """All launches again, in order.

        Raises
        ------
        MemoryError
            A chunk could not allocate its scratch memory.
        """
        if self._segments is None:
            self._segments = self._compile()
        failures = 0
        for segment in self._segments:
            if type(segment) is np.ndarray:
                failures += _run_rows(segment)
            else:
                failures += threads.execute(segment)
        if failures:
            raise MemoryError("no memory for the workspace of a recorded kernel")


def _is_floats(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


@contextmanager
def recording() -> Iterator[Tape]:
    """Keep every launch that this thread makes within a `with` block, which also runs it."""
    tape = Tape()
    token = threads.tape.set(tape.launches)
    try:
        yield tape
    finally:
        threads.tape.reset(token)
