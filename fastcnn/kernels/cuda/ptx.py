"""The PTX instructions that Numba has no name for: what each does, and how a warp shares its data.

A warp is 32 lanes; in tables below lane = 4 g + t, with g = lane // 4 (0..7) and t = lane % 4.
Shared memory is one array of 32-bit words per block; `word` counts its words. Names and layouts
are those of the PTX ISA, chapters "Data Movement and Conversion" and "Warp-level matrix
instructions". What needs sm_80 is said; the rest runs everywhere.

mma.sync m16n8k8, TF32 (sm_80): D (16, 8) = A (16, 8) B (8, 8) + C (16, 8), by all lanes together.
What lane (g, t) holds:

    A, 4 words:   a0 (row g,     depth t)      a1 (row g + 8, depth t)
                  a2 (row g,     depth t + 4)  a3 (row g + 8, depth t + 4)
    B, 2 words:   b0 (depth t,   column g)     b1 (depth t + 4, column g)
    C, D, 4:      c0 (row g,     column 2 t)   c1 (row g,     column 2 t + 1)
                  c2 (row g + 8, column 2 t)   c3 (row g + 8, column 2 t + 1)

A word is a float32 of which the unit sees 10 bits of mantissa: `round_tf32` rounds to those. Sums
are kept in float32, but not always rounded to nearest: PTX leaves it open.

mma.sync m16n8k16, bf16 and f16 (sm_80): D (16, 8) = A (16, 16) B (16, 8) + C (16, 8). The same
table, each word of A and B two neighbours in depth, the first in its low half: depth t is 2 t and
2 t + 1, depth t + 4 is 2 t + 8 and 2 t + 9. C and D are float32. m16n8k8 in f16 (sm_75) is the half
of it: a0, a1 and b0 are depths 0 to 7.

ldmatrix.x4 reads four matrices of 8 rows of 16 bytes: lane 8 i + r gives the address of row r of
matrix i, and lane (g, t) gets word t of row g of each. Four words a row that stands for (row, 4 of
depth) are A's layout: matrices (rows 0..7, depth 0..3), (8..15, 0..3), (0..7, 4..7), (8..15, 4..7)
come out as a0 to a3. Of halves, four words are 8 of depth. With .trans, rows of 16 bytes that stand
for (depth, 8 of A's rows or B's columns) come out as the same fragments, transposed on the way.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from fastcnn.kernels.cuda.target import intrinsic, types

_WORD, _FLOAT, _LONG = ir.IntType(32), ir.FloatType(), ir.IntType(64)


def _assembly(
    builder: Any, text: str, constraints: str, result: Any, arguments: list[Any], effects: bool
) -> Any:
    """Inline assembly; `effects` keeps its place among other effects on memory."""
    kinds = [argument.type for argument in arguments]
    made = ir.InlineAsm(ir.FunctionType(result, kinds), text, constraints, side_effect=effects)
    return builder.call(made, arguments)


def _shared_address(context: Any, builder: Any, kind: Any, shared: Any, word: Any) -> Any:
    """The 32-bit address, in the window of shared memory, of a word of a shared array."""
    data = context.make_array(kind)(context, builder, shared).data
    window = ir.PointerType(data.type.pointee, 3)
    start = builder.ptrtoint(builder.addrspacecast(data, window), _WORD)
    return builder.add(start, builder.shl(builder.trunc(word, _WORD), _WORD(2)))


def _global_address(context: Any, builder: Any, kind: Any, pointer: Any, element: Any) -> Any:
    """The 64-bit address of an element behind a pointer; elements are counted with a sign."""
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    return builder.add(builder.ptrtoint(pointer, _LONG), builder.mul(element, _LONG(size)))


def _several(context: Any, builder: Any, signature: Any, made: Any) -> Any:
    count = len(signature.return_type)
    values = [builder.extract_value(made, i) for i in range(count)]
    return context.make_tuple(builder, signature.return_type, values)


def _copy(bytes_: int, level: str) -> Any:
    @intrinsic
    def copy(typing_context, shared, word, pointer, element, there):
        def generate(context, builder, signature, arguments):
            array, at, source, offset, valid = arguments
            to = _shared_address(context, builder, signature.args[0], array, at)
            of = _global_address(context, builder, signature.args[2], source, offset)
            size = builder.select(valid, _WORD(bytes_), _WORD(0))
            text = f"cp.async.{level}.shared.global [$0], [$1], {bytes_}, $2;"
            _assembly(builder, text, "r,l,r,~{memory}", ir.VoidType(), [to, of, size], True)
            return context.get_dummy_value()

        return types.void(shared, types.uint64, pointer, types.int64, types.boolean), generate

    return copy


# cp.async (sm_80): start copying global to shared memory, past the registers; zeros if not
# `there`, and nothing is read. (shared, word, pointer, element, there)
# One word, kept in L1 also, as neighbouring taps read it again.
copy_word = _copy(4, "ca")
# Four words, both addresses multiples of 16 bytes; not kept in L1.
copy_quad = _copy(16, "cg")


def _plain(text: str) -> Any:
    @intrinsic
    def instruction(typing_context):
        def generate(context, builder, signature, arguments):
            _assembly(builder, text, "~{memory}", ir.VoidType(), [], True)
            return context.get_dummy_value()

        return types.void(), generate

    return instruction


# cp.async.commit_group: the copies this thread has started since the last commit are a group.
commit_copies = _plain("cp.async.commit_group;")
# cp.async.wait_group: until all of this thread's groups but the latest have arrived.
wait_all_but_1 = _plain("cp.async.wait_group 1;")


def _four(text, place_of, constraints):
    """The codegen of an instruction that loads four words from the address `place_of` gives."""

    def generate(context, builder, signature, arguments):
        address = place_of(context, builder, signature.args[0], *arguments)
        four = ir.LiteralStructType([_WORD] * 4)
        made = _assembly(builder, text, f"=r,=r,=r,=r,{constraints}", four, [address], True)
        return _several(context, builder, signature, made)

    return generate


def _load_shared(text: str) -> Any:
    @intrinsic
    def load(typing_context, shared, word):
        generate = _four(text + " {$0, $1, $2, $3}, [$4];", _shared_address, "r,~{memory}")
        return types.UniTuple(types.uint32, 4)(shared, types.uint64), generate

    return load


# ldmatrix.x4 (sm_75): see above; each lane gives the first word of one row of 16 bytes.
load_matrices = _load_shared("ldmatrix.sync.aligned.m8n8.x4.shared.b16")
load_transposed = _load_shared("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16")
# ld.shared.v4: four words of shared memory, `word` a multiple of four.
load_quad = _load_shared("ld.shared.v4.b32")


@intrinsic
def load_row(typing_context, pointer, element):
    """ld.global.nc.v4: a row of four int32 of a table that no one writes, `element` its first."""
    text = "ld.global.nc.v4.s32 {$0, $1, $2, $3}, [$4];"
    # With effects, as otherwise all rows that a loop reads again are kept in registers.
    generate = _four(text, _global_address, "l")
    return types.UniTuple(types.int32, 4)(pointer, types.int64), generate


def _store(kind: str, name: str, letter: str) -> Any:
    @intrinsic
    def store(typing_context, pointer, element, a, b, c, d):
        def generate(context, builder, signature, arguments):
            address = _global_address(context, builder, signature.args[0], *arguments[:2])
            text = f"st.global.v4.{kind} [$0], {{$1, $2, $3, $4}};"
            values = [address, *arguments[2:]]
            constraints = ",".join(["l", *letter * 4, "~{memory}"])
            _assembly(builder, text, constraints, ir.VoidType(), values, True)
            return context.get_dummy_value()

        return types.void(pointer, types.int64, *[getattr(types, name)] * 4), generate

    return store


# st.global.v4: four float32, or four words, to an address that is a multiple of 16 bytes.
store_quad = _store("f32", "float32", "f")
store_words = _store("b32", "uint32", "r")


def _multiply(shape: str, kinds: str, of_a: int, of_b: int) -> Any:
    @intrinsic
    def multiply(typing_context, c, a, b):
        def generate(context, builder, signature, arguments):
            parts = zip(arguments, (4, of_a, of_b), strict=True)
            c, a, b = ([builder.extract_value(v, i) for i in range(n)] for v, n in parts)
            places = [f"${i}" for i in range(8 + of_a + of_b)]
            lists = []
            for n in (4, of_a, of_b, 4):
                lists.append("{" + ", ".join(places[:n]) + "}")
                places = places[n:]
            text = f"mma.sync.aligned.{shape}.row.col.f32.{kinds}.f32 {', '.join(lists)};"
            four = ir.LiteralStructType([_FLOAT] * 4)
            constraints = ",".join(["=f"] * 4 + ["r"] * (of_a + of_b) + ["f"] * 4)
            made = _assembly(builder, text, constraints, four, [*a, *b, *c], False)
            return _several(context, builder, signature, made)

        sums, words = types.UniTuple(types.float32, 4), types.UniTuple(types.uint32, of_a)
        return sums(sums, words, types.UniTuple(types.uint32, of_b)), generate

    return multiply


# mma.sync: D = A B + C by the tables above; (c, a, b), gives D.
multiply_tf32 = _multiply("m16n8k8", "tf32.tf32", 4, 2)
multiply_bf16 = _multiply("m16n8k16", "bf16.bf16", 4, 2)
multiply_f16 = _multiply("m16n8k16", "f16.f16", 4, 2)
multiply_f16_by_8 = _multiply("m16n8k8", "f16.f16", 2, 1)


def _halves(kind: str) -> Any:
    @intrinsic
    def halves(typing_context, low, high):
        def generate(context, builder, signature, arguments):
            text = f"{{ .reg .b16 l, h; cvt.rn.{kind}.f32 l, $1; cvt.rn.{kind}.f32 h, $2; "
            text += "mov.b32 $0, {l, h}; }"
            return _assembly(builder, text, "=r,f,f", _WORD, arguments, False)

        return types.uint32(types.float32, types.float32), generate

    return halves


# cvt.rn: two float32 to the nearest halves, ties to even, side by side in a word; (low, high).
# What is too large becomes an infinity. bf16: sm_80.
bf16_pair = _halves("bf16")
f16_pair = _halves("f16")


@intrinsic
def round_tf32(typing_context, number):
    """cvt.rna.tf32.f32 (sm_80): to 10 bits of mantissa, ties away from zero, for mma.sync alone.

    The bits below are not zero: the assembler leaves their removal to mma.sync.
    """

    def generate(context, builder, signature, arguments):
        return _assembly(builder, "cvt.rna.tf32.f32 $0, $1;", "=r,f", _WORD, arguments, False)

    return types.uint32(types.float32), generate


@intrinsic
def as_float(typing_context, word):
    """The float32 whose bits these are; no instruction."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _FLOAT)

    return types.float32(types.uint32), generate


@intrinsic
def as_word(typing_context, number):
    """The bits of a float32; no instruction."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _WORD)

    return types.uint32(types.float32), generate
