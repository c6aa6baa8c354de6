"""What a recipe does to rates, labels and data; `test_recipes.py` holds what training reaches."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import networks
from fastcnn.recipes import RECIPES, digit_pair
from fastcnn.training import SGD, Adam

pytest.importorskip("sklearn")
pytest.importorskip("skimage")


def test_every_network_has_its_recipe():
    assert sorted(RECIPES) == sorted(networks.__all__)
    for name, recipe in RECIPES.items():
        assert recipe.make is getattr(networks, name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_quarter_is_held_out_and_the_same_each_time(name):
    recipe = RECIPES[name]
    first, second = recipe.load("float64"), recipe.load("float64")
    x, y, x_held_out, y_held_out = first
    assert x.dtype == x_held_out.dtype == np.float64
    share = len(y_held_out) / (len(y) + len(y_held_out))
    assert share == pytest.approx(0.25, abs=0.01)
    for once, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(once, again)


def test_each_run_has_an_optimizer_of_its_own():
    for recipe in RECIPES.values():
        optimizer = recipe.optimizer()
        assert type(optimizer) in (SGD, Adam)
        assert optimizer.learning_rate == recipe.learning_rate
        assert optimizer is not recipe.optimizer()


def test_the_rate_falls_and_labels_are_smoothed():
    recipe = digit_pair(0, 1)
    x, y, _, _ = recipe.load()
    network = recipe.network(backend="reference")
    seen = []
    step = network._step  # of which fit takes many

    def watched(x, y):
        seen.append((network.optimizer.learning_rate, set(y)))
        return step(x, y)

    network._step = watched
    recipe.train(network, x[:16], y[:16])
    assert [rate for rate, _ in seen] == pytest.approx(
        [recipe.learning_rate * (60 - epoch) / 60 for epoch in range(60)]
    )
    assert sorted(seen[0][1]) == pytest.approx([0.05, 0.95])
