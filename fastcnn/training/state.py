"""Parameters of a network under flat names, `0.weight`, and their exchange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastcnn.functional.devices import assign, to_host
from fastcnn.layers import Layer
from fastcnn.layers.parameters import difference

Array = np.ndarray


def flat(layers: Sequence[Layer], attribute: str) -> dict[str, Array]:
    """The live arrays of every layer's `attribute` (parameters, gradients): `0.weight`, ..."""
    return {
        f"{number}.{name}": array
        for number, layer in enumerate(layers)
        for name, array in getattr(layer, attribute).items()
    }


def load(parameters: Mapping[str, Array], state: Mapping[str, Any]) -> None:
    """Copy `state` into the live arrays; all of it or, with a ValueError, nothing."""
    arrays = {name: to_host(values) for name, values in state.items()}
    problems = [f"missing {name}" for name in parameters if name not in arrays]
    problems += [f"unexpected {name}" for name in arrays if name not in parameters]
    for name in parameters:
        refusal = difference(parameters[name], arrays[name]) if name in arrays else ""
        if refusal:
            problems.append(f"{name}: {refusal}")
    if problems:
        raise ValueError(f"the state does not fit this network: {'; '.join(problems)}")
    for name, array in parameters.items():
        assign(array, arrays[name])
