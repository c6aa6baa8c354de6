"""The sum of one filter's planes over all images, in float64, on vectors.

LLVM makes vectors of a plain loop too, but adds one by one what whole vectors leave over, each
addition waiting for the one before: of a plane of 7x7 elements 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from fastcnn.kernels.cpu.jit import in_place_of
from fastcnn.kernels.cpu.simd import Emitter, llvm_type, prefetch_line
from fastcnn.memory import LINE_BYTES

# Elements that are added at a time, on every machine: in float64 four registers of AVX-512, enough
# chains of additions to read from L1 at its speed.
LANES = 32
# Bytes ahead that are fetched: where small planes end, those of the next filter follow, which no
# prefetcher sees coming.
AHEAD_BYTES = 2048


def emit_plane_sum(emit, dy, step, images, pixels):
    """The sum in float64 of `pixels` elements at dy, at dy + step and so on, for `images` planes.

    There is at least one image.
    """
    builder, wide = emit.builder, emit.widened()
    whole = builder.sdiv(pixels, emit.index(LANES))
    done = builder.mul(whole, emit.index(LANES))
    mask = emit.below(builder.sub(pixels, done))
    bytes_ = LANES * emit.element_bytes
    ahead = [(AHEAD_BYTES + b) // emit.element_bytes for b in range(0, bytes_, LINE_BYTES)]

    def fetch(place):
        for distance in ahead:
            onward = emit.at(place, emit.index(distance))
            prefetch_line(builder, onward, write=False, from_memory=True)

    with emit.loop(images, [wide.zero()]) as image:
        plane = emit.at(dy, builder.mul(image.number, step))
        with emit.where(builder.icmp_signed(">", whole, emit.index(0)), image.values) as branch:
            with emit.loop(whole, image.values) as block:
                place = emit.at(plane, builder.mul(block.number, emit.index(LANES)))
                fetch(place)
                block.next = [wide.add(block.values[0], emit.widen(emit.load(place)))]
            branch.next = block.next
        place = emit.at(plane, done)
        fetch(place)
        rest = emit.masked_load(place, mask, emit.zero())
        image.next = [wide.add(branch.next[0], emit.widen(rest))]
    return wide.total(image.next[0])


def plane_sum(dy: Any, first: int, step: int, images: int, pixels: int) -> Any:
    """The sum of `images` planes of `pixels` elements, `step` apart from element `first` of dy on.

    In float64, in an order that the two numbers alone decide.
    """
    planes = (dy[first + n * step :][:pixels] for n in range(images))
    return sum((plane.sum(dtype=np.float64) for plane in planes), np.float64(0))


def _plane_sum_typer(typingctx, dy, first, step, images, pixels):
    def codegen(context, builder, signature, arguments):
        emit = Emitter(context, builder, llvm_type(dy.dtype), LANES)
        array, first, step, images, pixels = arguments
        start = emit.at(emit.data(dy, array), first)
        return emit_plane_sum(emit, start, step, images, pixels)

    i = types.intp
    return types.float64(dy, i, i, i, i), codegen


_plane_sum: Any = intrinsic(_plane_sum_typer)


@in_place_of(plane_sum)
def _plane_sum_on_vectors(dy, first, step, images, pixels):
    def body(dy, first, step, images, pixels):
        return _plane_sum(dy, first, step, images, pixels) if images > 0 else np.float64(0)

    return body
