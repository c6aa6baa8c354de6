"""Vectors as values of compiled code, for kernels whose loops LLVM does not vectorise by itself.

    v = load(x, i, 16)                       # sixteen neighbouring elements
    wins = beats(v, best)                    # sixteen answers
    best = select(wins, v, best)

A vector has as many lanes as the kernel says, whatever the machine's registers hold: LLVM cuts it
into registers, or leaves the rest of one unused. `lanes` and `step` must be constants of the
compiled function. Arrays are flat and contiguous, and no bound is checked. Nothing here runs under
NUMBA_DISABLE_JIT=1.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

from fastcnn.kernels.cpu.simd import prefetch_line, vector_type
from fastcnn.kernels.cpu.units import streams_to_l2
from fastcnn.memory import LINE_BYTES

# How far ahead a stream is fetched into L2, which has room for it. VGG's second pooling took 1.12
# times as long with four rows, 1.8 KB, as with them in L1, and 0.93 with 5 or 14 KB.
STREAM_BYTES = 12 * 1024


class Vector(types.Type):
    """Numba's type of `lanes` elements held in registers."""

    def __init__(self, element, lanes):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"Vector({element}, {lanes})")

    @property
    def key(self):
        return self.element, self.lanes


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.element).get_value_type()
        super().__init__(dmm, fe_type, vector_type(element, fe_type.lanes))


def _pointer(context, builder, array_type, array, i, offset=0):
    """Pointer to element i + offset of an array."""
    data = context.make_array(array_type)(context, builder, value=array).data
    i = builder.add(i, context.get_constant(types.intp, offset))
    return builder.gep(data, [i], source_etype=context.get_data_type(array_type.dtype))


def _read(context, builder, array_type, lanes, pointer):
    """The vector at a pointer, which need be aligned to an element only."""
    kind = vector_type(context.get_data_type(array_type.dtype), lanes)
    place = builder.bitcast(pointer, kind.as_pointer())
    return builder.load(place, align=array_type.dtype.bitwidth // 8, typ=kind)


def _write(builder, array_type, value, pointer):
    place = builder.bitcast(pointer, value.type.as_pointer())
    builder.store(value, place, align=array_type.dtype.bitwidth // 8)


def _pick(context, builder, a, b, lanes):
    """The named lanes of a (0 … n-1) and b (n … 2n-1)."""
    kind = vector_type(context.get_value_type(types.int32), len(lanes))
    return builder.shuffle_vector(a, b, kind(lanes))


def _splat_typer(typingctx, value, lanes):
    """splat(value, lanes): the same number in every lane."""
    vector = Vector(types.unliteral(value), lanes.literal_value)

    def codegen(context, builder, signature, arguments):
        empty = context.get_value_type(vector)(None)
        first = builder.insert_element(empty, arguments[0], context.get_constant(types.int32, 0))
        return _pick(context, builder, first, first, [0] * vector.lanes)

    return vector(vector.element, lanes), codegen


def _load_typer(typingctx, array, i, lanes):
    """load(array, i, lanes): elements i, i+1, …; bytes come as int32."""
    wide = types.int32 if array.dtype == types.uint8 else array.dtype
    vector = Vector(wide, lanes.literal_value)

    def codegen(context, builder, signature, arguments):
        place = _pointer(context, builder, array, arguments[0], arguments[1])
        value = _read(context, builder, array, vector.lanes, place)
        kind = context.get_value_type(vector)
        return value if value.type == kind else builder.zext(value, kind)

    return vector(array, types.intp, lanes), codegen


def _load_step_typer(typingctx, array, i, step, lanes):
    """load_step(array, i, step, lanes): elements i, i+step, …, with step 1 or 2."""
    step_, n = step.literal_value, lanes.literal_value
    if step_ not in (1, 2):
        return None
    vector = Vector(array.dtype, n)

    def codegen(context, builder, signature, arguments):
        x, start = arguments[:2]
        first = _read(context, builder, array, n, _pointer(context, builder, array, x, start))
        if step_ == 1:
            return first
        # The second half ends with the last element wanted: nothing behind it is read.
        last = _read(context, builder, array, n, _pointer(context, builder, array, x, start, n - 1))
        lanes_ = [2 * q if 2 * q < n else 2 * q + 1 for q in range(n)]
        return _pick(context, builder, first, last, lanes_)

    return vector(array, types.intp, step, lanes), codegen


def _store_typer(typingctx, array, i, vector):
    """store(array, i, v): v to the elements i, i+1, …; int32 to a byte array as bytes."""

    def codegen(context, builder, signature, arguments):
        x, start, value = arguments
        kind = vector_type(context.get_data_type(array.dtype), vector.lanes)
        if value.type != kind:
            value = builder.trunc(value, kind)
        _write(builder, array, value, _pointer(context, builder, array, x, start))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


def _store_pairs_typer(typingctx, array, i, even, odd):
    """store_pairs(array, i, a, b): a[0], b[0], a[1], b[1], … to the elements i, i+1, …"""
    n = even.lanes

    def codegen(context, builder, signature, arguments):
        x, start, a, b = arguments
        pairs = [lane for q in range(n) for lane in (q, n + q)]
        for half in range(2):
            value = _pick(context, builder, a, b, pairs[half * n : half * n + n])
            place = _pointer(context, builder, array, x, start, half * n)
            _write(builder, array, value, place)
        return context.get_dummy_value()

    return types.void(array, types.intp, even, odd), codegen


def _beats_typer(typingctx, a, b):
    """beats(a, b): a > b, or a is NaN."""

    def codegen(context, builder, signature, arguments):
        a, b = arguments
        greater = builder.fcmp_ordered(">", a, b)
        return builder.or_(greater, builder.fcmp_unordered("uno", a, a))

    return Vector(types.boolean, a.lanes)(a, b), codegen


def _equal_typer(typingctx, a, b):
    """equal(a, b) of integers."""

    def codegen(context, builder, signature, arguments):
        return builder.icmp_signed("==", *arguments)

    return Vector(types.boolean, a.lanes)(a, b), codegen


def _above_typer(typingctx, a, b):
    """above(a, b): a > b, of integers."""

    def codegen(context, builder, signature, arguments):
        return builder.icmp_signed(">", *arguments)

    return Vector(types.boolean, a.lanes)(a, b), codegen


def _select_typer(typingctx, condition, a, b):
    """select(condition, a, b): in each lane a where the condition holds, else b."""

    def codegen(context, builder, signature, arguments):
        return builder.select(*arguments)

    return a(condition, a, b), codegen


def _add_typer(typingctx, a, b):
    """add(a, b), of floats or of integers."""

    def codegen(context, builder, signature, arguments):
        whole = isinstance(a.element, types.Integer)
        return builder.add(*arguments) if whole else builder.fadd(*arguments)

    return a(a, b), codegen


def _copy_row_typer(typingctx, a, i, b, j, n, lanes):
    """copy_row(a, i, b, j, n, lanes): b[j : j+n] = a[i : i+n], for n >= lanes.

    The last vector overlaps the one before. What is copied element by element and then read by
    vectors waits for each of the elements: 10 times as long.
    """

    def codegen(context, builder, signature, arguments):
        source, i, target, j, n, _ = arguments
        step = context.get_constant(types.intp, lanes.literal_value)
        start, last = context.get_constant(types.intp, 0), builder.sub(n, step)
        with cgutils.for_range_slice(builder, start, n, step, n.type) as (k, _):
            k = builder.select(builder.icmp_signed("<", k, last), k, last)
            place = _pointer(context, builder, a, source, builder.add(i, k))
            value = _read(context, builder, a, lanes.literal_value, place)
            _write(builder, b, value, _pointer(context, builder, b, target, builder.add(j, k)))
        return context.get_dummy_value()

    return types.void(a, types.intp, b, types.intp, types.intp, lanes), codegen


def _prefetch(context, builder, array, x, start, count, write, from_memory):
    for k in range(0, count.literal_value, LINE_BYTES // (array.dtype.bitwidth // 8)):
        place = _pointer(context, builder, array, x, start, k)
        prefetch_line(builder, place, write, from_memory)


def _prefetch_typer(write):
    def typer(typingctx, array, i, count):
        def codegen(context, builder, signature, arguments):
            x, start, _ = arguments
            _prefetch(context, builder, array, x, start, count, write, False)
            return context.get_dummy_value()

        return types.void(array, types.intp, count), codegen

    return typer


def _prefetch_stream_typer(typingctx, array, i, ahead, count):
    def codegen(context, builder, signature, arguments):
        x, start, ahead, _ = arguments
        if streams_to_l2():
            far = context.get_constant(types.intp, STREAM_BYTES // (array.dtype.bitwidth // 8))
            ahead = builder.select(builder.icmp_signed(">", far, ahead), far, ahead)
        start = builder.add(start, ahead)
        _prefetch(context, builder, array, x, start, count, False, True)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, count), codegen


_constants = intrinsic(prefer_literal=True)
splat: Any = _constants(_splat_typer)
load: Any = _constants(_load_typer)
load_step: Any = _constants(_load_step_typer)
copy_row: Any = _constants(_copy_row_typer)
store: Any = intrinsic(_store_typer)
store_pairs: Any = intrinsic(_store_pairs_typer)
beats: Any = intrinsic(_beats_typer)
equal: Any = intrinsic(_equal_typer)
above: Any = intrinsic(_above_typer)
# prefetch_…(array, i, count): fetch the cache lines of elements i … i+count-1, which may lie beyond
# the array; `count` is a constant.
# prefetch_stream(array, i, ahead, count): those of elements i + ahead …, of a stream, or
# further ahead where it goes to L2.
prefetch_stream: Any = _constants(_prefetch_stream_typer)
prefetch_to_read: Any = _constants(_prefetch_typer(write=False))
prefetch_to_write: Any = _constants(_prefetch_typer(write=True))
select: Any = intrinsic(_select_typer)
add: Any = intrinsic(_add_typer)


def widest(most: int) -> int:
    """The most lanes, 16 at the most and a power of two, that do not exceed `most`, at least 2."""
    return next(lanes for lanes in (16, 8, 4, 2) if lanes <= most)
