"""Pictures for the command line; matplotlib is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_NAMES = {"": "on the images trained on", "val_": "on those held out"}


def loss_curves(file: str, title: str, history: Mapping[str, Sequence[float]]) -> None:
    """Draw loss, and accuracy if there is any, by epoch.

    Parameters
    ----------
    file : str
        A name that says the format: .png, .svg, .pdf.
    title : str
    history : mapping
        "loss", "accuracy", "val_loss", "val_accuracy": a number per epoch each.
    """
    from matplotlib.figure import Figure

    figures = [name for name in ("loss", "accuracy") if name in history]
    picture = Figure(figsize=(5 * len(figures), 3.6), layout="constrained")
    for axes, name in zip(
        picture.subplots(1, len(figures), squeeze=False)[0], figures, strict=True
    ):
        for prefix, label in _NAMES.items():
            values = history.get(prefix + name)
            if values:
                axes.plot(range(1, len(values) + 1), values, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
        axes.legend()
    picture.suptitle(title)
    picture.savefig(file, dpi=150)
