"""What the assembler makes of the tile kernels: registers, spills, instructions. Needs no GPU."""

from __future__ import annotations

import pytest

from fastcnn.kernels.cuda import (
    ffma_columns,
    ffma_dots,
    ffma_products,
    half_columns,
    half_dots,
    half_products,
    target,
    tensor_columns,
    tensor_dots,
    tiles,
)

pytestmark = pytest.mark.skipif(
    target.missing_package() is not None, reason="compiling for a GPU needs the cuda extra"
)

TENSOR = {
    "columns wide 3xtf32": (tensor_columns, tiles.WIDE, True),
    "columns wide tf32": (tensor_columns, tiles.WIDE, False),
    "columns flat 3xtf32": (tensor_columns, tiles.FLAT, True),
    "columns small 3xtf32": (tensor_columns, tiles.SMALL, True),
    "dots flat 3xtf32": (tensor_dots, tiles.FLAT, True),
    "dots flat tf32": (tensor_dots, tiles.FLAT, False),
    "dots small 3xtf32": (tensor_dots, tiles.SMALL, True),
}
FFMA = {
    "columns large": (ffma_columns, ffma_products.LARGE),
    "columns low": (ffma_columns, ffma_products.LOW),
    "dots low": (ffma_dots, ffma_products.LOW),
}


@pytest.mark.parametrize("arch", [(8, 0), (9, 0)], ids=str)
@pytest.mark.parametrize("name", TENSOR)
def test_kernels_on_tensor_cores_keep_all_in_registers_and_copy_past_them(name, arch):
    module, tile, split = TENSOR[name]
    columns = module is tensor_columns
    program = module.PRODUCTS[tile].of(**tile.constants, SPLIT=split, ROUNDED=columns)
    facts = program.facts(arch)
    assert (facts.spills, facts.stack) == (0, 0)
    assert facts.registers <= 128
    # Per stage a warp multiplies DOWN x ACROSS pieces at two steps of depth, in one or three
    # products; it loads A's pieces, and B's two at a time.
    down, across = tile.warp_rows // 16, tile.warp_columns // 8
    assert facts.count("HMMA.1688.F32.TF32") == 2 * down * across * (3 if split else 1)
    pairs = 2 * (across // 2)
    assert facts.count("LDSM") == 2 * down + (0 if columns else pairs)
    assert facts.count(r"LDS\.128") == (pairs if columns else 0)
    # Copies: a stage's 16-byte chunks of A or its words, and B's words, divided among the threads.
    words = tiles.DEPTH * tile.columns // tile.threads
    of_a = 4 * tile.rows // tile.threads if columns else tiles.DEPTH * tile.rows // tile.threads
    assert facts.count("LDGSTS") == of_a + words
    assert facts.count(r"LDGSTS\S*128") == (of_a if columns else 0)


HALF = [
    (module, tile, bfloat, arch)
    for module in (half_columns, half_dots)
    for tile, bfloat, arch in (
        (tiles.WIDE, True, (8, 0)),
        (tiles.WIDE, True, (9, 0)),
        (tiles.WIDE, False, (9, 0)),
        (tiles.FLAT, True, (9, 0)),
        (tiles.FLAT, False, (7, 5)),
        (tiles.SMALL, True, (8, 0)),
        (tiles.SMALL, False, (7, 5)),
    )
]


def _named(value):
    return getattr(value, "__name__", str(value)).rpartition(".")[2]


@pytest.mark.parametrize(("module", "tile", "bfloat", "arch"), HALF, ids=_named)
def test_kernels_of_halves_keep_all_in_registers_and_copy_16_bytes(module, tile, bfloat, arch):
    turing = arch < (8, 0)
    program = module.PRODUCTS[tile].of(**tile.constants, BFLOAT=bfloat, TURING=turing)
    facts = program.facts(arch)
    assert (facts.spills, facts.stack) == (0, 0)
    assert facts.registers <= 128
    # Per stage a warp multiplies DOWN x ACROSS pieces at two steps of depth, or at four of sm_75;
    # it loads A's pieces, and B's two at a time; copies are a stage's chunks of 16 bytes.
    down, across = tile.warp_rows // 16, tile.warp_columns // 8
    shape = "1688" if turing else "16816"
    assert facts.count(rf"HMMA\.{shape}\.F32") == facts.count("HMMA")
    assert facts.count("HMMA") == 2 * down * across * (2 if turing else 1)
    assert facts.count("HMMA.*BF16") == (facts.count("HMMA") if bfloat else 0)
    transposed = module is half_dots
    assert facts.count("LDSM") == 2 * down + 2 * (across // 2)
    assert facts.count(r"LDSM\S*MT88") == (facts.count("LDSM") if transposed else 0)
    copies = 4 * (tile.rows + tile.columns) // tile.threads
    assert facts.count(r"LDGSTS\S*128") == facts.count("LDGSTS") == (0 if turing else copies)


@pytest.mark.parametrize(("bfloat", "arch"), [(True, (8, 0)), (False, (7, 5))], ids=str)
def test_rounding_to_halves_has_eight_loads_in_flight_and_one_store(bfloat, arch):
    facts = half_products.pack_images.of(BFLOAT=bfloat).facts(arch)
    assert (facts.spills, facts.stack) == (0, 0)
    assert facts.count("LDG") == 8
    assert facts.count("STG") == facts.count(r"STG\S*128") == 1


@pytest.mark.parametrize("arch", [(7, 5), (8, 0), (9, 0)], ids=str)
@pytest.mark.parametrize("name", FFMA)
def test_kernels_of_multiply_adds_keep_all_in_registers(name, arch):
    module, tile = FFMA[name]
    facts = module.PRODUCTS[tile].of(**tile.constants).facts(arch)
    assert (facts.spills, facts.stack) == (0, 0)
    assert facts.registers <= 128
    cells = 16 * tile.quads_down * tile.quads_across
    assert facts.count("FFMA") == ffma_products.STEP * cells
    loads = ffma_products.STEP * (tile.quads_down + tile.quads_across)
    assert facts.count(r"LDS\.(U\.)?128") == loads
    assert facts.instructions["LDS"] == loads
