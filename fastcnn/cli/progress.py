"""Live progress on standard error: a bar if a person looks on and rich is installed, else lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any


class Progress:
    """A context manager whose `update` is called as often as there is news.

    Parameters
    ----------
    title : str
        What is going on, before the bar.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._text = ""
        self._bar: Any = None
        self._task: Any = None
        if sys.stderr.isatty():
            self._bar = _rich_bar()

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, text: str) -> None:
        """`done` of `total` are done, `text` is being worked on. Lines appear when text changes."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif text and text != self._text:
            percent = 100 * done // max(1, total)
            print(f"{self._title}: {percent:3d} %  {text}", file=sys.stderr, flush=True)
        self._text = text


def _rich_bar() -> Any:
    """rich's progress bar with an estimate of what is left, or None without rich."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar
    except ImportError:
        return None
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn()
    rest = TimeRemainingColumn(), TextColumn("{task.fields[text]}")
    return Bar(*columns, *rest, console=Console(stderr=True), transient=True)
