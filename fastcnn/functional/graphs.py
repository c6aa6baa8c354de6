"""Work on a GPU that is repeated as a whole, by one call of the driver: see kernels/cuda/graphs.py.

What is repeated are operations of this package on arrays that stay where they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from fastcnn.kernels import plans


class Repeated:
    """Operations that are done once as they are, and then again as a CUDA graph.

    Parameters
    ----------
    arrays : iterable of arrays
        What others, too, work on, on streams of their own: they take turns.
    most : int
        Bytes that are kept for the next time, at the most.

    Attributes
    ----------
    reason : str
        Why the operations cannot be repeated; empty if they can.
    """

    def __init__(self, arrays: Iterable[Any], most: int) -> None:
        from fastcnn.kernels.cuda import graphs

        self._work = graphs.Repeated(most)
        self._streams = set(map(_stream, arrays))
        self.reason = ""

    @property
    def launches(self) -> int:
        """How many kernels one call of `again` runs."""
        return 0 if self._work.graph is None else len(self._work.graph.launches)

    def room(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array for operations to start from, to be filled before each of their runs."""
        from fastcnn.kernels.cuda import graphs, memory

        with graphs.turn():
            return memory.allocate(shape, np.dtype(dtype), self._work.stream)

    def after(self, *arrays: Any) -> AbstractContextManager[None]:
        """A `with` block for `first`, `again` and copies from these arrays, in turn with others."""
        return self._work.after({*self._streams, *map(_stream, arrays)})

    def first(self, work: Callable[[], Any]) -> Any:
        """Do the operations; returns what they return. Sets `reason` if they take too much."""
        found = self._work.first(work)
        self.reason = self._work.reason
        return found

    def record(self, work: Callable[[], Any]) -> None:
        """Write down, without running them, the operations of `first`; sets `reason`."""
        from fastcnn.kernels.cuda.target import CudaError, NotRecordable

        try:
            self._work.record(work)
        except (CudaError, NotRecordable) as error:
            self.reason = str(error)

    @property
    def moved(self) -> list[Any]:
        """Where numbers are that the operations took from the host, such as rates."""
        return self._work.moved

    def again(self) -> None:
        """Run what was written down."""
        assert self._work.graph is not None
        self._work.graph.launch()


def _stream(array: Any) -> int:
    from fastcnn.kernels.cuda.arrays import device_array

    return device_array(array, "array").stream


def say(text: str) -> None:
    """Print a line if FASTCNN_VERBOSE=1."""
    plans.trace(text)
