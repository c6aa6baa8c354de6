"""The training loop, and the loop over batches that evaluation shares with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.arguments import whole
from fastcnn.functional.devices import is_on_device, taken, to_device
from fastcnn.layers.dtypes import expect_dtype

from .callbacks import Callback
from .history import History
from .losses import Figure
from .progress import progress_of

if TYPE_CHECKING:
    from .sequential import Sequential

Array = np.ndarray


class RunningMeans:
    """Means of figures over the images seen so far, in float64."""

    def __init__(self) -> None:
        self._images = 0
        self._sums: dict[str, float] = {}
        # Figures on a GPU: reading one means waiting for it.
        self._unread: list[tuple[int, Mapping[str, Figure]]] = []

    def add(self, images: int, figures: Mapping[str, Figure]) -> None:
        """Add the means over a batch of so many images."""
        self._images += images
        self._unread.append((images, figures))

    def logs(self) -> dict[str, float]:
        """The means by name."""
        for images, figures in self._unread:
            for name, mean in figures.items():
                self._sums[name] = self._sums.get(name, 0.0) + images * float(mean)
        self._unread.clear()
        return {name: total / self._images for name, total in self._sums.items()}


def check_data(network: Sequential, x: Any, y: Any) -> tuple[Array, Array]:
    """Images and labels as arrays, equally many and at least one; TypeError, ValueError else."""
    x = expect_dtype(x, "x", network.dtype, type(network).__name__)
    x = to_device(x) if network.backend == "cuda" else x if is_on_device(x) else np.asarray(x)
    y = y if is_on_device(y) else np.asarray(y)
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(f"x and y must be equally long, but got shapes {x.shape} and {y.shape}")
    if len(x) == 0:
        raise ValueError(f"x holds no images: shape {x.shape}")
    return x, y


def rows_of(array: Any, numbers: Array) -> Any:
    """The rows of these numbers, gathered where the array is."""
    return taken(array, numbers)


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
                means.add(len(chosen), network._step(rows_of(x, chosen), rows_of(y, chosen)))
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
