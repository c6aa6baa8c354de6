"""Launches: their parameters packed for the driver, and as they are written down."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastcnn.kernels.cuda.target.devices import checked
from fastcnn.kernels.cuda.target.package import driver, simulated

if TYPE_CHECKING:
    from fastcnn.kernels.cuda.target.programs import Program

# Launch parameters by their names in a signature.
SCALARS: dict[str, Any] = {
    "int32": ctypes.c_int32,
    "uint32": ctypes.c_uint32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


class Launch:
    """A launch made ready: its parameters lie packed, so that repeating it is one driver call."""

    def __init__(
        self,
        program: Program,
        blocks: tuple[int, ...],
        threads: int,
        arguments: tuple[Any, ...],
        shared: int = 0,
    ) -> None:
        self._function = program.handle(shared)
        self._grid = (*blocks, *(1,) * (3 - len(blocks)))
        self._threads, self._shared = threads, shared
        self.arrays = arguments  # kept alive as long as the launch may be repeated
        self._cells = [
            kind(a if kind is not ctypes.c_void_p else getattr(a, "pointer", None))
            for kind, a in zip(program.scalars, arguments, strict=True)
        ]
        self._packed = (ctypes.c_void_p * len(self._cells))(*map(ctypes.addressof, self._cells))
        self._address = ctypes.addressof(self._packed)

    def run(self, stream: int) -> None:
        checked(
            *driver.cuLaunchKernel(
                self._function, *self._grid, self._threads, 1, 1, self._shared, stream,
                self._address, 0,
            )
        )  # fmt: skip


@dataclass(frozen=True)
class Recorded:
    """A launch as it was asked for; holds its arguments, and so their memory, alive."""

    program: Program
    blocks: tuple[int, ...]
    threads: int
    arguments: tuple[Any, ...]
    shared: int

    def run(self, stream: int) -> None:
        """Launch it, on the device or in the simulator."""
        if simulated():
            self.program.simulate(self.blocks, self.threads, self.arguments, self.shared)
            return
        Launch(self.program, self.blocks, self.threads, self.arguments, self.shared).run(stream)
