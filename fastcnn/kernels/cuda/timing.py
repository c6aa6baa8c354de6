"""Time by the device's own clock: two events on a stream, around what calls launch there.

An idle device waits for the host, whose Python then is what is timed: calls are launched back to
back, so that of each but the first only what the device itself is late with counts. Where launching
takes longer than what is launched it counts all the same, as it does for whoever calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from fastcnn.kernels.cuda import target
from fastcnn.kernels.cuda.target import checked, driver

# Calls of a run of `least_seconds`, which take most of a millisecond each.
_TOGETHER = 4


def wait() -> None:
    """Until the current device has done all it was given."""
    if not target.simulated():
        target.current_device()
        checked(*driver.cuCtxSynchronize())


def seconds(call: Callable[[int], Any], calls: int, stream: int = 0) -> float:
    """Seconds on the device of what calls, back to back, give to a stream, all of them together.

    By the host's clock if simulated. `call` gets 0, 1, ...; the last result is let go when the time
    has been taken.
    """
    result: Any = None
    if target.simulated():
        start = time.perf_counter()
        for number in range(calls):
            result = call(number)
        return time.perf_counter() - start
    events = [checked(*driver.cuEventCreate(0)) for _ in range(2)]
    try:
        checked(*driver.cuEventRecord(events[0], stream))
        for number in range(calls):
            result = call(number)
        checked(*driver.cuEventRecord(events[1], stream))
        checked(*driver.cuEventSynchronize(events[1]))
        del result
        return checked(*driver.cuEventElapsedTime(*events)) / 1e3  # milliseconds
    finally:
        for event in events:
            checked(*driver.cuEventDestroy(event))


def least_seconds(call: Callable[[], Any], runs: int, stream: int = 0) -> float:
    """The least time of a call in so many runs of several, after one that does not count."""
    call()
    return min(seconds(lambda _: call(), _TOGETHER, stream) for _ in range(runs)) / _TOGETHER
