"""How a kernel file declares a kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastcnn.kernels.cuda.target.programs import Program


class Kernel:
    """A kernel as its file declares it; `of` settles what its names stand for."""

    def __init__(
        self,
        function: Any,
        parameters: str,
        threads: int | None,
        blocks_per_sm: int | None,
        max_registers: int | None,
        fastmath: bool,
        unroll: bool,
    ) -> None:
        declared = [p.split() for p in parameters.split(",")]
        self.kinds = tuple(kind for kind, _ in declared)
        code = function.__code__
        if tuple(name for _, name in declared) != code.co_varnames[: code.co_argcount]:
            raise TypeError(f"{function.__name__} takes {code.co_varnames}, not ({parameters})")
        self.function = function
        self.bounds = None
        if threads is not None:
            self.bounds = (threads,) if blocks_per_sm is None else (threads, blocks_per_sm)
        self.max_registers = max_registers
        self.fastmath = fastmath
        self.unroll = unroll
        self._programs: dict[tuple[Any, ...], Program] = {}

    def of(self, **meanings: Any) -> Program:
        """The kernel with these types ("float32") and constants for its global names."""
        key = tuple(meanings.items())
        program = self._programs.get(key)
        if program is None:
            program = self._programs[key] = Program(self, meanings)
        return program


def kernel(
    parameters: str,
    *,
    threads: int | None = None,
    blocks_per_sm: int | None = None,
    max_registers: int | None = None,
    fastmath: bool = False,
    unroll: bool = False,
) -> Callable[[Any], Kernel]:
    """Declare a kernel.

    Parameters
    ----------
    parameters : str
        As C would have them: "real* x, uint8* mask, int32 n". Types are those of
        `launching.SCALARS`, pointers to them, to "uint8", "float16" and "bfloat16", and the
        placeholders.
    threads, blocks_per_sm : int, optional
        The most threads per block, and the fewest blocks that should fit on a multiprocessor.
    max_registers : int, optional
    fastmath : bool
        Reorder and approximate; never where NaN, infinities or comparisons decide.
    unroll : bool
        Write out every loop whose number of rounds is a constant, however long: small local
        arrays then are registers.
    """

    def declare(function: Any) -> Kernel:
        return Kernel(function, parameters, threads, blocks_per_sm, max_registers, fastmath, unroll)

    return declare
