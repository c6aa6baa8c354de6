"""Initial values: variance, determinism, and independence of type and backend."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.layers import Conv2D, Dense
from fastcnn.layers.initializers import draw, fans

CONV = (40, 30, 3, 2)


def test_fans_as_keras_counts_them():
    assert fans(CONV) == (30 * 6, 40 * 6)
    assert fans((7, 5)) == (5, 7)


@pytest.mark.parametrize(
    ("name", "variance"),
    [("glorot", 2 / (30 * 6 + 40 * 6)), ("he", 2 / (30 * 6))],
)
@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_variances(name, kind, variance):
    w = draw(f"{name}_{kind}", CONV, CONV, np.random.default_rng(0))
    assert w.shape == CONV
    # 7200 draws: the sample variance is within 5 % at three standard deviations.
    assert np.var(w) == pytest.approx(variance, rel=0.06)
    assert abs(w.mean()) < 4 * (variance / w.size) ** 0.5
    within = (3 * variance) ** 0.5
    assert (np.abs(w).max() <= within) == (kind == "uniform")


def test_zeros_ones_and_functions():
    layer = Conv2D(
        2,
        3,
        kernel_initializer="ones",
        bias_initializer=lambda shape, rng: rng.integers(1, 9, shape),
        seed=0,
    )
    layer.build((None, 1, 5, 5))
    assert (layer.parameters["weight"] == 1).all()
    assert (layer.parameters["bias"] >= 1).all()
    bad = Dense(2, kernel_initializer=lambda shape, rng: np.zeros(3))
    with pytest.raises(ValueError, match=r"returned shape \(3,\) instead of \(2, 4\)"):
        bad.build((None, 4))
    zeros = Dense(2, kernel_initializer="zeros")
    zeros.build((None, 4))
    assert not zeros.parameters["weight"].any()


@pytest.mark.parametrize("name", ["glorot_uniform", "glorot_normal", "he_uniform", "he_normal"])
def test_the_seed_alone_decides(name):
    def weight(seed, dtype="float32", backend="auto"):
        layer = Conv2D(3, 3, kernel_initializer=name, seed=seed, dtype=dtype, backend=backend)
        layer.build((None, 2, 6, 6))
        return layer.parameters["weight"]

    np.testing.assert_array_equal(weight(1), weight(1))
    np.testing.assert_array_equal(weight(1), weight(1, backend="reference"))
    np.testing.assert_array_equal(weight(1), weight(1, dtype="float64").astype(np.float32))
    assert (weight(1) != weight(2)).any()
    assert (weight(None) != weight(None)).any()


def test_a_layer_s_own_seed_comes_before_the_network_s_generator():
    own, given = Dense(3, seed=5), Dense(3)
    own.build((None, 4), np.random.default_rng(9))
    given.build((None, 4), np.random.default_rng(5))
    np.testing.assert_array_equal(own.parameters["weight"], given.parameters["weight"])
