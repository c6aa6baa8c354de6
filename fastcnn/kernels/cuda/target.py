"""The one file that knows the CUDA package (numba-cuda): what is there, compiling, launching.

A kernel file declares its kernels with `@kernel` and shares code between them with `@helper`:

    @kernel("real* x, real* y, int64 n")
    def relu(x, y, n):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < n:
            y[i] = max(x[i], real(0))

    relu.of(real="float32").launch(stream, blocks, threads, x, y, n)
    relu.of(real="float32").facts((9, 0)).registers        # without any GPU

Arrays are bare pointers: an array with its shape and strides takes fifteen launch parameters and
several times the launching time of one. In the simulator (NUMBA_ENABLE_CUDASIM=1) they are flat
arrays, which are indexed in the same way.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.util import find_spec
from threading import Lock, local
from types import FunctionType
from typing import Any

import numpy as np

INSTALL = "pip install 'fastcnn[cuda]'"
Arch = tuple[int, int] | tuple[int, int, str]  # (9, 0), or (9, 0, "a") for all of an H100

# Placeholders: `Kernel.of` puts types in their place. `real` is what the arrays hold, `cell` what
# a pooling mask does, `label` what class numbers are.
real: Any = np.float32
cell: Any = np.uint8
label: Any = np.int64


class CudaUnavailable(RuntimeError):
    """There is no CUDA package, or no driver or device; says which and what to do."""


def missing_package() -> str | None:
    """Why nothing can be compiled here; None if everything needed is installed."""
    if find_spec("numba_cuda") is None:
        return f"arrays on a GPU need the CUDA extra, which is not installed: {INSTALL}"
    return None


def simulated() -> bool:
    """Whether Numba's simulator stands in for the device."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@cache
def missing_device() -> str | None:
    """Why nothing can be run here; None if there is a device, or the simulator."""
    reason = missing_package()
    if reason is not None or simulated():
        return reason
    try:
        count = len(cuda.gpus)
    except cuda.cudadrv.error.CudaSupportError as error:
        return (
            "the CUDA package is installed, but there is no usable NVIDIA driver "
            f"({' '.join(str(error).split())}): install the driver, or use NumPy arrays"
        )
    return None if count else "the CUDA driver finds no GPU: use NumPy arrays"


def require_package() -> None:
    """CudaUnavailable unless kernels can be compiled here."""
    reason = missing_package()
    if reason is not None:
        raise CudaUnavailable(reason)


def require_device() -> None:
    """CudaUnavailable unless kernels can be run here."""
    reason = missing_device()
    if reason is not None:
        raise CudaUnavailable(reason)


@cache
def _cuda() -> Any:
    require_package()
    with warnings.catch_warnings():
        # numba-cuda warns of a GPU or driver that it finds wanting; `missing_device` says it.
        warnings.simplefilter("ignore")
        from numba import cuda
    if simulated():
        _share_once()
    return cuda


def _share_once() -> None:
    """Let the simulated threads of a block make each shared array once.

    The simulator looks for the array of a line of code and makes it if there is none: two threads
    that looked at the same time got one each, and now and then a result was wrong. Two arrays of
    one line were one.
    """
    from numba.cuda.simulator import kernelapi

    made, lock = kernelapi.FakeCUDAShared.array, Lock()

    def array(shared: Any, shape: Any, dtype: Any, alignment: Any = None) -> Any:
        if shape == 0:  # dynamic: there from the start
            return made(shared, shape, dtype, alignment)
        caller = sys._getframe(1)
        place = caller.f_code, caller.f_lasti
        if isinstance(dtype, kernelapi.types.Type):
            dtype = kernelapi.numpy_support.as_dtype(dtype)
        with lock:
            if place not in shared._allocations:
                shared._allocations[place] = np.empty(shape, dtype)
            return shared._allocations[place]

    kernelapi.FakeCUDAShared.array = array


class _Later:
    """A module of the package, imported when something of it is first asked for."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)


def _types() -> Any:
    _cuda()
    from numba.cuda import types

    return types


@cache
def _driver() -> Any:
    require_package()
    from cuda.bindings import driver as functions

    return functions


# What kernel files import in place of the package, which is then imported with the first kernel
# that is compiled, and not with the file.
cuda: Any = _Later(_cuda)
types: Any = _Later(_types)
driver: Any = _Later(_driver)


class Helper:
    """A function that kernels call; it becomes part of each of them.

    Inlined by Numba itself: a device function of its own needs a driver even to be compiled.
    """

    def __init__(self, function: Any) -> None:
        self.function = function


def helper(function: Callable[..., Any]) -> Any:
    """Declare a function that kernels and other helpers may call, placeholders included."""
    return Helper(function)


class Intrinsic:
    """A function of inline PTX, as numba.cuda.extending.intrinsic takes it."""

    def __init__(self, function: Any) -> None:
        self.function = function

    @cached_property
    def made(self) -> Any:
        _cuda()
        from numba.cuda.extending import intrinsic

        return intrinsic(self.function)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Declare a function of inline PTX that kernels and helpers may call; none are simulated."""
    return Intrinsic(function)


def _settled(function: Any, known: dict[str, Any]) -> Any:
    """The same code with other globals: what `known` says, and helpers settled likewise."""
    names = dict(function.__globals__)
    names |= {name: value for name, value in known.items() if name in function.__code__.co_names}
    for name in function.__code__.co_names:
        called = names.get(name)
        if called is cuda:
            names[name] = _cuda()
        elif isinstance(called, Intrinsic):
            names[name] = called.made
        elif isinstance(called, Helper):
            settled = _settled(called.function, known)
            names[name] = _cuda().jit(device=True, inline="always")(settled)
    settled = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    settled.__module__, settled.__qualname__ = function.__module__, function.__qualname__
    return settled


# Launch parameters by their names in a signature.
_SCALARS: dict[str, Any] = {
    "int32": ctypes.c_int32,
    "uint32": ctypes.c_uint32,
    "int64": ctypes.c_int64,
    "float32": ctypes.c_float,
    "float64": ctypes.c_double,
}


# Between an instruction's address in a listing and its name: the predicate it hangs on, if any.
_AFTER_ADDRESS = r"\*/\s+(?:@!?U?P\w+\s+)?"


@dataclass(frozen=True)
class Facts:
    """What the assembler made of a kernel for one architecture.

    Attributes
    ----------
    registers : int
        Per thread.
    stack, spills, shared : int
        Bytes: of local memory per thread, of registers stored to it for want of room, and of
        statically allocated shared memory per block.
    ptx, sass : str
        The virtual and the real instructions.
    """

    registers: int
    stack: int
    spills: int
    shared: int
    ptx: str
    sass: str

    @property
    def instructions(self) -> Counter[str]:
        """How often each SASS instruction occurs, by its name up to the first dot."""
        names = re.findall(
            r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", self.sass, re.M
        )
        return Counter(name.split(".")[0] for name in names)

    def count(self, pattern: str) -> int:
        """How many SASS instructions match, such as r"LDS\\.128" or "HMMA"."""
        return len(re.findall(rf"{_AFTER_ADDRESS}{pattern}", self.sass))


def _unroll(function: Any) -> None:
    """Ask the compiler, in its IR, to write out all loops of a function that it can count.

    A loop is known by the jump that closes it: to a block on the path that led to it. LLVM's
    metadata for a loop names itself first.
    """
    module = function.module
    wish = module.add_metadata(["llvm.loop.unroll.full"])
    path: set[Any] = set()
    done: set[Any] = set()

    def visit(block: Any) -> None:
        path.add(block)
        jump = block.terminator
        for target in (o for o in jump.operands if hasattr(o, "terminator")):
            if target in path:
                loop = module.add_metadata([wish, block.name])
                loop.operands = (loop, wish)
                jump.set_metadata("llvm.loop", loop)
            elif target not in done:
                visit(target)
        path.discard(block)
        done.add(block)

    visit(function.entry_basic_block)


class Program:
    """A kernel with its types and constants settled: what is compiled, once per architecture."""

    def __init__(self, kernel: Kernel, meanings: dict[str, Any]) -> None:
        self.kernel = kernel
        self.meanings = meanings
        known = {k: getattr(np, v) if _names_type(v) else v for k, v in meanings.items()}
        self._known = known
        self.parameters = [_resolve(kind, meanings) for kind in kernel.kinds]
        self._scalars = [_SCALARS.get(kind, ctypes.c_void_p) for kind in self.parameters]
        self._libraries: dict[Arch, Any] = {}
        self._loaded: dict[Arch, Any] = {}
        self._room = 0
        self._simulated: Any = None

    @cached_property
    def function(self) -> Any:
        """The Python function that is compiled."""
        return _settled(self.kernel.function, self._known)

    # Without a GPU.

    def library(self, arch: Arch) -> Any:
        """The package's compiled library for an architecture: its PTX, cubin and SASS."""
        if arch not in self._libraries:
            function, types = self.function, _types()
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
                _unroll(entry)
            nvvm.set_launch_bounds(entry, self.kernel.bounds)
            self._libraries[arch] = library
        return self._libraries[arch]

    def cubin(self, arch: Arch) -> bytes:
        """The machine code for an architecture."""
        return self.library(arch).get_cubin(cc=arch).code

    def facts(self, arch: Arch) -> Facts:
        """Compile and assemble for an architecture, and read off what came out."""
        library = self.library(arch)
        ptx = library.get_asm_str(cc=arch)
        from cuda.core import Linker, LinkerOptions, ObjectCode

        options = LinkerOptions(
            arch="sm_" + "".join(map(str, arch)),
            ptxas_options=["-v"],
            max_register_count=self.kernel.max_registers,
        )
        linker = Linker(ObjectCode.from_ptx(ptx.encode()), options=options)
        linker.link("cubin")
        log = linker.get_info_log()

        def number(pattern: str) -> int:
            return sum(map(int, re.findall(pattern, log)))

        return Facts(
            registers=number(r"Used (\d+) registers"),
            stack=number(r"(\d+) bytes stack frame"),
            spills=number(r"(\d+) bytes spill (?:stores|loads)"),
            shared=number(r"(\d+) bytes smem"),
            ptx=ptx,
            sass=library.get_sass(cc=arch),
        )

    # With one, or the simulator.

    def launch(
        self, stream: int, blocks: tuple[int, ...], threads: int, *arguments: Any, shared: int = 0
    ) -> None:
        """Run on a stream; returns at once.

        Parameters
        ----------
        stream : int
            The address of the caller's CUstream; 0 for the default stream.
        blocks : tuple of int
            The grid; nothing is launched if one of them is 0.
        threads : int
            Per block, along x.
        *arguments
            Arrays (anything with `pointer` and, for the simulator, `flat`), None for no array,
            and numbers.
        shared : int
            Bytes of dynamic shared memory per block.
        """
        if 0 in blocks:
            return
        recorded, written = Recorded(self, blocks, threads, arguments, shared), _written.get()
        if written is not None:
            written.append(recorded)
            if simulated():
                return
        recorded.run(stream)

    def _simulate(
        self, blocks: tuple[int, ...], threads: int, arguments: tuple[Any, ...], shared: int
    ) -> None:
        if self._simulated is None:
            self._simulated = _cuda().jit(self.function)
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
            self.program._simulate(self.blocks, self.threads, self.arguments, self.shared)
            return
        Launch(self.program, self.blocks, self.threads, self.arguments, self.shared).run(stream)


class NotRecordable(RuntimeError):
    """Something was done while launches were written down that cannot be repeated with them."""


# Where launches are written down, in this thread or task.
_written: ContextVar[list[Recorded] | None] = ContextVar("fastcnn_cuda_written", default=None)


@contextmanager
def writing_down(launches: list[Recorded]) -> Iterator[None]:
    """Within a `with` block, append every launch to a list; the simulator runs none of them.

    A driver decides by its stream's state: see graphs.py.
    """
    token = _written.set(launches)
    try:
        yield
    finally:
        _written.reset(token)


def is_recording() -> bool:
    """Whether launches are being written down in this thread or task."""
    return _written.get() is not None


def expect_not_recording(what: str) -> None:
    """NotRecordable, if launches are being written down."""
    if is_recording():
        raise NotRecordable(f"{what} cannot be part of a graph")


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
            for kind, a in zip(program._scalars, arguments, strict=True)
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
        As C would have them: "real* x, uint8* mask, int32 n". Types are those of `_SCALARS`,
        pointers to them, to "uint8", "float16" and "bfloat16", and the placeholders.
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


def _names_type(value: Any) -> bool:
    return isinstance(value, str) and isinstance(getattr(np, value, None), type)


def _resolve(kind: str, meanings: dict[str, Any]) -> str:
    """A parameter's type with placeholders replaced: "real*" becomes "float32*"."""
    base = kind.rstrip("*")
    return meanings.get(base, base) + kind[len(base) :]


# The driver: contexts, devices, streams.


class CudaError(RuntimeError):
    """A call of the CUDA driver failed; says why in its words."""


def checked(status: Any, *results: Any) -> Any:
    """The results of a driver call; CudaError unless it succeeded."""
    if int(status):
        _, name = driver.cuGetErrorName(status)
        _, text = driver.cuGetErrorString(status)
        raise CudaError(f"{name.decode()}: {text.decode()}")
    return results[0] if len(results) == 1 else results


_thread = local()


def current_device() -> Any:
    """The device whose context is current in this thread, which is made so where none is."""
    if not getattr(_thread, "ready", False):
        require_device()
        if not int(checked(*driver.cuCtxGetCurrent())):
            _cuda().current_context()  # makes the device's primary context current
        _thread.ready = True
    return checked(*driver.cuCtxGetDevice())


@cache
def _attribute(device: int, name: str) -> int:
    attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return checked(*driver.cuDeviceGetAttribute(attribute, device))


def architecture(device: Any) -> Arch:
    """(9, 0) for an H100."""
    number = int(device)
    return (
        _attribute(number, "COMPUTE_CAPABILITY_MAJOR"),
        _attribute(number, "COMPUTE_CAPABILITY_MINOR"),
    )


def multiprocessors() -> int:
    """How many the current device has; 1 in the simulator."""
    return 1 if simulated() else _attribute(int(current_device()), "MULTIPROCESSOR_COUNT")
