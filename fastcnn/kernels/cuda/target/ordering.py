"""The order of streams: one after the other, by events."""

from __future__ import annotations

from fastcnn.kernels.cuda.target.devices import checked
from fastcnn.kernels.cuda.target.package import driver, simulated


def follow(stream: int, other: int) -> None:
    """Let what is launched on `stream` from now on come after what `other` has been given."""
    if stream == other or simulated():
        return
    untimed = driver.CUevent_flags.CU_EVENT_DISABLE_TIMING
    event = checked(*driver.cuEventCreate(untimed))
    try:
        checked(*driver.cuEventRecord(event, other))
        checked(*driver.cuStreamWaitEvent(stream, event, 0))
    finally:
        checked(*driver.cuEventDestroy(event))  # once it has happened
