"""The machine's limits: the register tile computes, and the roofline is min(peak, I bandwidth)."""

import numpy as np
import pytest

from fastcnn.benchmark import machine, roofline
from fastcnn.benchmark.rates import attainable
from fastcnn.kernels.cpu.jit import config
from fastcnn.kernels.cpu.peak_tile import peak_tile
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch, sharers
from fastcnn.kernels.cpu.units import vector_unit

LIMITS = {"fma_gflops": 100.0, "copy_gbs": 10.0}


def test_the_register_tile_multiplies_matrices():
    unit = vector_unit()
    if unit is None:
        pytest.skip("no vector unit is known for this processor")
    roofline._TILE = roofline._TILE or peak_tile()
    columns, depth = unit.vectors * unit.lanes(4), 5
    rng = np.random.default_rng(0)
    a = rng.integers(-4, 5, (depth, unit.rows)).astype(np.float32)
    b = rng.integers(-4, 5, (depth, columns)).astype(np.float32)
    c = np.ones((2, unit.rows * columns), np.float32)
    launch(roofline._tiles, 2, 0, 3, depth, a, b, c)
    expected = 1 + 3 * (a.T @ b).reshape(-1)
    np.testing.assert_array_equal(c, np.stack([expected, expected]))


def test_a_line_goes_from_core_to_core_and_back():
    assert roofline.round_trip(1) is None
    if config.DISABLE_JIT or sharers(2, WORTH_SHARING) < 2:
        assert roofline.round_trip(2) is None
    else:
        assert 1 < roofline.round_trip(2) < 1e7


def test_the_roofline():
    # 10 FLOPs per byte is where 100 GFLOP/s meet 10 GB/s
    assert attainable(10**9, 10**6, LIMITS) == pytest.approx(0.01)
    assert attainable(10**9, 10**9, LIMITS) == pytest.approx(0.1)
    assert attainable(0, 10**9, LIMITS) == pytest.approx(0.1)
    assert attainable(10**9, 10**6, {**LIMITS, "fma_gflops": None}) is None


def test_facts_about_the_machine():
    facts = machine.facts()
    assert facts["cpu"]
    assert facts["versions"].keys() >= {"python", "numpy", "numba", "fastcnn"}
    assert machine.last_cache_bytes() >= 1 << 15
