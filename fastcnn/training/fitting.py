"""The training loop, and the loop over batches that evaluation shares with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import whole
from fastcnn.layers.dtypes import expect_dtype

from .callbacks import Callback
from .history import History
from .progress import progress_of

if TYPE_CHECKING:
    from .sequential import Sequential

Array = np.ndarray


class RunningMeans:
    """Means of figures over the images seen so far, in float64."""

    def __init__(self) -> None:
        self._images = 0
        self._sums: dict[str, float] = {}

    def add(self, images: int, figures: Mapping[str, float]) -> None:
        """Add the means over a batch of so many images."""
        self._images += images
        for name, mean in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + images * mean

    def logs(self) -> dict[str, float]:
        """The means by name."""
        return {name: total / self._images for name, total in self._sums.items()}


def check_data(network: Sequential, x: Any, y: Any) -> tuple[Array, Array]:
    """Images and labels as arrays, equally many and at least one; TypeError, ValueError else."""
    x = np.asarray(expect_dtype(x, "x", network.dtype, type(network).__name__))
    y = np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x and y must be equally long, but got shapes {x.shape} and {y.shape}")
    if len(x) == 0:
        raise ValueError(f"x holds no images: shape {x.shape}")
    return x, y


def batches(images: int, batch_size: int | None) -> Iterator[slice]:
    """Consecutive slices of at most `batch_size` images; all at once for None.

    Raises
    ------
    ValueError, TypeError
        Unless batch_size is None or a positive int.
    """
    size = max(images, 1) if batch_size is None else batch_size
    if isinstance(size, bool) or not isinstance(size, int | np.integer):
        raise TypeError(f"batch_size must be an int or None, but got {batch_size!r}")
    if size < 1:
        raise ValueError(f"batch_size must be at least 1, but got {batch_size}")
    return (slice(start, start + size) for start in range(0, images, size))


def fit(
    network: Sequential,
    x: Any,
    y: Any,
    epochs: int,
    batch_size: int | None,
    validation_data: tuple[Any, Any] | None,
    shuffle: bool,
    seed: int | np.random.Generator | None,
    callbacks: Sequence[Callback] | None,
    verbose: str | int,
) -> History:
    """Train `network`; see `Sequential.fit`."""
    x, y = check_data(network, x, y)
    network.bound_loss()
    epochs = whole(epochs, "epochs", 0)
    if validation_data is not None:
        try:
            x_val, y_val = validation_data
        except (TypeError, ValueError):
            raise TypeError(
                f"validation_data must be a pair (x, y), but got {type(validation_data).__name__}"
            ) from None
        x_val, y_val = check_data(network, x_val, y_val)
    steps = len(list(batches(len(x), batch_size)))
    watchers = [*(callbacks or []), *progress_of(verbose)]
    for watcher in watchers:
        watcher.model = network
        watcher.params = {"epochs": epochs, "steps": steps, "verbose": verbose}
    rng = np.random.default_rng(seed)
    history = network.history = History()
    network.stop_training = False
    # Parameters change in place and one by one: whatever interrupts, they are those of the last
    # step, or of a step begun, and the network is usable.
    with ExitStack() as at_the_end:
        at_the_end.callback(network.forget)
        for watcher in watchers:
            watcher.on_train_begin()
            at_the_end.callback(watcher.on_train_end)
        for epoch in range(epochs):
            for watcher in watchers:
                watcher.on_epoch_begin(epoch)
            order = rng.permutation(len(x)) if shuffle else np.arange(len(x))
            means = RunningMeans()
            for number, part in enumerate(batches(len(x), batch_size)):
                chosen = order[part]
                means.add(len(chosen), network.train_on_batch(x[chosen], y[chosen]))
                for watcher in watchers:
                    watcher.on_train_batch_end(number, means.logs())
            logs = means.logs()
            if validation_data is not None:
                measured = network.evaluate(x_val, y_val, batch_size)
                logs |= {f"val_{name}": value for name, value in measured.items()}
            history.append(epoch, logs)
            for watcher in watchers:
                watcher.on_epoch_end(epoch, logs)
            if network.stop_training:
                break
    return history
