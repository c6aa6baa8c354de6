"""The weight gradient as a product over pixels, at the borders of what it cuts its work into."""

import numpy as np
import pytest

from fastcnn.kernels.cpu import gemm_weight_grad, portable
from fastcnn.kernels.cpu.fetching import halvings, next_block
from fastcnn.kernels.cpu.gemm_weight_tables import tabulate
from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded
from tests.geometries import ConvCase, small_integers
from tests.kernels.shorter_vectors import needs_longer_vectors, run_on

on_vectors = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

CASES = [
    # several images in a block of pixels, and a block that begins in the middle of one
    ConvCase(9, 17, 7, 5, 15, 3, 3, 1, 1, 1, 1),
    ConvCase(5, 20, 11, 12, 30, 3, 2, (2, 1), 1, 1, 1),
    # rows longer than a block, in pieces, the last one shorter
    ConvCase(2, 5, 3, 470, 9, 2, 3, 1, 1, 1, 1),
    ConvCase(1, 18, 2, 700, 5, 1, 2, (1, 3), 0, 1, 1),
    # 1x1: factors change places; they do not; rows joined to more than a block; groups; a stride
    ConvCase(3, 40, 13, 11, 18, 1, 1, 1, 0, 1, 1),
    ConvCase(3, 18, 13, 11, 40, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 33, 19, 23, 21, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 40, 5, 6, 24, 1, 1, 1, 0, 1, 2),
    ConvCase(2, 24, 15, 14, 40, 1, 1, 2, 0, 1, 1),
    # more taps than a task has; rows of padding alone; residues that no tap has
    ConvCase(1, 3, 30, 20, 130, 13, 9, 1, 5, 1, 1),
    ConvCase(1, 4, 3, 20, 6, 5, 1, 1, (4, 0), 1, 1),
    ConvCase(2, 7, 17, 19, 8, 3, 3, 3, 2, 2, 1),
]


@on_vectors
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_equals_the_portable_kernel_on_integers(case, dtype):
    g = geometry_of(case)
    rng = np.random.default_rng(3)
    x, _, _ = (guarded(small_integers(rng, shape, dtype)) for shape in case.shapes)
    dy = guarded(small_integers(rng, g.output_shape, dtype))
    want = np.empty(g.weight_shape, dtype)
    portable.conv2d_weight_grad(g, x, dy, want)
    got = Guarded(g.weight_shape, dtype)
    gemm_weight_grad.conv2d_weight_grad(g, x, dy, got.array)
    got.assert_untouched_around()
    np.testing.assert_array_equal(got.array, want)


@kernel
def fetched_runs(table, m1, g1, block, itemsize):
    return next_block(table[0], 0, 0, m1, 0, g1, block, itemsize)


@kernel
def halved(n):
    return halvings(n)


@on_vectors
@pytest.mark.parametrize(
    "case",
    [
        ConvCase(3, 40, 14, 14, 18, 1, 1, 1, 0, 1, 1),
        ConvCase(2, 18, 56, 56, 40, 1, 1, 1, 0, 1, 1),
        ConvCase(9, 20, 7, 7, 24, 1, 1, 1, 0, 1, 1),
        ConvCase(2, 24, 56, 56, 40, 1, 1, 2, 0, 1, 1),
        ConvCase(2, 20, 28, 28, 30, 3, 3, 1, 1, 1, 1),
    ],
    ids=str,
)
def test_the_next_block_is_fetched(case):
    """All that a block reads of its first image, or of whole planes, lies in the runs."""
    g = geometry_of(case)
    tables = tabulate(g, 4)
    s = tables.table[0]
    vectors = int(s["vectors_of_channels"])
    for block in range(1, int(s["blocks"])):
        runs = fetched_runs(tables.table, int(s["rows"]), vectors, block, 4)
        row_block, segment = divmod(block, int(s["segments"]))
        i0, q0 = row_block * int(s["some_rows"]), segment * int(s["segment"])
        i1 = min(i0 + int(s["some_rows"]), int(s["images"] * s["grid_h"]))
        q1 = min(q0 + int(s["segment"]), int(s["grid_w"]))
        image = i0 // int(s["grid_h"])
        if s["some_rows"] < 2 * s["grid_h"]:
            i1 = min(i1, (image + 1) * int(s["grid_h"]))
        n, p = np.divmod(np.arange(i0, i1), s["grid_h"])
        shapes = [
            (int(s["near_channels"]), int(s["grid_h"]), int(s["grid_w"]), p, np.arange(q0, q1)),
            (int(s["far_channels"]), int(s["H"]), int(s["W"]), p * s["sh"] + max(0, s["row"]),
             np.arange(q0, q1) * s["sw"]),
        ]  # fmt: skip
        for (at, step, bits, pairs), (channels, h, w, rows, columns) in zip(
            runs, shapes, strict=True
        ):
            assert pairs % (1 << bits) == 0
            plane = (n[:, None] * channels + np.arange(channels)) * h
            read = ((plane + rows[:, None])[..., None] * w + columns).ravel()
            length = 2 * (1 << bits) * 16
            starts = at + np.arange(pairs >> bits) * step
            found = np.searchsorted(starts, read, side="right") - 1
            assert (found >= 0).all()
            assert (read - starts[found] < length - 15).all()


def test_halvings():
    assert [halved(n) for n in (0, 1, 2, 3, 4, 7, 8, 1 << 40)] == [0, 0, 1, 1, 2, 2, 3, 40]


PROGRAM = """
import numpy as np
from fastcnn.kernels.cpu import gemm_weight_grad, portable
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.operations import geometry_of
from tests.kernels.test_gemm_weight_grad import CASES

rng = np.random.default_rng(3)
for case in CASES[:6]:
    g = geometry_of(case)
    x, dy = (rng.integers(-8, 9, s).astype("float32") for s in (g.input_shape, g.output_shape))
    want, got = (np.full(g.weight_shape, np.nan, "float32") for _ in range(2))
    portable.conv2d_weight_grad(g, x, dy, want)
    gemm_weight_grad.conv2d_weight_grad(g, x, dy, got)
    np.testing.assert_array_equal(got, want)
print(vector_unit().name)
"""


@needs_longer_vectors
def test_equals_the_portable_kernel_on_shorter_vectors():
    run_on("AVX2", PROGRAM)
