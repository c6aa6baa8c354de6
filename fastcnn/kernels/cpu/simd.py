"""Vector code by hand: the machine's vectors, and a small emitter of LLVM IR for them.

The only file that imports llvmlite. An @intrinsic made here must be a module global of the file
that calls it: Numba does not find the cached form of one that a closure captured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from fastcnn.kernels.cpu.jit import config


@dataclass(frozen=True)
class VectorUnit:
    """What a processor's vector instructions offer, and the register tile that suits them.

    Attributes
    ----------
    name : str
    features : frozenset of str
        LLVM's names of the features that it takes.
    bytes : int
        Size of a vector.
    rows, vectors : int
        A tile of rows x vectors accumulators: enough to hide the latency of a multiply-add (4
        cycles, two a cycle: 8 accumulators at least), few enough to leave registers for the
        vectors of B and one element of A.
    """

    name: str
    features: frozenset[str]
    bytes: int
    rows: int
    vectors: int

    def lanes(self, itemsize: int) -> int:
        """Elements of this size in a vector."""
        return self.bytes // itemsize


# Widest first. Tiles: 28 of 32 registers, 12 of 16, 16 of 32 (NEON multiplies by an element of a
# register, so that A's rows are loaded as vectors and need registers too).
UNITS = (
    VectorUnit("AVX-512", frozenset({"avx512f"}), 64, 14, 2),
    VectorUnit("AVX2", frozenset({"avx2", "fma"}), 32, 6, 2),
    VectorUnit("NEON", frozenset({"neon"}), 16, 8, 2),
)


@cache
def vector_unit() -> VectorUnit | None:
    """The widest unit that Numba compiles for here; None if it is in no table, or nothing compiles.

    Numba's own target is asked, not the processor, so that NUMBA_CPU_FEATURES counts.
    """
    if config.DISABLE_JIT:
        return None
    triple, _, listed = cpu_target.target_context.codegen().magic_tuple()
    features = {name[1:] for name in listed.split(",") if name.startswith("+")}
    if triple.startswith(("aarch64", "arm64")):
        features.add("neon")  # part of the architecture, not always listed
    return next((unit for unit in UNITS if unit.features <= features), None)


_INT = ir.IntType(64)
_LANE = ir.IntType(32)


class Emitter:
    """Writes vector operations at a builder's position.

    Parameters
    ----------
    context, builder
        As Numba passes them to an intrinsic's codegen.
    element : llvmlite type
        ir.FloatType() or ir.DoubleType().
    lanes : int
        Elements per vector.
    """

    def __init__(self, context, builder, element, lanes):
        self.context, self.builder = context, builder
        self.element, self.lanes = element, lanes
        self.vector = ir.VectorType(element, lanes)

    def data(self, array_type, array):
        """Pointer to the first element of an array argument."""
        return self.context.make_array(array_type)(self.context, self.builder, value=array).data

    def index(self, number):
        return ir.Constant(_INT, number)

    def at(self, pointer, offset):
        """Pointer `offset` elements further on."""
        return self.builder.gep(pointer, [offset], source_etype=self.element)

    def zero(self):
        return ir.Constant(self.vector, [0.0] * self.lanes)

    def load(self, pointer):
        """The vector at a pointer aligned to its elements only."""
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(place, align=self.element_bytes)

    def store(self, vector, pointer):
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(vector, place, align=self.element_bytes)

    @property
    def element_bytes(self) -> int:
        return 4 if isinstance(self.element, ir.FloatType) else 8

    def broadcast(self, pointer):
        """The element at a pointer in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        value = self.builder.load(pointer, align=self.element_bytes)
        first = self.builder.insert_element(undefined, value, ir.Constant(_LANE, 0))
        everywhere = ir.Constant(ir.VectorType(_LANE, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    def fma(self, a, b, c):
        """a*b + c in one rounding."""
        kind = "f32" if self.element_bytes == 4 else "f64"
        signature = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fma.v{self.lanes}{kind}"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [a, b, c])

    def add(self, a, b):
        return self.builder.fadd(a, b)

    @contextmanager
    def loop(self, count: Any, carried: Sequence[Any]) -> Iterator[Loop]:
        """A loop of `count` rounds, at least one, that carries values from round to round.

        Yields a Loop: `number` and `values` are this round's; assign `next` before the block ends.
        Afterwards `next` holds the last round's.
        """
        builder, before = self.builder, self.builder.block
        body = builder.append_basic_block("round")
        builder.branch(body)
        builder.position_at_end(body)
        number = builder.phi(_INT)
        number.add_incoming(self.index(0), before)
        values = []
        for initial in carried:
            value = builder.phi(initial.type)
            value.add_incoming(initial, before)
            values.append(value)
        loop = Loop(number, values)
        yield loop
        after = builder.add(number, self.index(1))
        number.add_incoming(after, builder.block)
        for value, following in zip(values, loop.next, strict=True):
            value.add_incoming(following, builder.block)
        done = builder.append_basic_block("done")
        builder.cbranch(builder.icmp_signed("<", after, count), body, done)
        builder.position_at_end(done)


class Loop:
    """A loop that is being written: see `Emitter.loop`."""

    def __init__(self, number, values):
        self.number, self.values = number, values
        self.next = values


def tile_product(element: Any, lanes: int, rows: int, vectors: int) -> Any:
    """Make the intrinsic C += A B on one register tile, float32 or float64.

    `product(depth, a, b, c)`: c (rows, vectors*lanes) += sum over k of a[k, row] * b[k, column],
    k = 0 … depth-1, depth at least 1. Arrays are contiguous and of the element's type; a holds
    depth x rows elements, b depth x vectors*lanes. All of C stays in registers: per round of k,
    `vectors` loads of B, `rows` broadcasts of A, rows x vectors multiply-adds.

    Parameters
    ----------
    element : numba.types.float32 or numba.types.float64
    lanes, rows, vectors : int
        Elements per vector; the tile's size.
    """
    llvm_element = ir.FloatType() if element == types.float32 else ir.DoubleType()

    def typer(typingctx, depth, a, b, c):
        for array in (a, b, c):
            if not isinstance(array, types.Array) or array.dtype != element or array.layout != "C":
                return None

        def codegen(context, builder, signature, arguments):
            emit = Emitter(context, builder, llvm_element, lanes)
            _, *array_types = signature.args
            pointers = [emit.data(t, v) for t, v in zip(array_types, arguments[1:], strict=True)]
            a_, b_, c_ = pointers
            _emit_tile(emit, arguments[0], a_, b_, c_, rows, vectors)
            return context.get_dummy_value()

        return types.void(types.intp, a, b, c), codegen

    return intrinsic(typer)


def _emit_tile(emit, depth, a, b, c, rows, vectors):
    builder, lanes = emit.builder, emit.lanes
    tile = [(row, v) for row in range(rows) for v in range(vectors)]
    with emit.loop(depth, [emit.zero()] * len(tile)) as loop:
        row_of_a = emit.at(a, builder.mul(loop.number, emit.index(rows)))
        row_of_b = emit.at(b, builder.mul(loop.number, emit.index(vectors * lanes)))
        bs = [emit.load(emit.at(row_of_b, emit.index(v * lanes))) for v in range(vectors)]
        loop.next = []
        for row in range(rows):
            factor = emit.broadcast(emit.at(row_of_a, emit.index(row)))
            for v in range(vectors):
                total = loop.values[row * vectors + v]
                loop.next.append(emit.fma(factor, bs[v], total))
    for (row, v), total in zip(tile, loop.next, strict=True):
        place = emit.at(c, emit.index((row * vectors + v) * lanes))
        emit.store(emit.add(emit.load(place), total), place)


def peak_tile() -> Any:
    """`tile_product` in float32 for this machine's unit; None where there is none.

    Assign it to a module global of the file that calls it.
    """
    unit = vector_unit()
    if unit is None:
        return None
    return tile_product(types.float32, unit.lanes(4), unit.rows, unit.vectors)


def vector_type(element: Any, lanes: int) -> Any:
    """LLVM's type of `lanes` elements; calling it with a list of numbers makes a constant."""
    return ir.VectorType(element, lanes)
