"""The dense layer on register tiles of dot products.

    Y[n, o] = b[o] + <X[n], W[o]>

Both factors lie along the features in memory, so vectors run along features, and nothing is packed:

    task: some images, some panels of outputs
        for each stretch of features                     some images' stretch stays in L2
            for each panel of rows of W                  each is read once for all the images
                for each chunk of features               the panel's chunk stays in L1
                    for each panel of images
                        Y[images, panel] += dot products of their chunks

While a panel's chunk is multiplied, the next is fetched: a batch of 16 needs as long to be
multiplied by W as W to come from memory. How the work is cut depends on the geometry alone.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.product_tables import FEW_TASKS, blocks_of, even
from fastcnn.kernels.cpu.row_dots import row_dots, row_dots_of_one
from fastcnn.kernels.cpu.threads import launch
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit

# A chunk of a row: 6 rows of W take 12 KB of L1, 4 of X the next 8 KB.
CHUNK_BYTES = 2048
# The images of a task, and bytes of their stretches: half of an L2 of 1 MB.
IMAGES = 128
STRETCHES_BYTES = 512 << 10


@kernel
def _dots_chunk(task, x, w, b, y, sizes):
    """Some images by some panels of outputs."""
    N, I, O, images, blocks = sizes[0], sizes[1], sizes[2], sizes[3], sizes[4]
    stretch, chunk, height, width, most = sizes[5], sizes[6], sizes[7], sizes[8], sizes[9]
    image_block, block = divmod(task, blocks)
    n0 = image_block * images
    n1 = min(N, n0 + images)
    panels = (O + height - 1) // height
    whole = (n1 - n0) // width
    if n1 - n0 - whole * width > most:
        whole += 1
    start = np.zeros(2 * height, x.dtype)
    b_step = 1 if b.size > 1 else 0
    for i0 in range(0, I, stretch):
        i1 = min(I, i0 + stretch)
        for p in range(block * panels // blocks, (block + 1) * panels // blocks):
            o = p * height
            rows = min(height, O - o)
            if b.size > 0:
                for m in range(rows):
                    start[m] = b[(o + m) * b_step]
            for i in range(i0, i1, chunk):
                depth = min(chunk, i1 - i)
                ahead = o * I + i + chunk
                if i + chunk >= i1:
                    ahead = (o + height) * I + i0
                f0 = ahead
                for q in range(whole):
                    n = n0 + q * width
                    row_dots(
                        depth, w, o * I + i, I, rows, x, n * I + i, I, n1 - n, f0, f0 + I,
                        y, n * O + o, O, start, i == 0,
                    )  # fmt: skip
                    f0 = f0 + 2 * I if 2 * q + 4 <= height else ahead
                for n in range(n0 + whole * width, n1):
                    row_dots_of_one(
                        depth, w, o * I + i, I, rows, x, n * I + i, I, 1, f0, f0 + I,
                        y, n * O + o, O, start, i == 0,
                    )  # fmt: skip
                    f0 = f0 + 2 * I


@lru_cache(maxsize=256)
def _sizes(g: DenseGeometry, itemsize: int) -> tuple[np.ndarray, int]:
    """What the kernel takes, and the number of tasks."""
    height, width = known_unit().dots
    images = even(g.N, IMAGES)
    panels = blocks_of(g.O, height)
    blocks = min(panels, FEW_TASKS)
    if panels < FEW_TASKS and width < g.N:
        images = min(images, width * blocks_of(g.N, width * blocks_of(FEW_TASKS, panels)))
    chunk = CHUNK_BYTES // itemsize
    stretch = chunk * max(1, STRETCHES_BYTES // (images * CHUNK_BYTES))
    sizes = (g.N, g.I, g.O, images, blocks, stretch, chunk, height, width, width // 2)
    return np.array(sizes), blocks * blocks_of(g.N, images)


def dense(
    geometry: DenseGeometry, x: np.ndarray, w: np.ndarray, b: np.ndarray | None, y: np.ndarray
) -> None:
    """y = x w^T + b, written whole; (N, I) by (O, I) to (N, O). One b serves all outputs too."""
    sizes, tasks = _sizes(geometry, x.itemsize)
    launch(
        _dots_chunk, tasks, geometry.flops,
        x.reshape(-1), w.reshape(-1), np.empty(0, x.dtype) if b is None else b, y.reshape(-1),
        sizes,
    )  # fmt: skip


def refusal(operation: str, g: DenseGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    if vector_unit() is None:
        return NO_UNIT
    return None if g.flops else "nothing to multiply"


# Measured on a Zen 5 core in float32: FLOP/s where X and W are in its caches, bytes per second,
# seconds of the smallest call.
TILE_FLOPS = 180e9
BYTES = 40e9
CALL = 3.4e-6


def cost(operation: str, g: DenseGeometry, itemsize: int) -> float:
    """Seconds on one core: whole tiles multiplied, or everything fetched."""
    height, _ = known_unit().dots
    whole = height * blocks_of(g.O, height)
    return CALL + itemsize / 4 * 2 * g.N * g.I * whole / TILE_FLOPS + g.bytes(itemsize) / BYTES


def workspace(operation: str, g: DenseGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most: a panel's biases."""
    return 2 * known_unit().dots[0] * itemsize
