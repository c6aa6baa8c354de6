"""The table that `Sequential.summary` prints, with Keras's headings."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from fastcnn.layers import Layer

from .shapes import walk

HEADINGS = ("Layer (type)", "Output Shape", "Param #")


def layer_names(layers: Sequence[Layer]) -> list[str]:
    """A name for each layer: its own, or Keras's way of numbering: conv2d, conv2d_1, ..."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(layer).__name__).lower()
        number = seen[kind]
        if layer.name is None:
            seen[kind] += 1
        names.append(layer.name or (f"{kind}_{number}" if number else kind))
    return names


def table(name: str, layers: Sequence[Layer], input_shape: tuple[Any, ...]) -> list[str]:
    """The summary of a built network, line by line."""
    rows = [HEADINGS]
    outputs = walk(layers, input_shape)[1:]
    for layer, layer_name, shape in zip(layers, layer_names(layers), outputs, strict=True):
        title = f"{layer_name} ({type(layer).__name__})"
        rows.append((title, str(shape), f"{layer.count_params():,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{row[0]:<{widths[0]}} | {row[1]:<{widths[1]}} | {row[2]:>{widths[2]}}" for row in rows
    ]
    rule = "-+-".join("-" * width for width in widths)
    total = sum(layer.count_params() for layer in layers)
    return [
        f"Model: {name!r}",
        lines[0],
        rule,
        *lines[1:],
        rule,
        f"Total params: {total:,}",
        f"Trainable params: {total:,}",
        "Non-trainable params: 0",
    ]
