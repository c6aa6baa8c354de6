"""What the matrix-product convolutions offer beyond the operations: kept weights, a fused ReLU."""

import numpy as np
import pytest

from fastcnn import functional
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels.cpu import implicit_gemm, portable
from fastcnn.kernels.cpu.microkernel import RUN
from fastcnn.kernels.cpu.pixel_tiles import cut
from fastcnn.kernels.cpu.planes import NOWHERE, PICKED, locate
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.selection import choose
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded
from tests.geometries import ConvCase, small_integers

on_vectors = pytest.mark.skipif(
    vector_unit() is None, reason="no vector unit here, or nothing is compiled"
)

# More taps than a chunk, strides with and without gaps, groups, one pixel, one row of many pixels.
CASES = [
    ConvCase(2, 130, 13, 12, 9, 3, 3, 1, 1, 1, 1),
    ConvCase(3, 5, 9, 10, 20, 3, 3, 2, 1, 1, 1),
    ConvCase(1, 8, 9, 10, 4, 1, 1, 3, 0, 1, 1),
    ConvCase(2, 24, 15, 14, 20, 3, 2, (2, 1), 2, 2, 4),
    ConvCase(2, 1100, 1, 1, 33, 1, 1, 1, 0, 1, 1),
    # blocks of single taps: images that end within a vector, several chunks and blocks of panels;
    # sums that go on in the result itself; a stride
    ConvCase(3, 1100, 7, 7, 230, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 1040, 8, 20, 61, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 30, 15, 70, 62, 1, 1, 2, 0, 1, 2),
    # its gradient in several chunks, panels of which several are copied together, and one is short
    ConvCase(2, 130, 7, 9, 1100, 1, 1, 1, 0, 1, 1),
    # the last tile would end beyond x; rows that a tile straddles
    ConvCase(3, 5, 9, 23, 14, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 6, 11, 40, 22, 4, 3, 1, 0, (1, 2), 2),
    # planes of 4 KB apart, stored and read
    ConvCase(2, 33, 32, 32, 28, 1, 1, 1, 0, 1, 1),
    ConvCase(1, 33, 32, 32, 28, 3, 3, 1, 1, 1, 1),
    # in planes: several images in a block, strides with residues of their own, a wide halo
    ConvCase(5, 17, 6, 30, 28, 3, 3, 1, 1, 1, 1),
    ConvCase(2, 20, 17, 70, 14, 5, 4, (2, 3), (3, 4), (1, 2), 1),
    # more rows than a task has, taps in several chunks of positions
    ConvCase(1, 16, 30, 20, 600, 13, 9, 1, 5, 1, 1),
    # a strided gradient whose residues are cut into different numbers of tasks
    ConvCase(2, 5, 41, 90, 16, 3, 3, 2, 1, 1, 1),
    # its columns stored in turn: even ones alone, zeros below and beyond the last row; odd ones
    # alone, zeros above; two rows of zeros; one column more than the result has, groups
    ConvCase(2, 17, 9, 13, 9, 1, 1, 2, 0, 1, 1),
    ConvCase(2, 17, 8, 12, 9, 1, 1, 2, 1, 1, 1),
    ConvCase(2, 9, 11, 2, 5, 2, 3, (4, 2), 1, 1, 1),
    # of a single tap: rows of two images in a vector of dy; several chunks
    ConvCase(3, 30, 9, 9, 40, 1, 1, 2, 0, 1, 1),
    ConvCase(2, 60, 13, 14, 1100, 1, 1, (3, 2), 0, 1, 1),
    ConvCase(2, 40, 7, 41, 10, 3, 3, 2, 1, 1, 2),
    # of three residues and of four: two that taps reach, several chunks of channels whose planes
    # are laid out anew, gaps between filters, residues of x that no tap reads
    ConvCase(2, 17, 14, 23, 18, 3, 2, 3, 1, 1, 1),
    ConvCase(2, 9, 13, 31, 600, 4, 4, (2, 3), 1, 1, 1),
    ConvCase(1, 30, 15, 37, 16, 3, 3, 4, 0, 1, 1),
    ConvCase(2, 6, 12, 25, 40, 2, 3, (1, 4), 1, (1, 2), 2),
    # several rows in a vector, of several images: in planes and in place, for tall panels and for
    # short ones alone; rows too short for two reads
    ConvCase(9, 5, 7, 7, 30, 3, 3, 1, 1, 1, 1),
    ConvCase(9, 30, 14, 14, 8, 3, 3, 2, 1, 1, 1),
    ConvCase(5, 6, 11, 9, 24, 3, 3, 1, 0, 1, 1),
    ConvCase(4, 6, 20, 29, 24, 5, 5, 3, 1, 1, 1),
    ConvCase(17, 5, 5, 4, 16, 3, 2, 1, 0, 1, 1),
    ConvCase(6, 5, 9, 11, 16, 3, 3, 2, 1, 2, 1),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)
dtypes = pytest.mark.parametrize("dtype", FLOATS)


def arrays(case, dtype, seed=5):
    rng = np.random.default_rng(seed)
    return [guarded(small_integers(rng, shape, dtype)) for shape in case.shapes]


@on_vectors
@cases
@dtypes
def test_equals_the_portable_kernel_on_integers(case, dtype):
    """Chunks of channels and of positions, and parts of a gradient, at whose borders sums go on."""
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    for operation, given, shape in (
        ("conv2d", (x, w, None), g.output_shape), ("conv2d_input_grad", (dy, w), g.input_shape),
    ):  # fmt: skip
        want, out = np.empty(shape, dtype), Guarded(shape, dtype)
        getattr(portable, operation)(g, *given, want)
        getattr(implicit_gemm, operation)(g, *given, out.array)
        out.assert_untouched_around()
        np.testing.assert_array_equal(out.array, want)


@pytest.mark.skipif(
    vector_unit() is None or not vector_unit().picks, reason="no unit that picks lanes here"
)
@pytest.mark.parametrize(("W", "least", "packed"), [(7, 5, 2), (13, 1, 0)])
def test_short_rows_are_picked_out_of_planes(W, least, packed):
    """Of 3 x 3 filters hardly a tile has to be packed tap by tap."""
    g = conv2d_geometry((9, 3, W, W), (20, 3, 3, 3), padding=1)
    (s,) = implicit_gemm._forward(g, 4).parts
    pieces = np.empty((s["pieces"], 7), np.int64)
    starts = np.empty(s["block"] // s["columns"] + 1, np.int64)
    pixels = min(s["block"], s["pixels"])
    tiles = cut(pieces, starts, 0, pixels, 0, W, W, s["columns"], s["lanes"])
    found, runs = np.full(tiles, -1), np.zeros(RUN * (s["block"] // s["lanes"]), np.int64)
    locate(
        runs, found, pieces, starts, tiles, s["mode"], s["pitch"], s["image_step"],
        s["extra_rows"], s["lanes"], s["end"], True,
    )  # fmt: skip
    assert (found == PICKED).sum() >= least
    assert (found == NOWHERE).sum() <= packed


@pytest.mark.skipif(
    vector_unit() is None or not vector_unit().picks, reason="no unit that picks lanes here"
)
@pytest.mark.parametrize(
    ("operation", "channels", "size", "filters", "kernel", "stride"),
    [
        ("conv2d", 32, 28, 32, 3, 2),
        ("conv2d", 16, 31, 24, 5, 3),
        ("conv2d", 24, 14, 24, 3, 2),
        ("conv2d_weight_grad", 16, 56, 32, 3, 2),
    ],
)
def test_few_channels_leave_strided_layers(operation, channels, size, filters, kernel, stride):
    """To implicit GEMM, or to what is faster still: they took 1.16 to 1.4 times as long."""
    g = conv2d_geometry(
        (8, channels, size, size), (filters, channels, kernel, kernel), stride=stride, padding=1
    )
    assert choose(Problem(operation, g, "float32")).name in ("implicit_gemm", "winograd_strided")


@on_vectors
@cases
@dtypes
def test_kept_weights_give_the_same_bits_on_any_batch(case, dtype):
    """And w itself is not looked at any more."""
    g = geometry_of(case)
    x, w, dy = arrays(case, dtype)
    other = conv2d_geometry((g.N + 4, *g.input_shape[1:]), g.weight_shape, **case.options)
    nothing = np.full_like(w, np.nan)
    kept = implicit_gemm.pack("conv2d", other, w)
    before = kept.copy()
    y, again = (np.full(g.output_shape, np.nan, dtype) for _ in range(2))
    implicit_gemm.conv2d(g, x, w, None, y)
    implicit_gemm.conv2d(g, x, nothing, None, again, packed=kept)
    assert again.tobytes() == y.tobytes()
    np.testing.assert_array_equal(kept, before)
    kept = implicit_gemm.pack("conv2d_input_grad", other, w)
    dx, again = (np.full(g.input_shape, np.nan, dtype) for _ in range(2))
    implicit_gemm.conv2d_input_grad(g, dy, w, dx)
    implicit_gemm.conv2d_input_grad(g, dy, nothing, again, packed=kept)
    assert again.tobytes() == dx.tobytes()


@pytest.mark.parametrize(
    "kernel", [portable, pytest.param(implicit_gemm, marks=on_vectors)], ids=lambda k: k.__name__
)
@cases
@dtypes
def test_fused_relu_is_relu_of_the_result(kernel, case, dtype):
    """Bit for bit, after the bias, with zeros of both signs; NaN stays NaN."""
    g = geometry_of(case)
    x, w, _ = arrays(case, dtype)
    x[0, 0, :2, :2] = np.nan  # of which any stride reads one
    rng = np.random.default_rng(6)
    for bias in (None, np.ones(g.K), rng.integers(-9, 9, (g.K, g.P, g.Q))):
        b = None if bias is None else guarded(bias.astype(dtype))
        z = np.empty(g.output_shape, dtype)
        kernel.conv2d(g, x, w, b, z)
        out = Guarded(g.output_shape, dtype)
        kernel.conv2d(g, x, w, b, out.array, relu=True)
        out.assert_untouched_around()
        assert out.array.tobytes() == functional.relu(z).tobytes()
        assert np.isnan(out.array).any()
        assert (z < 0).any()
        assert (out.array > 0).any()
