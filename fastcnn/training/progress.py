"""What `fit` shows while it runs: a bar on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from .callbacks import Callback, Logs


def shown(logs: Logs) -> str:
    """Figures in one line: ``loss: 0.1234 - accuracy: 0.9876``."""
    return " - ".join(f"{name}: {value:.4f}" for name, value in logs.items())


class ProgressLines(Callback):
    """One line per epoch on standard output."""

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        print(f"Epoch {epoch + 1}/{self.params['epochs']} - {shown(logs)}", flush=True)


class ProgressBar(Callback):
    """One bar over all batches of all epochs, with the latest figures; needs rich."""

    def on_train_begin(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._bar = Progress(
            TextColumn("Epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        epochs = self.params["epochs"]
        total = epochs * self.params["steps"]
        self._task = self._bar.add_task("fit", total=total, epoch=0, epochs=epochs, figures="")
        self._bar.start()

    def on_epoch_begin(self, epoch: int) -> None:
        self._bar.update(self._task, epoch=epoch + 1)

    def on_train_batch_end(self, batch: int, logs: Logs) -> None:
        self._bar.update(self._task, advance=1, figures=shown(logs))

    def on_epoch_end(self, epoch: int, logs: Logs) -> None:
        self._bar.update(self._task, figures=shown(logs))

    def on_train_end(self) -> None:
        self._bar.stop()


def progress_of(verbose: str | int) -> list[Callback]:
    """The callbacks that `fit`'s verbose argument stands for.

    Parameters
    ----------
    verbose : "auto", 0, 1 or 2
        0 is silent, 2 a line per epoch; "auto" and 1 a bar where standard output is a terminal
        and rich is installed, and lines elsewhere.

    Raises
    ------
    ValueError
        For anything else.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose must be 'auto', 0, 1 or 2, but got {verbose!r}")
    if verbose == 0:
        return []
    bar = verbose != 2 and sys.stdout.isatty() and find_spec("rich") is not None
    return [ProgressBar() if bar else ProgressLines()]
