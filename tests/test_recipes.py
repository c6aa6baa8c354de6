"""Each lecture's network reaches, from its seed and on its real images, what README says."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from fastcnn import datasets
from fastcnn.recipes import RECIPES, digit_pair

README = Path(__file__).parent.parent / "README.md"


def stated():
    """README's table: network -> (parameters, final loss, decimals given, held-out accuracy)."""
    rows = {}
    for line in README.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = cells[0].strip("`")
        if line.startswith("| `") and name in RECIPES:
            _, parameters, _, loss, accuracy = cells
            rows[name] = (
                int(parameters.replace(",", "")),
                float(loss),
                len(loss.split(".")[1]),
                float(accuracy.removesuffix(" %")) / 100,
            )
    return rows


def test_readme_states_every_network():
    assert list(stated()) == list(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_training_reaches_the_stated_loss(name):
    parameters, loss, decimals, accuracy = stated()[name]
    recipe = RECIPES[name]
    x, y, x_held_out, y_held_out = recipe.load()
    network = recipe.network()
    history = recipe.train(network, x, y).history
    assert network.count_params() == parameters
    # The last digit given, and what another processor's order of sums makes of a whole training.
    assert history["loss"][-1] == pytest.approx(loss, rel=0.02, abs=0.6 * 10.0**-decimals)
    held_out = network.evaluate(x_held_out, y_held_out)["accuracy"]
    assert held_out == pytest.approx(accuracy, abs=1.5 / len(x_held_out))


def test_multichannel_tells_ten_digits_apart():
    assert stated()["multichannel"][3] >= 0.97  # which the test above holds to the training


def test_two_block_tells_every_pair_of_digits_apart():
    """A quarter held out, at most 60 epochs: 98 % on the mean pair, 93 % on the worst."""
    accuracies = {}
    for pair in combinations(range(10), 2):
        recipe = digit_pair(*pair)
        assert recipe.epochs <= 60
        x, y, x_held_out, y_held_out = recipe.load()
        assert len(x_held_out) == pytest.approx((len(x) + len(x_held_out)) / 4, abs=1)
        network = recipe.network()
        assert network.layers[0].filters == network.layers[2].filters == 1  # as the lecture draws
        recipe.train(network, x, y)
        accuracies[pair] = network.evaluate(x_held_out, y_held_out)["accuracy"]
    assert len(accuracies) == 45
    worst = min(accuracies, key=accuracies.__getitem__)
    assert accuracies[worst] >= 0.93, f"{worst}: {accuracies[worst]:.1%}"
    assert np.mean(list(accuracies.values())) >= 0.98


def test_held_out_images_are_not_trained_on():
    for recipe in RECIPES.values():
        x, y, x_held_out, y_held_out = recipe.load()
        everything, labels = recipe.images("float32")
        assert len(x) + len(x_held_out) == len(everything)
        assert len(y) + len(y_held_out) == len(labels)


def test_faces_are_the_real_ones():
    x, y, *_ = RECIPES["fifteen_parameter"].load()
    everything, labels = datasets.faces(size=6)
    assert x.shape[1:] == everything.shape[1:] == (1, 6, 6)
    assert labels.sum() == 100
    assert y.sum() == 75
