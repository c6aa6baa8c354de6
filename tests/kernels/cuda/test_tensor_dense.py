"""Dense layers on tensor cores, launched as on a GPU and run by the emulator, and their facts."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.geometry import DenseGeometry
from fastcnn.kernels.cuda import target, tensor_dense, tensor_matrix, tf32_dense, tiles
from fastcnn.kernels.cuda.tensor_dense import MatrixProducts
from tests.kernels.cuda import emulated
from tests.kernels.cuda.emulator import bound, uint32

WAYS = {"3xtf32": tensor_dense, "tf32": tf32_dense}
# Thin tiles with quads; low tiles and single words; one row and one column.
CASES = {"quads": (4, 36, 8), "words": (34, 7, 130), "one": (1, 1, 1)}


def _case(name, seed=0):
    g = DenseGeometry(*CASES[name])
    rng = np.random.default_rng(seed)
    shapes = (g.N, g.I), (g.O, g.I), (g.O,), (g.N, g.O)
    return g, *(rng.integers(-8, 9, s).astype(np.float32) for s in shapes)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", WAYS)
def test_all_operations_are_exact_on_small_integers(way, case):
    g, x, w, b, dy = _case(case)
    with emulated.emulation():
        y = emulated.dense(WAYS[way], g, x, w, b)
        dx = emulated.dense_input_grad(WAYS[way], g, dy, w)
        dw = emulated.dense_weight_grad(WAYS[way], g, x, dy)
    np.testing.assert_array_equal(y, reference.dense(x, w, b))
    np.testing.assert_array_equal(dx, reference.dense_input_grad(dy, w))
    np.testing.assert_array_equal(dw, reference.dense_weight_grad(x, dy))


@pytest.mark.parametrize("with_bias", [True, False])
def test_spans_add_up_and_then_comes_the_bias(monkeypatch, with_bias):
    monkeypatch.setattr("fastcnn.kernels.cuda.tensor_dense.SPAN", 16)
    g, x, w, b, _ = _case("quads")
    with emulated.emulation() as launched:
        y = emulated.dense(tf32_dense, g, x, w, b if with_bias else None)
    (_, grid), (adding, _) = launched
    assert grid == (1, 1, 2)  # 36 = 32 + 4
    assert adding is tensor_matrix.add_parts
    np.testing.assert_array_equal(y, reference.dense(x, w, b if with_bias else None))


def test_one_bias_for_all_and_arrays_that_begin_anywhere():
    g, x, w, b, _ = _case("quads")
    with emulated.emulation():
        y = emulated.dense(tf32_dense, g, x, w, b[:1], pointer=4, shared=True)
    np.testing.assert_array_equal(y, reference.dense(x, w, np.full(g.O, b[0])))


@pytest.mark.parametrize(
    ("missing", "copies"), [(None, "early"), ("wait_all_but_1", "late"), ("syncthreads", "early")]
)
def test_stages_are_waited_for_and_not_overwritten(missing, copies):
    g = DenseGeometry(8, 128, 40)
    rng = np.random.default_rng(1)
    x, w = (rng.integers(-8, 9, s).astype(np.float32) for s in ((g.N, g.I), (g.O, g.I)))
    with emulated.emulation(copies, without=() if missing is None else (missing,)):
        y = emulated.dense(tf32_dense, g, x, w)
    assert np.array_equal(y, reference.dense(x, w, None)) == (missing is None)


def test_across_is_read_and_written_without_bank_conflicts():
    word = bound(tensor_matrix.across_word.function, {"uint32": uint32})
    for size in (32, 64, 128):
        places = [word(k, m, size) for k in range(tiles.DEPTH) for m in range(size)]
        assert sorted(places) == list(range(tiles.DEPTH * size))
        for k in range(0, tiles.DEPTH, 4):
            for m in range(0, size, 8):
                read = [word(k + t, m + g, size) % 32 for g in range(8) for t in range(4)]
                assert sorted(read) == list(range(32))
        for k in range(tiles.DEPTH):  # a quarter of a warp writes eight chunks side by side
            for m in range(0, size, 32):
                chunks = [word(k, m + 4 * n, size) for n in range(8)]
                assert all(c % 4 == 0 for c in chunks)
                assert sorted(c // 4 % 8 for c in chunks) == list(range(8))


def test_refusals_say_why_and_small_batches_are_divided():
    g = DenseGeometry(4, 4096, 1000)
    ask = MatrixProducts(True, 1.0).refusal
    assert ask("dense", g, 4) is None
    assert "float32" in ask("dense", g, 8)
    assert "32 bits" in ask("dense_weight_grad", DenseGeometry(1, 2**16, 2**15), 4)
    assert "ieee" in tensor_dense.refusal("dense", g, 4, "ieee")
    assert "10 bits" in tf32_dense.refusal("dense", g, 4, "float32")
    assert tensor_dense.workspace("dense", g, 4) > 8 * 4 * 4 * 1000
    assert tensor_dense.workspace("dense_weight_grad", g, 4) == 0
    costs = [tensor_dense.cost("dense", DenseGeometry(n, 4096, 4096), 4) for n in (1, 512, 4096)]
    assert costs == sorted(costs)


FACTS = [
    (tiles.FLAT, True, along, True, arch)
    for along in ((True, True), (True, False), (False, False))
    for arch in ((8, 0), (9, 0))
] + [
    (tensor_matrix.THIN, True, (True, False), True, (9, 0)),
    (tensor_matrix.THIN, True, (False, False), False, (8, 0)),
    (tensor_matrix.THIN, False, (True, True), False, (9, 0)),
]


@pytest.mark.skipif(
    target.missing_package() is not None, reason="compiling for a GPU needs the cuda extra"
)
@pytest.mark.parametrize(("tile", "split", "along", "quads", "arch"), FACTS, ids=str)
def test_all_is_kept_in_registers_and_copied_past_them(tile, split, along, quads, arch):
    program = tensor_matrix.PRODUCTS[tile].of(
        **tile.constants, SPLIT=split, ROUNDED=False, A_ALONG=along[0], B_ALONG=along[1],
        QUADS=quads,
    )  # fmt: skip
    facts = program.facts(arch)
    assert (facts.spills, facts.stack) == (0, 0)
    assert facts.registers <= 128
    down, across = tile.warp_rows // 16, tile.warp_columns // 8
    assert facts.count("HMMA.1688.F32.TF32") == 2 * down * across * (3 if split else 1)
    assert facts.count("LDSM") == 2 * down * along[0] + across * along[1]
    # Single words of what lies across; not counting the assembler's own loads of nothing.
    words = 8 * down * (not along[0]) + 4 * across * (not along[1])
    assert facts.count(r"LDS R\d") == words
    copies = tiles.DEPTH // 4 * (tile.rows + tile.columns) // tile.threads
    assert facts.count(r"LDGSTS\S*128") == (copies if quads else 0)
    assert facts.count("LDGSTS") == (copies if quads else 4 * copies)
