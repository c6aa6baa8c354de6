"""Vector code by hand: a small emitter of LLVM IR.

The files whose intrinsics it writes need no llvmlite themselves. An @intrinsic must be a module
global of the file that calls it: Numba does not find the cached form of one that a closure
captured.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from fastcnn.kernels.cpu.flow import Flow
from fastcnn.kernels.cpu.units import known_unit, streams_to_l2

_INT = ir.IntType(64)
_LANE = ir.IntType(32)


def llvm_type(element):
    """LLVM's type of numba.types.float32 or float64."""
    return ir.FloatType() if element == types.float32 else ir.DoubleType()


class Emitter(Flow):
    """Writes vector operations at a builder's position.

    Parameters
    ----------
    context, builder
        As Numba passes them to an intrinsic's codegen.
    element : llvmlite type
        ir.FloatType() or ir.DoubleType().
    lanes : int
        Elements per vector.
    fused : bool, optional
        Whether to multiply and add in one instruction; as this processor does it by default.
    """

    def __init__(self, context, builder, element, lanes, fused=None):
        self.context, self.builder = context, builder
        self.fused = known_unit().fused if fused is None else fused
        self.element, self.lanes = element, lanes
        self.vector = ir.VectorType(element, lanes)

    def widened(self):
        """An emitter of as many lanes in float64."""
        return Emitter(self.context, self.builder, ir.DoubleType(), self.lanes)

    @property
    def element_bytes(self):
        return 4 if isinstance(self.element, ir.FloatType) else 8

    def _call(self, name, result, arguments):
        """Call LLVM's intrinsic of this name for vectors of this length."""
        kind = "f32" if self.element_bytes == 4 else "f64"
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        name = f"llvm.{name}".format(vector=f"v{self.lanes}{kind}", element=kind)
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, arguments)

    # Whole numbers and pointers.

    def index(self, number):
        return ir.Constant(_INT, number)

    def minimum(self, a, b):
        """The smaller of two whole numbers."""
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def data(self, array_type, array):
        """Pointer to the first element of an array argument."""
        return self.context.make_array(array_type)(self.context, self.builder, value=array).data

    def at(self, pointer, offset):
        """Pointer `offset` elements further on."""
        return self.builder.gep(pointer, [offset], source_etype=self.element)

    def at_integer(self, pointer, offset):
        """Pointer `offset` int64 further on."""
        return self.builder.gep(pointer, [offset], source_etype=_INT)

    def integer(self, pointer, offset):
        """The int64 at a place behind a pointer."""
        return self.builder.load(self.at_integer(pointer, offset), typ=_INT)

    def integers(self, pointer, first, count):
        """`count` int64 behind a pointer, from number `first` on."""
        places = [self.builder.add(first, self.index(i)) for i in range(count)]
        return [self.integer(pointer, place) for place in places]

    # The same number in every lane.

    def constant(self, number):
        """A number in every lane."""
        return ir.Constant(self.vector, [number] * self.lanes)

    def zero(self):
        return self.constant(0.0)

    def splat(self, value):
        """A number that is known at run time only, in every lane."""
        return self._splat(value, self.vector)

    def broadcast(self, pointer):
        """The element at a pointer in every lane."""
        value = self.builder.load(pointer, align=self.element_bytes, typ=self.element)
        return self._splat(value, self.vector)

    def _splat(self, value, kind):
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(_LANE, 0))
        everywhere = ir.Constant(ir.VectorType(_LANE, kind.count), [0] * kind.count)
        return self.builder.shuffle_vector(first, undefined, everywhere)

    # Vectors in memory, whole.

    def load(self, pointer):
        """The vector at a pointer aligned to its elements only."""
        place = self.builder.bitcast(pointer, self.vector.as_pointer())
        return self.builder.load(place, align=self.element_bytes, typ=self.vector)

    def store(self, vector, pointer):
        place = self.builder.bitcast(pointer, vector.type.as_pointer())
        self.builder.store(vector, place, align=self.element_bytes)

    def stream(self, vector, pointer):
        """To memory past the caches; the pointer must be aligned to the vector."""
        place = self.builder.bitcast(pointer, vector.type.as_pointer())
        stored = self.builder.store(vector, place, align=self.lanes * self.element_bytes)
        one = ir.Constant(ir.IntType(32), 1)
        stored.set_metadata("nontemporal", self.builder.module.add_metadata([one]))

    def load_part(self, pointer, lanes):
        """A vector of fewer lanes."""
        kind = ir.VectorType(self.element, lanes)
        place = self.builder.bitcast(pointer, kind.as_pointer())
        return self.builder.load(place, align=self.element_bytes, typ=kind)

    # Masks.

    def mask(self, bits):
        """Mask of the lanes whose bit is set in an integer."""
        narrow = self.builder.trunc(bits, ir.IntType(self.lanes))
        return self.builder.bitcast(narrow, ir.VectorType(ir.IntType(1), self.lanes))

    def none(self):
        """Mask of no lane."""
        return ir.Constant(ir.VectorType(ir.IntType(1), self.lanes), [0] * self.lanes)

    def below(self, bound):
        """Mask of the lanes 0 … bound-1."""
        return self._compared(bound, "<")

    def between(self, first, last):
        """Mask of the lanes first … last-1."""
        return self.builder.and_(self.below(last), self._compared(first, ">="))

    def pairs_between(self, first, last):
        """The same for two vectors in a row, of whose even lanes these are counted: two masks of
        the lanes from 2*first to 2*(last-1)."""
        one, lanes = self.index(1), self.index(self.lanes)
        ends = self.builder.shl(first, one), self.builder.sub(self.builder.shl(last, one), one)
        return self.between(*ends), self.between(*[self.builder.sub(end, lanes) for end in ends])

    def part_between(self, first, bound, lanes):
        """Mask of `lanes` lanes: those l for which 0 <= first + l < bound."""
        kind = ir.VectorType(_LANE, lanes)
        numbers = ir.Constant(kind, list(range(lanes)))
        first, bound = (self._splat(self.builder.trunc(n, _LANE), kind) for n in (first, bound))
        return self.builder.icmp_unsigned("<", self.builder.add(first, numbers), bound)

    def _compared(self, bound, sign):
        kind = ir.VectorType(_LANE, self.lanes)
        numbers = ir.Constant(kind, list(range(self.lanes)))
        bounds = self._splat(self.builder.trunc(bound, _LANE), kind)
        return self.builder.icmp_signed(sign, numbers, bounds)

    # Memory under masks.

    def masked_load(self, pointer, mask, otherwise):
        """Lanes of the mask from memory, the others from `otherwise`; reads nothing else."""
        align = ir.Constant(_LANE, self.element_bytes)
        arguments = [pointer, align, mask, otherwise]
        return self._call("masked.load.{vector}.p0", self.vector, arguments)

    def masked_store(self, vector, pointer, mask):
        """Lanes of the mask to memory; writes nothing else."""
        arguments = [vector, pointer, ir.Constant(_LANE, self.element_bytes), mask]
        self._call("masked.store.{vector}.p0", ir.VoidType(), arguments)

    def masked_part(self, pointer, mask):
        """As `masked_load`, a vector of as many lanes as the mask has; zero in the others."""
        kind = ir.VectorType(self.element, mask.type.count)
        zero, align = ir.Constant(kind, [0.0] * kind.count), ir.Constant(_LANE, self.element_bytes)
        name = f"masked.load.v{kind.count}{{element}}.p0"
        return self._call(name, kind, [pointer, align, mask, zero])

    def gather(self, pointer, step, mask, otherwise):
        """As `masked_load`, lane i from element i*step."""
        align = ir.Constant(_LANE, self.element_bytes)
        arguments = [self._every(pointer, step), align, mask, otherwise]
        return self._call("masked.gather.{vector}." + f"v{self.lanes}p0", self.vector, arguments)

    def scatter(self, vector, pointer, step, mask):
        """As `masked_store`, lane i to element i*step."""
        align = ir.Constant(_LANE, self.element_bytes)
        arguments = [vector, self._every(pointer, step), align, mask]
        name = "masked.scatter.{vector}." + f"v{self.lanes}p0"
        self._call(name, ir.VoidType(), arguments)

    def _every(self, pointer, step):
        """Pointers to every `step`-th element."""
        kind = ir.VectorType(_INT, self.lanes)
        numbers = ir.Constant(kind, list(range(self.lanes)))
        offsets = self.builder.mul(numbers, self._splat(step, kind))
        base = self.builder.ptrtoint(pointer, _INT)
        size = ir.Constant(kind, [self.element_bytes] * self.lanes)
        places = self.builder.add(self._splat(base, kind), self.builder.mul(offsets, size))
        return self.builder.inttoptr(places, ir.VectorType(ir.PointerType(), self.lanes))

    # Arithmetic, lane by lane.

    def add(self, a, b):
        return self.builder.fadd(a, b)

    def fma(self, a, b, c):
        """a*b + c: in one rounding where the processor can, which elsewhere a library would do."""
        name = "fma.{vector}" if self.fused else "fmuladd.{vector}"
        return self._call(name, self.vector, [a, b, c])

    def rectified(self, vector):
        """0 in the lanes that are below 0; NaN stays."""
        negative = self.builder.fcmp_ordered("<", vector, self.zero())
        return self.builder.select(negative, self.zero(), vector)

    def at_least(self, vector, floor):
        """In each lane the larger of the two; the vector's own where it is NaN or both are 0."""
        return self.builder.select(self.builder.fcmp_ordered(">", floor, vector), floor, vector)

    def magnitude(self, vector):
        """The bits of |vector| as integers: ordered as the numbers are, infinity and NaN last."""
        whole = ir.IntType(8 * self.element_bytes)
        kind = ir.VectorType(whole, self.lanes)
        but_sign = ir.Constant(kind, [2 ** (whole.width - 1) - 1] * self.lanes)
        return self.builder.and_(self.builder.bitcast(vector, kind), but_sign)

    def larger(self, a, b):
        """Lane by lane the larger of integers."""
        return self.builder.select(self.builder.icmp_signed(">", a, b), a, b)

    def widen(self, vector):
        """The same numbers in float64."""
        kind = ir.VectorType(ir.DoubleType(), self.lanes)
        return vector if vector.type == kind else self.builder.fpext(vector, kind)

    # Lanes that change places.

    def pick(self, a, b, lanes):
        """The named lanes of a (0 … n-1) and b (n … 2n-1); as many as there are names."""
        names = ir.Constant(ir.VectorType(_LANE, len(lanes)), list(lanes))
        return self.builder.shuffle_vector(a, b, names)

    def evens(self, low, high):
        """Lanes 0, 2, 4 … of two vectors in a row."""
        return self.pick(low, high, range(0, 2 * self.lanes, 2))

    def odds(self, low, high):
        """Lanes 1, 3, 5 … of two vectors in a row."""
        return self.pick(low, high, range(1, 2 * self.lanes, 2))

    def apart(self, vectors):
        """n vectors in a row by the numbers of their lanes modulo n: n vectors, lane 0 first."""
        n, lanes = len(vectors), self.lanes
        found = []
        for residue in range(n):
            total = vectors[0]
            for v in range(1, n):
                numbers = [residue + n * lane for lane in range(lanes)]
                # what stands in a vector before is in its place, or lane `number` of the first
                names = [lane if v > 1 and number < v * lanes else number - (v - 1) * lanes
                         for lane, number in enumerate(numbers)]  # fmt: skip
                total = self.pick(total, vectors[v], [min(name, 2 * lanes - 1) for name in names])
            found.append(total)
        return found

    def in_turn(self, vectors):
        """n vectors in a row, whose lanes are those of n vectors in turn."""
        n, lanes = len(vectors), self.lanes
        found = []
        for v in range(n):
            total = vectors[0]
            for source in range(1, n):
                names = []
                for lane in range(lanes):
                    place, residue = divmod(v * lanes + lane, n)
                    before = lane if source > 1 else place
                    names.append(lanes + place if residue == source else before)
                total = self.pick(total, vectors[source], names)
            found.append(total)
        return found

    def transposed(self, vectors):
        """The columns of a square of `lanes` vectors, its rows.

        Exchanges one bit of a row's number for the same bit of the lane's at a time.
        """
        vectors, width = list(vectors), 1
        while width < self.lanes:
            bits = [lane & width for lane in range(self.lanes)]
            low = [lane + (self.lanes - width if bit else 0) for lane, bit in enumerate(bits)]
            high = [lane + (self.lanes if bit else width) for lane, bit in enumerate(bits)]
            for i in range(self.lanes):
                if not i & width:
                    a, b = vectors[i], vectors[i + width]
                    vectors[i] = self.pick(a, b, low)
                    vectors[i + width] = self.pick(a, b, high)
            width *= 2
        return vectors

    def lane_numbers(self, words):
        """Numbers of lanes, for `picked`, from integers that hold a byte for each."""
        kind = ir.VectorType(_INT, self.lanes // 8)
        packed = ir.Constant(kind, ir.Undefined)
        for i in range(self.lanes // 8):
            packed = self.builder.insert_element(packed, words[i], ir.Constant(_LANE, i))
        listed = self.builder.bitcast(packed, ir.VectorType(ir.IntType(8), self.lanes))
        whole = ir.IntType(8 * self.element_bytes)
        return self.builder.zext(listed, ir.VectorType(whole, self.lanes))

    def picked(self, low, high, numbers):
        """Of two vectors in a row the numbered lanes. Vectors of 64 bytes, on AVX-512 alone."""
        kind = "ps" if self.element_bytes == 4 else "pd"
        signature = ir.FunctionType(self.vector, [self.vector, numbers.type, self.vector])
        name = f"llvm.x86.avx512.vpermi2var.{kind}.512"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        return self.builder.call(function, [low, numbers, high])

    # Lanes added up.

    def sums(self, vectors):
        """A vector of the sums over the lanes of up to `lanes` vectors, in their order; the rest 0.

        Neighbours become one vector by adding their halves, until one is left; the order of
        addition is the same for all.
        """
        vectors = [*vectors, *[self.zero()] * (self.lanes - len(vectors))]
        width = self.lanes // 2
        while width:
            low = [i for i in range(2 * self.lanes) if not i & width]
            high = [i + width for i in low]
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            vectors = [self.add(*[self.pick(a, b, n) for n in (low, high)]) for a, b in pairs]
            width //= 2
        return vectors[0]

    def by_pairs(self, vectors):
        """The sum of vectors, neighbours first."""
        while len(vectors) > 1:
            pairs = zip(vectors[::2], vectors[1::2], strict=False)
            odd = vectors[len(vectors) & ~1 :]
            vectors = [*[self.add(a, b) for a, b in pairs], *odd]
        return vectors[0]

    def total(self, vector):
        """The sum over the lanes of a vector: its halves are added until one lane is left."""
        lanes = self.lanes
        while lanes > 1:
            lanes //= 2
            halves = [self.pick(vector, vector, range(h, h + lanes)) for h in (0, lanes)]
            vector = self.add(*halves)
        return self.builder.extract_element(vector, ir.Constant(_LANE, 0))


def emitter(context, builder, dtype):
    """An Emitter for arrays of a type, on this processor's vectors."""
    unit = known_unit()
    return Emitter(context, builder, llvm_type(dtype), unit.lanes(dtype.bitwidth // 8))


def flat_floats(*arrays):
    """Whether these types are those of contiguous arrays, all of float32 or all of float64."""
    kinds = {a.dtype for a in arrays if isinstance(a, types.Array) and a.layout == "C"}
    all_arrays = all(isinstance(a, types.Array) for a in arrays)
    return all_arrays and len(kinds) == 1 and kinds <= {types.float32, types.float64}


def flat_integers(*arrays):
    """Whether these types are those of contiguous arrays, all of int64."""
    flat = all(isinstance(a, types.Array) and a.layout == "C" for a in arrays)
    return flat and all(a.dtype == types.int64 for a in arrays)


def multiply_tile(emit, depth, a, b, b_step, rows, vectors, start, a_step=None, each=None, a_row=1):
    """start[row*vectors + v] += sum over k of a[k*a_step + row*a_row] * vector v of b[k*b_step]."""
    runs = [(emit.at(b, emit.index(v * emit.lanes)), None, None) for v in range(vectors)]
    return multiply_runs(emit, depth, a, runs, b_step, rows, start, a_step, each, a_row)


def multiply_runs(
    emit, depth, a, runs, step, rows, start, a_step=None, each=None, a_row=1, kept=None
):  # fmt: skip
    """start[row*vectors + v] += sum over k of a[k*a_step + row*a_row] * vector v of B's row k.

    runs[v] = (first, second, choose): choose(a, b) makes the vector of those at first[k*step …] and
    second[k*step …]; without it all is from first. Emits a loop of `depth` rounds, at least one,
    and returns the totals: per round one or two loads for each vector of B, `rows` broadcasts of A,
    a multiply-add for each total, all totals in registers. A is packed where no a_step is given.
    `each` is called with the number of the round, to emit what else is to be done in it. Where
    `kept` is given, B's rows are stored there too, one behind the other.
    """
    builder, vectors = emit.builder, len(runs)
    a_step = emit.index(rows) if a_step is None else a_step
    with emit.loop(depth, start) as loop:
        if each is not None:
            each(loop.number)
        row_of_a = emit.at(a, builder.mul(loop.number, a_step))
        row_of_b = builder.mul(loop.number, step)
        bs = []
        for first, second, choose in runs:
            vector = emit.load(emit.at(first, row_of_b))
            if choose is not None:
                vector = choose(vector, emit.load(emit.at(second, row_of_b)))
            bs.append(vector)
        if kept is not None:
            row = emit.at(kept, builder.mul(loop.number, emit.index(vectors * emit.lanes)))
            for v, vector in enumerate(bs):
                emit.store(vector, emit.at(row, emit.index(v * emit.lanes)))
        loop.next = []
        for row in range(rows):
            factor = emit.broadcast(emit.at(row_of_a, emit.index(row * a_row)))
            for v in range(vectors):
                total = loop.values[row * vectors + v]
                loop.next.append(emit.fma(factor, bs[v], total))
    return loop.next


def vector_type(element: Any, lanes: int) -> Any:
    """LLVM's type of `lanes` elements; calling it with a list of numbers makes a constant."""
    return ir.VectorType(element, lanes)


def prefetch_line(builder: Any, pointer: Any, write: bool, from_memory: bool = False) -> None:
    """Fetch the cache line at a pointer, to be read or written; a bad pointer does no harm.

    What is `from_memory` is read a while later, in long streams: into L2 alone where that is
    faster (units.streams_to_l2)."""
    number = ir.IntType(32)
    signature = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
    function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    level, data = number(2 if from_memory and streams_to_l2() else 3), number(1)
    builder.call(function, [pointer, number(int(write)), level, data])
