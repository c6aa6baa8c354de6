"""The driver: what its calls say, contexts and devices."""

from __future__ import annotations

from functools import cache
from threading import local
from typing import Any

from fastcnn.kernels.cuda.target.package import Arch, driver, load_cuda, require_device, simulated


class CudaError(RuntimeError):
    """A call of the CUDA driver failed; says why in its words."""


def checked(status: Any, *results: Any) -> Any:
    """The results of a driver call; CudaError unless it succeeded."""
    if int(status):
        _, name = driver.cuGetErrorName(status)
        _, text = driver.cuGetErrorString(status)
        raise CudaError(f"{name.decode()}: {text.decode()}")
    return results[0] if len(results) == 1 else results


_thread = local()


def current_device() -> Any:
    """The device whose context is current in this thread, which is made so where none is."""
    if not getattr(_thread, "ready", False):
        require_device()
        if not int(checked(*driver.cuCtxGetCurrent())):
            load_cuda().current_context()  # makes the device's primary context current
        _thread.ready = True
    return checked(*driver.cuCtxGetDevice())


@cache
def _attribute(device: int, name: str) -> int:
    attribute = getattr(driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
    return checked(*driver.cuDeviceGetAttribute(attribute, device))


def architecture(device: Any) -> Arch:
    """(9, 0) for an H100."""
    number = int(device)
    return (
        _attribute(number, "COMPUTE_CAPABILITY_MAJOR"),
        _attribute(number, "COMPUTE_CAPABILITY_MINOR"),
    )


def multiprocessors() -> int:
    """How many the current device has; 1 in the simulator."""
    return 1 if simulated() else _attribute(int(current_device()), "MULTIPROCESSOR_COUNT")
