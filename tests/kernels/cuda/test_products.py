"""The tile kernels, launched as on a GPU and run by the emulator, against the reference.

Small integers: whatever the way and the order of adding up, results must be equal.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.geometry import Conv2dGeometry, conv2d_geometry
from fastcnn.kernels.cuda import (
    bf16_gemm,
    f16_gemm,
    implicit_gemm,
    packing,
    product_tables,
    tensor_gemm,
    tf32_gemm,
    turing_gemm,
)
from fastcnn.kernels.cuda.finishing import QUADS
from tests.kernels.cuda import emulated

WAYS = {"ffma": implicit_gemm, "3xtf32": tensor_gemm, "tf32": tf32_gemm}
HALVES = {"bf16": bf16_gemm, "f16": f16_gemm, "f16 by 8": turing_gemm}
WAYS |= HALVES
# x, w, stride, padding, dilation, groups.
CASES = {
    "two groups, quads": ((2, 4, 4, 6), (16, 2, 3, 3), 1, 1, 1, 2),
    "strides": ((1, 9, 9, 8), (10, 9, 3, 2), (2, 3), (1, 0, 2, 1), (1, 2), 1),
    "deep": ((1, 24, 4, 40), (9, 24, 3, 3), 1, 1, 1, 1),
    "pixels that no window reaches": ((2, 8, 5, 5), (9, 8, 1, 1), 3, 0, 1, 1),
}


def _case(name, seed=0):
    x_shape, w_shape, stride, padding, dilation, groups = CASES[name]
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    g = conv2d_geometry(x_shape, w_shape, **options)
    rng = np.random.default_rng(seed)
    shapes = g.input_shape, g.weight_shape, g.output_shape
    x, w, dy = (rng.integers(-8, 9, s).astype(np.float32) for s in shapes)
    return g, options, x, w, dy


# The kernels of halves differ in one instruction: one of them meets all cases.
ALL = [case for case in CASES if case != "deep"]
FEWER = {"f16": ("strides",), "f16 by 8": ("two groups, quads",)}


@pytest.mark.parametrize(
    ("way", "case"), [(way, case) for way in WAYS for case in FEWER.get(way, ALL)]
)
def test_all_operations_are_exact_on_small_integers(way, case):
    g, options, x, w, dy = _case(case)
    with emulated.emulation():
        y = emulated.conv2d(WAYS[way], g, x, w)
        dx = emulated.conv2d_input_grad(WAYS[way], g, dy, w)
        dw = emulated.conv2d_weight_grad(WAYS[way], g, x, dy)
    np.testing.assert_array_equal(y, reference.conv2d(x, w, **options))
    np.testing.assert_array_equal(dx, reference.conv2d_input_grad(dy, w, g.input_shape, **options))
    np.testing.assert_array_equal(
        dw, reference.conv2d_weight_grad(x, dy, g.weight_shape, **options)
    )


@pytest.mark.parametrize("way", ["ffma", "tf32", "bf16"])
@pytest.mark.parametrize("per_pixel", [False, True])
def test_bias_and_relu_are_done_before_a_sum_is_stored(way, per_pixel):
    g, options, x, w, _ = _case("two groups, quads")
    b = np.arange(g.K, dtype=np.float32) - 5
    if per_pixel:
        b = np.random.default_rng(1).integers(-9, 9, g.output_shape[1:]).astype(np.float32)
    with emulated.emulation():
        y = emulated.conv2d(WAYS[way], g, x, w, b, relu=True)
    np.testing.assert_array_equal(y, np.maximum(reference.conv2d(x, w, b, **options), 0))


# Deep enough for more stages than there are: of 16 numbers, and of 32 in halves.
DEEP = {"tf32": "two groups, quads", "bf16": "deep"}


@pytest.mark.parametrize("way", DEEP)
@pytest.mark.parametrize("operation", ["conv2d", "conv2d_weight_grad"])
def test_no_stage_is_filled_while_another_thread_reads_it(operation, way):
    # Copies that arrive at once: a stage filled too early would be multiplied.
    g, options, x, w, dy = _case(DEEP[way])
    with emulated.emulation(copies="early"):
        if operation == "conv2d":
            result = emulated.conv2d(WAYS[way], g, x, w)
            expected = reference.conv2d(x, w, **options)
        else:
            result = emulated.conv2d_weight_grad(WAYS[way], g, x, dy)
            expected = reference.conv2d_weight_grad(x, dy, g.weight_shape, **options)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("missing", "copies"), [("wait_all_but_1", "late"), ("syncthreads", "early")]
)
def test_a_missing_wait_or_barrier_would_be_seen(missing, copies):
    g, options, x, w, dy = _case("two groups, quads")
    with emulated.emulation(copies, without=(missing,)):
        y = emulated.conv2d(tf32_gemm, g, x, w)
        dw = emulated.conv2d_weight_grad(bf16_gemm, g, x, dy)
    assert not np.array_equal(y, reference.conv2d(x, w, **options))
    assert not np.array_equal(dw, reference.conv2d_weight_grad(x, dy, g.weight_shape, **options))


@pytest.mark.parametrize(("way", "spans"), [("tf32", 3), ("bf16", 2)])
def test_spans_of_the_weight_gradient_add_up(monkeypatch, way, spans):
    g, options, x, _, dy = _case("two groups, quads")
    monkeypatch.setattr("fastcnn.kernels.cuda.products.SPAN", 16)
    with emulated.emulation() as launched:
        dw = emulated.conv2d_weight_grad(WAYS[way], g, x, dy)
    *_, (_, grid), (adding, _) = launched
    assert grid == (1, 1, spans * g.groups)
    assert adding is packing.add_spans
    np.testing.assert_array_equal(
        dw, reference.conv2d_weight_grad(x, dy, g.weight_shape, **options)
    )


def test_3xtf32_keeps_float32s_accuracy_and_tf32_does_not():
    g, options, x, w, _ = _case("strides")
    rng = np.random.default_rng(2)
    x, w = (rng.standard_normal(a.shape).astype(np.float32) for a in (x, w))
    expected = reference.conv2d(x.astype(np.float64), w.astype(np.float64), **options)
    errors = {}
    with emulated.emulation():
        for name in ("3xtf32", "tf32"):
            y = emulated.conv2d(WAYS[name], g, x, w)
            errors[name] = np.linalg.norm(y - expected) / np.linalg.norm(expected)
    assert errors["3xtf32"] < 1e-6
    assert 1e-5 < errors["tf32"] < 1e-3


@pytest.mark.parametrize(("way", "kept"), [("bf16", 8), ("f16", 11)])
def test_halves_are_rounded_once_to_nearest_and_added_up_in_float32(way, kept):
    g, options, x, w, dy = _case("strides")
    rng = np.random.default_rng(3)
    x, w, dy = (rng.standard_normal(a.shape).astype(np.float32) for a in (x, w, dy))
    of_x, of_w, of_dy = (_rounded(a.astype(np.float64), kept) for a in (x, w, dy))
    with emulated.emulation():
        results = {
            "y": emulated.conv2d(WAYS[way], g, x, w),
            "dx": emulated.conv2d_input_grad(WAYS[way], g, dy, w),
            "dw": emulated.conv2d_weight_grad(WAYS[way], g, x, dy),
        }
    expected = {
        "y": reference.conv2d(of_x, of_w, **options),
        "dx": reference.conv2d_input_grad(of_dy, of_w, g.input_shape, **options),
        "dw": reference.conv2d_weight_grad(of_x, of_dy, g.weight_shape, **options),
    }
    for name, result in results.items():
        error = np.linalg.norm(result - expected[name]) / np.linalg.norm(expected[name])
        assert error < 1e-6, name


def _rounded(numbers, bits):
    """To so many significant bits, ties to even; for numbers that are normal in all formats."""
    mantissa, exponent = np.frexp(numbers)
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


def test_halves_keep_what_is_not_finite_and_f16_overflows():
    g, options, x, w, _ = _case("two groups, quads")
    x[0, 0, 0, 0], x[1, 3, 2, 2], x[0, 1, 1, 1] = np.nan, np.inf, 1e6
    w[w == 0] = 1
    with emulated.emulation(), np.errstate(invalid="ignore"):
        of_bf16 = emulated.conv2d(bf16_gemm, g, x, w)
        of_f16 = emulated.conv2d(f16_gemm, g, x, w)
        expected = reference.conv2d(x, w, **options)
        x[0, 1, 1, 1] = np.inf
        overflown = reference.conv2d(x, w, **options)
    np.testing.assert_array_equal(np.isfinite(of_bf16), np.isfinite(expected))
    np.testing.assert_array_equal(np.isfinite(of_f16), np.isfinite(overflown))


def test_what_is_not_finite_stays_where_a_direct_convolution_puts_it():
    g, options, x, w, _ = _case("two groups, quads")
    x[0, 0, 0, 0], x[1, 3, 2, 2] = np.nan, np.inf
    w[w == 0] = 1
    with emulated.emulation(), np.errstate(invalid="ignore"):
        y = emulated.conv2d(tensor_gemm, g, x, w)
        expected = reference.conv2d(x, w, **options)
    np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))


def test_refusals_say_why():
    small = conv2d_geometry((1, 8, 6, 6), (4, 8, 3, 3))
    wide = Conv2dGeometry(1, 8, 1, 2**30, 8, 1, 1)
    ask = implicit_gemm.refusal
    assert "4 rows" in ask("conv2d", small, 4, "float32")
    assert ask("conv2d_input_grad", small, 4, "float32") is None
    assert "float32" in ask("conv2d", small, 8, "float32")
    assert "32 bits" in ask("conv2d", wide, 4, "float32")
    assert "ieee" in tensor_gemm.refusal("conv2d", small, 4, "ieee")
    assert "10 bits" in tf32_gemm.refusal("conv2d", small, 4, "float32")
    assert "not round to f16" in f16_gemm.refusal("conv2d", small, 4, "bf16")
    assert "not round to bf16" in bf16_gemm.refusal("conv2d", small, 4, "f16")
    assert "not round to f16" in turing_gemm.refusal("conv2d", small, 4, "tf32")


def test_costs_prefer_fewer_bits_and_grow_with_the_work():
    g = conv2d_geometry((32, 256, 14, 14), (256, 256, 3, 3), 1, 1)
    double = conv2d_geometry((64, 256, 14, 14), (256, 256, 3, 3), 1, 1)
    for operation in ("conv2d", "conv2d_input_grad", "conv2d_weight_grad"):
        ways = ("bf16", "tf32", "3xtf32", "ffma")
        costs = [WAYS[name].cost(operation, g, 4) for name in ways]
        assert costs == sorted(costs)
        assert tensor_gemm.cost(operation, double, 4) > costs[2]
        assert 0 < bf16_gemm.workspace(operation, g, 4) < 2**27
        assert tensor_gemm.workspace(operation, g, 4) < 2**27


def test_parts_of_the_input_gradient_cover_each_pixel_once():
    g = conv2d_geometry((1, 2, 7, 5), (8, 2, 3, 2), (3, 2), (2, 1), (2, 1))
    cells = np.concatenate([part.pixels[:, 3] for part in product_tables.input_grad(g)])
    np.testing.assert_array_equal(np.sort(cells), np.arange(g.H * g.W))
    assert not QUADS & 7
