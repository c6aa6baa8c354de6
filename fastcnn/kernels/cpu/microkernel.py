"""The register-tile product that carries the large convolutions.

In the manner of BLIS's microkernels (Van Zee and van de Geijn 2015). For a tile of `rows` x COLUMNS
elements, COLUMNS = vectors * lanes,

    C[m, j] = (C[m, j] if accumulate else 0)
              + sum over o < rounds, k < depth of a[(o*depth + k)*rows + m] * B[o, k, j]
    if finish >= 1:  C[m, j] += ends[m]
    if finish >= 2:  C[m, j] = 0 where it is below 0

- rounds and depth are at least 1; all arrays are flat and of one type, float32 or float64, with an
  offset each, in elements; nothing need be aligned beyond its elements.
- A is packed: rounds * depth * rows elements, read in order.
- B need not be packed. Vector v of B[o, k] is made of the vectors at b[b0 + offsets[o] + k*step +
  first] and at … + second, where first, second, split are runs[RUN*v : RUN*v+3]: so it may hold
  the end of one image row and the start of the next. Lanes below `split` are the first's, and the
  others the second's; a `split` of all lanes says that it is the first vector as it is. Byte l of
  runs[RUN*v+3 : RUN*v+5] is the number of lane l among those of both, first's first: the short tile
  and `pick` go by these, where the unit picks lanes, so that a vector may hold several short rows.
  Both are read whole: all of it must be memory that may be read. Two reads a vector cost nothing
  measurable, beside 14 multiply-adds each.
- b is `b_near` or, if `far`, `b_far`; c is `c_near` or, if `direct`, `c_far`: which buffer a tile
  works on is known at run time only. C's rows are c_step apart, and are fetched into the cache
  while the sums are formed. C is read only if accumulate, and written whole.
- What lies `ahead` elements behind each row of B's first vector is fetched into the cache
  meanwhile: what the next tile reads, where that is far away (0: nothing new). Two lines of every
  plane of an image, which a tile of B may be, are nothing that a processor fetches by itself. The
  loops that have no register to spare for it leave it out.
- Every element is added up in the order of o, then k, with one rounding for each multiply-add: the
  bits depend on nothing else.
- Tiles are always whole. What lies beyond an image's last pixel or a layer's last filter is zeros
  in A, or anything in B, and is left where it is in C: the moves of masked_moves.py put only the
  lanes that they are told of, so that a caller's arrays are never written beyond their ends.
- Two tiles, for what remains too: `tall_product` has unit.rows rows, `short_product`
  unit.short_rows. `cover` says which of the two to use for how many rows.
"""

from __future__ import annotations

from functools import cache, reduce
from typing import Any

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.flow import chosen
from fastcnn.kernels.cpu.simd import emitter, flat_floats, multiply_runs, prefetch_line
from fastcnn.kernels.cpu.units import known_unit
from fastcnn.memory import LINE_BYTES

# Numbers of which B's runs have one set for each vector.
RUN = 5
# Bytes 0, 1, 2 …: the numbers of the lanes of a vector that is taken as it is.
IN_ORDER = tuple(int.from_bytes(range(i, i + 8), "little") for i in (0, 8))


def choosing(emit, split):
    """What makes a vector of two, of whose lanes those below `split` are the first's."""
    mask = emit.below(split)
    return lambda a, b: emit.builder.select(mask, a, b)


def _choosing(emit, run, by_number):
    """What makes a vector of B of its first and second, as a vector's RUN numbers say."""
    if by_number:
        numbers = emit.lane_numbers(run[3:])
        return lambda a, b: emit.picked(a, b, numbers)
    return choosing(emit, run[2])


def fetch_row(emit, line, vectors):
    """Fetch the lines of a tile's row, to be written. An unaligned row ends in a line of its own: 3
    to 10 % where C is beyond L2."""
    for place in (*range(0, vectors * emit.lanes, emit.lanes), vectors * emit.lanes - 1):
        prefetch_line(emit.builder, emit.at(line, emit.index(place)), write=True)


def fetch_tile(emit, c, c_step, rows, vectors):
    """Fetch the lines of a tile, to be written."""
    for row in range(rows):
        fetch_row(emit, emit.at(c, emit.builder.mul(c_step, emit.index(row))), vectors)


def emit_tile(emit, rows, vectors, c, c_step, accumulate, ends, finish, sums):
    """Emit what the products have in common: C's tile, which `sums(start)` adds up, from C or from
    zeros, finished."""
    builder = emit.builder
    places = []
    for row in range(rows):
        line = emit.at(c, builder.mul(c_step, emit.index(row)))
        places += [emit.at(line, emit.index(v * emit.lanes)) for v in range(vectors)]
    start = chosen(
        builder,
        accumulate,
        lambda: [emit.load(place) for place in places],
        lambda: [emit.zero()] * len(places),
    )
    totals = sums(start)
    finished = builder.icmp_signed(">=", finish, emit.index(1))
    rectified = builder.icmp_signed(">=", finish, emit.index(2))

    def ended():
        factors = [emit.broadcast(emit.at(ends, emit.index(row))) for row in range(rows)]
        return [emit.add(t, factors[i // vectors]) for i, t in enumerate(totals)]

    totals = chosen(builder, finished, ended, lambda: totals)
    totals = chosen(builder, rectified, lambda: [emit.rectified(t) for t in totals], lambda: totals)
    for place, total in zip(places, totals, strict=True):
        emit.store(total, place)


def emit_product(emit, unit, rows, sizes, pointers, runs, ahead, c_step, accumulate, finish):
    """Emit the product of this file's text; sizes are (rounds, depth, step), pointers those of a,
    b, offsets, c and ends, runs a list of a vector's RUN numbers for each."""
    builder, vectors = emit.builder, len(runs)
    rounds, depth, step = sizes
    a, b, offsets, c, ends = pointers
    round_of_a = builder.mul(depth, emit.index(rows))

    def sums(start):
        # Fetching where masks share the tile's registers, or in a tile that has a loop without
        # masks beside this one, would take what sums and places need.
        def totals_of(choices, fetching):
            with emit.loop(rounds, start) as loop:
                in_a = emit.at(a, builder.mul(loop.number, round_of_a))
                in_b = emit.at(b, emit.integer(offsets, loop.number))
                places = [
                    (emit.at(in_b, first), emit.at(in_b, second), choose)
                    for (first, second, *_), choose in zip(runs, choices, strict=True)
                ]
                onward = emit.at(places[0][0], ahead)
                fetch = fetching_lines(emit, onward, step, vectors) if fetching else None
                loop.next = multiply_runs(
                    emit, depth, in_a, places, step, rows, loop.values, each=fetch
                )
            return loop.next

        def split(fetching):
            # picking in the tall tile would take two registers more than there are: 215 to 180
            # GFLOP/s
            by_number = unit.picks and rows < unit.rows
            return totals_of([_choosing(emit, run, by_number) for run in runs], fetching)

        if unit.mask_registers and rows == unit.rows:
            return split(True)
        uncut = [
            builder.icmp_signed(">=", split, emit.index(emit.lanes)) for _, _, split, *_ in runs
        ]
        whole = reduce(builder.and_, uncut)
        return chosen(
            builder, whole, lambda: totals_of([None] * vectors, True), lambda: split(False)
        )

    fetch_tile(emit, c, c_step, rows, vectors)
    emit_tile(emit, rows, vectors, c, c_step, accumulate, ends, finish, sums)


def fetching_lines(emit, pointer, step, vectors, shift=None):
    """What fetches, in a loop's round k, the lines of `vectors` vectors k*step behind a pointer;
    with a `shift`, (k >> shift)*step behind it."""
    builder = emit.builder

    def fetch(number):
        number = number if shift is None else builder.lshr(number, shift)
        place = emit.at(pointer, builder.mul(number, step))
        for j in range(0, vectors * emit.lanes, LINE_BYTES // emit.element_bytes):
            onward = emit.at(place, emit.index(j))
            prefetch_line(builder, onward, write=False, from_memory=True)

    return fetch


def _product(rows_of):
    def typer(
        typingctx, rounds, depth, a, a0, b_near, b_far, far, b0, offsets, o0, runs, r0, step, ahead,
        c_near, c_far, direct, c0, c_step, accumulate, ends, e0, finish,
    ):  # fmt: skip
        if not flat_floats(a, b_near, b_far, c_near, c_far, ends):
            return None

        def codegen(context, builder, signature, arguments):
            emit = emitter(context, builder, a.dtype)
            given = dict(zip(_PRODUCT, arguments, strict=True))
            data = {
                name: emit.data(kind, given[name])
                for name, kind in zip(_PRODUCT, signature.args, strict=True)
                if isinstance(kind, types.Array)
            }
            unit = known_unit()
            numbers = emit.integers(data["runs"], given["r0"], RUN * unit.vectors)
            pointers = (
                emit.at(data["a"], given["a0"]),
                emit.at(builder.select(given["far"], data["b_far"], data["b_near"]), given["b0"]),
                emit.at_integer(data["offsets"], given["o0"]),
                emit.at(
                    builder.select(given["direct"], data["c_far"], data["c_near"]), given["c0"]
                ),
                emit.at(data["ends"], given["e0"]),
            )
            emit_product(
                emit, unit, rows_of(unit),
                (given["rounds"], given["depth"], given["step"]), pointers,
                [tuple(numbers[RUN * v : RUN * v + RUN]) for v in range(unit.vectors)],
                given["ahead"], given["c_step"], given["accumulate"], given["finish"],
            )  # fmt: skip
            return context.get_dummy_value()

        i, yes = types.intp, types.boolean
        signature = types.void(
            i, i, a, i, b_near, b_far, yes, i, offsets, i, runs, i, i, i,
            c_near, c_far, yes, i, i, yes, ends, i, i,
        )  # fmt: skip
        return signature, codegen

    return intrinsic(typer)


# The product's arguments, in order.
_PRODUCT = (
    "rounds", "depth", "a", "a0", "b_near", "b_far", "far", "b0", "offsets", "o0", "runs", "r0",
    "step", "ahead", "c_near", "c_far", "direct", "c0", "c_step", "accumulate", "ends", "e0",
    "finish",
)  # fmt: skip

tall_product: Any = _product(lambda unit: unit.rows)
short_product: Any = _product(lambda unit: unit.short_rows)


def _pick_typer(typingctx, rounds, depth, b_near, b_far, far, b0, offsets, o0, runs, r0, step, t0):
    """The intrinsic that packs B: vectors of several rows are picked once for all panels of A.

    `pick(rounds, depth, b_near, b_far, far, b0, offsets, o0, runs, r0, step, t0)`, in the product's
    terms: b_near[t0 + (o*depth + k)*COLUMNS + j] = B[o, k, j].
    """
    if not flat_floats(b_near, b_far):
        return None

    def codegen(context, builder, signature, arguments):
        emit, unit = emitter(context, builder, b_near.dtype), known_unit()
        rounds, depth, near, distant, far, b0, offsets, o0, runs, r0, step, t0 = arguments
        near, distant = emit.data(signature.args[2], near), emit.data(signature.args[3], distant)
        b = emit.at(builder.select(far, distant, near), b0)
        offsets = emit.at_integer(emit.data(signature.args[6], offsets), o0)
        runs = emit.at_integer(emit.data(signature.args[8], runs), r0)
        numbers = [emit.integer(runs, emit.index(i)) for i in range(RUN * unit.vectors)]
        parts = [numbers[RUN * v : RUN * v + RUN] for v in range(unit.vectors)]
        choices = [_choosing(emit, part, unit.picks) for part in parts]
        target, columns = emit.at(near, t0), emit.index(unit.vectors * emit.lanes)
        with emit.loop(rounds, []) as outer:
            in_b = emit.at(b, emit.integer(offsets, outer.number))
            here = emit.at(target, builder.mul(builder.mul(outer.number, depth), columns))
            with emit.loop(depth, []) as inner:
                at_b = emit.at(in_b, builder.mul(inner.number, step))
                to = emit.at(here, builder.mul(inner.number, columns))
                for v, ((first, second, *_), choose) in enumerate(zip(parts, choices, strict=True)):
                    vector = choose(*[emit.load(emit.at(at_b, at)) for at in (first, second)])
                    emit.store(vector, emit.at(to, emit.index(v * emit.lanes)))
        return context.get_dummy_value()

    i = types.intp
    signature = types.void(i, i, b_near, b_far, types.boolean, i, offsets, i, runs, i, i, i)
    return signature, codegen


pick: Any = intrinsic(_pick_typer)


# A short tile takes this much longer per row: it loads 10 vectors for 16 multiply-adds where the
# tall one loads 16 for 28.
_SHORT_COST = 1.1


@cache
def cover(rows: int) -> tuple[int, int]:
    """How many tall and short tiles cover `rows` rows in the least time."""
    unit = known_unit()
    choices = []
    for tall in range(-(-rows // unit.rows) + 1):
        short = max(0, -(-(rows - tall * unit.rows) // unit.short_rows))
        choices.append((tall * unit.rows + _SHORT_COST * short * unit.short_rows, tall, short))
    return min(choices)[1:]


def padded(rows: int) -> int:
    """Rows of the tiles that cover `rows` rows."""
    tall, short = cover(rows)
    unit = known_unit()
    return tall * unit.rows + short * unit.short_rows
