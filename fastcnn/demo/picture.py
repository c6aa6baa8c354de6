"""demo.png: per network loss curves, a filter, one image's feature map, and pooling's gradient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.layers import Conv2D, MaxPool2D

if TYPE_CHECKING:
    from fastcnn.demo.runs import Comparison

Array = np.ndarray


def _block(comparison: Comparison) -> dict[str, Array]:
    """What the first convolution and the pooling behind it made of one held-out image.

    The image, the filter, the feature map that pooling saw, and the gradient of the loss that
    pooling sent back to where its maxima were. The image is the one that the network is least
    sure of: the others' gradients are next to nothing once it is trained.
    """
    network = comparison.kernels.network
    _, _, x, y = comparison.recipe.load(comparison.dtype)
    hardest = int(np.argmax(np.abs(network.predict(x)[:, 0] - y)))
    x, y = x[hardest : hardest + 1], y[hardest : hardest + 1]
    pool = next(layer for layer in network.layers if isinstance(layer, MaxPool2D))
    seen: dict[str, Array] = {"image": x[0, 0]}
    forward, backward = pool.forward, pool.backward

    def watch_forward(a: Any, training: bool = True) -> Array:
        seen["feature map"] = np.array(a[0, 0])
        return forward(a, training)

    def watch_backward(dy: Any, input_grad: bool = True) -> Array | None:
        da = backward(dy, input_grad)
        if da is not None:
            seen["gradient after pooling"] = da[0, 0]
        return da

    # Shadowing the two methods on this one object leaves the network's own code as it is.
    vars(pool).update(forward=watch_forward, backward=watch_backward)
    try:
        network.loss_and_gradients(x, y)
    finally:
        del vars(pool)["forward"], vars(pool)["backward"]
    convolution = next(layer for layer in network.layers if isinstance(layer, Conv2D))
    seen["filter"] = convolution.parameters["weight"][0, 0]
    return seen


def draw(results: list[Comparison], path: Path) -> None:
    """Write the picture; ImportError names the extra if matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "matplotlib is needed for the picture: pip install 'fastcnn[demo]'"
        ) from error
    figure = Figure(figsize=(15, 3.4 * len(results)), layout="constrained")
    rows = figure.subplots(len(results), 5, squeeze=False)
    for axes, comparison in zip(rows, results, strict=True):
        epochs = np.arange(1, len(comparison.kernels.loss) + 1)
        axes[0].plot(epochs, comparison.reference.loss, lw=5, alpha=0.35, label="NumPy reference")
        axes[0].plot(epochs, comparison.kernels.loss, lw=1.5, label="Numba kernels")
        axes[0].set(
            title=f"{comparison.name}: loss\n(largest difference {comparison.difference:.1e})",
            xlabel="epoch",
            ylabel="mean loss",
        )
        axes[0].legend()
        block = _block(comparison)
        titles = {
            "image": "held-out image that it\nis least sure of",
            "filter": "first filter, learned",
            "feature map": "its feature map",
            "gradient after pooling": "where max pooling\nsent the gradient",
        }
        for ax, (name, title) in zip(axes[1:], titles.items(), strict=True):
            # Filters and gradients have signs: zero is white, and both ends are equally far.
            signed = name in ("filter", "gradient after pooling")
            limit = float(np.abs(block[name]).max()) or 1.0
            style = {"cmap": "RdBu", "vmin": -limit, "vmax": limit} if signed else {"cmap": "gray"}
            shown = ax.imshow(block[name], **style)
            figure.colorbar(shown, ax=ax, shrink=0.7)
            ax.set(title=title, xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
