"""Kernels with their types settled: compiled, loaded and launched, or run by the simulator."""

from __future__ import annotations

import ctypes
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.kernels.cuda.target.compiled_facts import Facts
from fastcnn.kernels.cuda.target.compiled_facts import facts as assembled
from fastcnn.kernels.cuda.target.devices import architecture, checked, current_device
from fastcnn.kernels.cuda.target.launching import SCALARS, Recorded
from fastcnn.kernels.cuda.target.ordering import follow
from fastcnn.kernels.cuda.target.package import Arch, driver, load_cuda, load_types, simulated
from fastcnn.kernels.cuda.target.recording import written
from fastcnn.kernels.cuda.target.source import names_type, resolved, settled
from fastcnn.kernels.cuda.target.unrolling import unroll

if TYPE_CHECKING:
    from fastcnn.kernels.cuda.target.declaring import Kernel


class Program:
    """A kernel with its types and constants settled: what is compiled, once per architecture."""

    def __init__(self, kernel: Kernel, meanings: dict[str, Any]) -> None:
        self.kernel = kernel
        self.meanings = meanings
        known = {k: getattr(np, v) if names_type(v) else v for k, v in meanings.items()}
        self._known = known
        self.parameters = [resolved(kind, meanings) for kind in kernel.kinds]
        self.scalars = [SCALARS.get(kind, ctypes.c_void_p) for kind in self.parameters]
        self._libraries: dict[Arch, Any] = {}
        self._loaded: dict[Arch, Any] = {}
        self._room = 0
        self._simulated: Any = None

    @cached_property
    def function(self) -> Any:
        """The Python function that is compiled."""
        return settled(self.kernel.function, self._known)

    # Without a GPU.

    def library(self, arch: Arch) -> Any:
        """The package's compiled library for an architecture: its PTX, cubin and SASS."""
        if arch not in self._libraries:
            function, types = self.function, load_types()
            from numba.cuda.compiler import compile_cuda, kernel_fixup
            from numba.cuda.cudadrv import nvvm

            signature = tuple(
                types.CPointer(getattr(types, kind[:-1]))
                if kind.endswith("*")
                else getattr(types, kind)
                for kind in self.parameters
            )
            compiled = compile_cuda(
                function,
                types.void,
                signature,
                fastmath=self.kernel.fastmath,
                nvvm_options={"fastmath": self.kernel.fastmath, "opt": 3},
                cc=arch,
                max_registers=self.kernel.max_registers,
            )
            library = compiled.library
            entry = library.get_function(compiled.fndesc.llvm_func_name)
            library._entry_name = entry.name
            kernel_fixup(entry, False)
            if self.kernel.unroll:
                unroll(entry)
            nvvm.set_launch_bounds(entry, self.kernel.bounds)
            self._libraries[arch] = library
        return self._libraries[arch]

    def cubin(self, arch: Arch) -> bytes:
        """The machine code for an architecture."""
        return self.library(arch).get_cubin(cc=arch).code

    def facts(self, arch: Arch) -> Facts:
        """Compile and assemble for an architecture, and read off what came out."""
        return assembled(self.library(arch), arch, self.kernel.max_registers)

    # With one, or the simulator.

    def launch(
        self, stream: int, blocks: tuple[int, ...], threads: int, *arguments: Any, shared: int = 0
    ) -> None:
        """Run on a stream, in turn with those that arrays are of; returns at once.

        Parameters
        ----------
        stream : int
            The address of the caller's CUstream; 0 for the default stream.
        blocks : tuple of int
            The grid; nothing is launched if one of them is 0.
        threads : int
            Per block, along x.
        *arguments
            Arrays (anything with `pointer`, `stream` if it has one, and `flat` for the simulator),
            None for no array, and numbers.
        shared : int
            Bytes of dynamic shared memory per block.
        """
        if 0 in blocks:
            return
        recorded, tape = Recorded(self, blocks, threads, arguments, shared), written()
        if tape is not None:
            tape.append(recorded)
            if not simulated():
                recorded.run(stream)
            return
        # Memory is freed, and written again, in the order of the stream that it is of: that one
        # waits for whatever another does with it.
        others = {getattr(a, "stream", stream) for a in arguments} - {stream}
        for other in others:
            follow(stream, other)
        recorded.run(stream)
        for other in others:
            follow(other, stream)

    def simulate(
        self, blocks: tuple[int, ...], threads: int, arguments: tuple[Any, ...], shared: int
    ) -> None:
        """As `launch`, in Numba's simulator; done when it returns."""
        if self._simulated is None:
            self._simulated = load_cuda().jit(self.function)
        flat = [
            getattr(a, "flat", a) if a is not None else np.empty(0, np.float32) for a in arguments
        ]
        self._simulated[blocks, threads, 0, shared](*flat)

    def handle(self, shared: int) -> Any:
        """The loaded kernel for the current device, with so much dynamic shared memory allowed."""
        device = current_device()
        arch = architecture(device)
        if arch not in self._loaded:
            made = driver.cuLibraryLoadData(self.cubin(arch), [], [], 0, [], [], 0)
            name = self.library(arch)._entry_name.encode()
            kernel = checked(*driver.cuLibraryGetKernel(checked(*made), name))
            # A CUkernel is launched as a CUfunction: of whichever context is current.
            self._loaded[arch] = kernel, driver.CUfunction(int(kernel))
        kernel, function = self._loaded[arch]
        if shared > max(self._room, 48 * 1024):  # what every kernel may have unasked
            attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            checked(*driver.cuKernelSetAttribute(attribute, shared, kernel, device))
            self._room = shared
        return function

    def __repr__(self) -> str:
        return f"{self.kernel.function.__name__}{self.meanings}"
