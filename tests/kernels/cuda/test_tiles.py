"""Layouts in shared memory, the split of 3xTF32, and its error over the layers of the suites."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cuda import half_dots, tensor_products, tiles
from fastcnn.verification.problems import suite, suites
from tests.kernels.cuda.emulator import (
    A_HALVES,
    A_PLACES,
    B_HALVES,
    B_PLACES,
    C_PLACES,
    as_float,
    as_word,
    bound,
    cut,
    int32,
    toward_zero,
    uint32,
)

LANES = np.arange(32)
TILES = [tiles.WIDE, tiles.FLAT, tiles.SMALL]


def _function(helper, tile=tiles.WIDE):
    names = {"uint32": uint32, "int32": int32, "as_float": as_float, "as_word": as_word}
    constants = {k: int(v) for k, v in tile.constants.items()}
    return bound(helper.function, names | {"float32": np.float32} | constants)


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_every_number_of_a_stage_has_a_word_of_its_own(tile):
    row_word, column_word = _function(tiles.row_word, tile), _function(tiles.column_word, tile)
    rows = [row_word(r, c) + e for r in range(tile.rows) for c in range(4) for e in range(4)]
    assert sorted(rows) == list(range(tile.rows * tiles.DEPTH))
    columns = [column_word(k, n) for k in range(tiles.DEPTH) for n in range(tile.columns)]
    assert sorted(columns) == list(range(tile.columns * tiles.DEPTH))
    assert tile.constants["SHARED"] * 4 <= 48 * 1024


def _banks(words):
    return [word % 32 for word in words]


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_shared_memory_is_read_and_written_without_bank_conflicts(tile):
    row_word, column_word = _function(tiles.row_word, tile), _function(tiles.column_word, tile)
    for first in range(0, tile.rows, 8):  # ldmatrix: eight rows at a time, one chunk of each
        for chunk in range(4):
            words = [row_word(first + r, chunk) for r in range(8)]
            assert sorted(b // 4 for b in _banks(words)) == list(range(8))
    for k in range(0, tiles.DEPTH, 8):  # ld.shared.v4: a quarter of a warp at a time
        for column in range(0, tile.columns, 16):
            for quarter in np.split(LANES, 4):
                words = [column_word(k + 2 * (n % 4), column + 2 * (n // 4)) for n in quarter]
                assert all(word % 4 == 0 for word in words)
                assert sorted(b // 4 for b in _banks(words)) == list(range(8))
    for k in range(0, tiles.DEPTH, 2):  # cp.async: sixteen pixels at two depths
        for column in range(0, tile.columns, 16):
            words = [column_word(k + lane // 16, column + lane % 16) for lane in LANES]
            assert sorted(_banks(words)) == list(range(32))


@pytest.mark.parametrize("tile", TILES, ids=str)
def test_copies_of_halves_have_no_bank_conflicts(tile):
    row_word = _function(tiles.row_word, tile)
    for quarter in np.split(LANES, 4):  # sixteen lanes to a chunk of sixteen rows
        words = [row_word(lane % 16, lane // 16) for lane in quarter]
        assert sorted(b // 4 for b in _banks(words)) == list(range(8))


@pytest.mark.parametrize("across", [64, 128])
def test_chunks_of_pixels_lie_apart_and_are_read_and_written_without_bank_conflicts(across):
    word = _function(half_dots.chunk_word)
    places = [word(k, c, across) for k in range(half_dots.PIXELS) for c in range(across // 8)]
    assert sorted(places) == list(range(0, half_dots.PIXELS * across // 2, 4))
    for chunk in range(across // 8):
        for first in range(0, half_dots.PIXELS, 8):  # ldmatrix, and a quarter of a warp's copies
            words = [word(first + k, chunk, across) for k in range(8)]
            assert sorted(b // 4 for b in _banks(words)) == list(range(8))


@pytest.mark.parametrize(
    ("places", "shape"),
    [
        (A_PLACES, (16, 8)),
        (B_PLACES, (8, 8)),
        (C_PLACES, (16, 8)),
        (A_HALVES, (16, 16)),
        (B_HALVES, (16, 8)),
        # The half of it that sm_75 has.
        (A_HALVES[:4], (16, 8)),
        (B_HALVES[:2], (8, 8)),
    ],
)
def test_a_warps_fragments_hold_every_element_once(places, shape):
    held = np.zeros(shape, int)
    for place in places:
        np.add.at(held, place, 1)
    assert (held == 1).all()


def test_a_is_stored_in_the_order_of_depths_in_which_lanes_read_b():
    # A lane's pair of B is depths 2 t and 2 t + 1, which mma.sync takes for t and t + 4.
    order = tiles.depth_order(16)
    t = np.arange(4)
    for eight in (0, 8):
        np.testing.assert_array_equal(order[eight + t], eight + 2 * t)
        np.testing.assert_array_equal(order[eight + 4 + t], eight + 2 * t + 1)


def test_a_number_is_its_leading_part_and_its_remainder_exactly():
    leading, remainder = _function(tensor_products.leading), _function(tensor_products.remainder)
    numbers = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    for x in [*numbers, *(numbers * np.float32(1e30)), np.float32(0), np.float32(-1)]:
        word = as_word(x)
        big, small = as_float(leading(word)), as_float(remainder(word))
        assert np.float64(big) + np.float64(small) == np.float64(x)
        assert abs(small) <= abs(x) * 2.0**-10


def _layers():
    layers = [layer.geometry for name in suites() for layer in suite(name)]
    return [g for g in layers if isinstance(g, Conv2dGeometry)]


def _split_sum(a, b):
    """Dot products along the last axis as a lane adds them up, cut off wherever PTX allows it."""
    missing = -a.shape[-1] % 8
    a, b = (np.pad(v, ((0, 0), (0, missing))) for v in (a, b))
    big_a, big_b = (cut(v.view(np.uint32)) for v in (a, b))
    small = [(v - big).astype(np.float32) for v, big in ((a, big_a), (b, big_b))]
    small_a, small_b = (cut(v.view(np.uint32)) for v in small)
    total = np.zeros(len(a), np.float32)
    for k in range(0, a.shape[-1], 8):
        eight = slice(k, k + 8)
        d = toward_zero((small_a[:, eight] * big_b[:, eight]).sum(-1))
        d = toward_zero(d + (big_a[:, eight] * small_b[:, eight]).sum(-1))
        d = toward_zero(d + (big_a[:, eight] * big_b[:, eight]).sum(-1))
        total += d
    return total


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "after relu"])
def test_3xtf32_stays_within_1e_5_over_all_layers(signed):
    rng = np.random.default_rng(3)
    worst = 0.0
    depths = set()
    for g in _layers():
        terms = g.C // g.groups * g.R * g.S
        # Filters, channels, and a span of the weight gradient's pixels.
        depths |= {terms, g.K // g.groups * g.R * g.S, min(g.N * g.P * g.Q, 20000)}
    for depth in sorted(depths):
        a, b = (rng.standard_normal((32, depth)).astype(np.float32) for _ in range(2))
        if not signed:
            a = np.abs(a)
        exact = (a.astype(np.float64) * b).sum(-1)
        error = np.linalg.norm(_split_sum(a, b) - exact) / np.linalg.norm(exact)
        worst = max(worst, error)
    assert worst < 1e-5
