"""Time by the device's own clock: two events on a stream, around what a call launches there.

Time between launches that the host is late with counts, as it does for whoever waits for a result.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import checked, driver


def wait() -> None:
    """Until the current device has done all it was given."""
    if not target.simulated():
        target.current_device()
        checked(*driver.cuCtxSynchronize())


def seconds(call: Callable[[], Any], stream: int = 0) -> float:
    """Seconds on the device of what a call gives to a stream; by the host's clock if simulated."""
    if target.simulated():
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    events = [checked(*driver.cuEventCreate(0)) for _ in range(2)]
    try:
        checked(*driver.cuEventRecord(events[0], stream))
        call()
        checked(*driver.cuEventRecord(events[1], stream))
        checked(*driver.cuEventSynchronize(events[1]))
        return checked(*driver.cuEventElapsedTime(*events)) / 1e3  # milliseconds
    finally:
        for event in events:
            checked(*driver.cuEventDestroy(event))


def least_seconds(call: Callable[[], Any], runs: int, stream: int = 0) -> float:
    """The least time of so many runs, after one that does not count."""
    call()
    return min(seconds(call, stream) for _ in range(runs))
