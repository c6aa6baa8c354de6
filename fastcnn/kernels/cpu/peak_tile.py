"""The register tile alone, out of L1: what measures how fast a core multiplies and adds at most."""

from __future__ import annotations

from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.simd import Emitter, llvm_type, multiply_tile
from fastcnn.kernels.cpu.units import vector_unit


def tile_product(element, lanes, rows, vectors):
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

    def typer(typingctx, depth, a, b, c):
        for array in (a, b, c):
            if not isinstance(array, types.Array) or array.dtype != element or array.layout != "C":
                return None

        def codegen(context, builder, signature, arguments):
            emit = Emitter(context, builder, llvm_type(element), lanes)
            depth, *arrays = arguments
            data = [emit.data(t, v) for t, v in zip(signature.args[1:], arrays, strict=True)]
            step, start = emit.index(vectors * lanes), [emit.zero()] * (rows * vectors)
            totals = multiply_tile(emit, depth, data[0], data[1], step, rows, vectors, start)
            for i, total in enumerate(totals):
                place = emit.at(data[2], emit.index(i * lanes))
                emit.store(emit.add(emit.load(place), total), place)
            return context.get_dummy_value()

        return types.void(types.intp, a, b, c), codegen

    return intrinsic(typer)


def peak_tile():
    """`tile_product` in float32 for this machine's unit; None where there is none.

    Assign it to a module global of the file that calls it.
    """
    unit = vector_unit()
    if unit is None:
        return None
    return tile_product(types.float32, unit.lanes(4), unit.rows, unit.vectors)
