"""Callbacks: your own code at fixed points of `Sequential.fit`, under Keras's names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .sequential import Sequential

Logs = Mapping[str, float]


class Callback:
    """Does nothing; override what you need.

    Attributes
    ----------
    model : Sequential
        The network in training. ``self.model.stop_training = True`` ends it after the epoch.
    params : dict
        "epochs", "steps" (batches per epoch) and "verbose".
    """

    model: Sequential
    params: dict[str, Any]

    def on_train_begin(self) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Before the epoch of this number, from 0."""

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        """After a step; logs has the means of the epoch so far."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        """After an epoch; logs has what `History` gets."""

    def on_train_end(self) -> None:
        """At the end, also when training was interrupted."""


class LearningRateScheduler(Callback):
    """Sets the optimizer's learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        (epoch from 0, current rate) -> rate.
    """

    def __init__(self, schedule: Callable[[int, float], float]) -> None:
        self.schedule = schedule

    def on_epoch_begin(self, epoch: int) -> None:
        optimizer = self.model.optimizer
        if optimizer is not None:
            optimizer.learning_rate = self.schedule(epoch, optimizer.learning_rate)
