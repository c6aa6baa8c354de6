"""What a training run leaves behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class History:
    """Figures per epoch, as Keras's `fit` returns them.

    Attributes
    ----------
    history : dict of str to list of float
        "loss" and "accuracy" are means over the epoch's images while it trained; "val_loss" and
        "val_accuracy" are measured after the epoch, where there is validation data. There is no
        accuracy for outputs that are not probabilities.
    epoch : list of int
        Numbers of the finished epochs, from 0.
    """

    history: dict[str, list[float]] = field(default_factory=dict)
    epoch: list[int] = field(default_factory=list)

    def append(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Add one epoch's figures."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)
