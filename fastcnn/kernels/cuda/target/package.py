"""What is installed here, and the CUDA package itself, imported when it is first needed."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

INSTALL = "pip install 'fastcnn[cuda]'"
Arch = tuple[int, int] | tuple[int, int, str]  # (9, 0), or (9, 0, "a") for all of an H100
# The oldest driver that takes the machine code of the toolkit that the extra installs, CUDA 13.
LEAST_DRIVER = 13000


class CudaUnavailable(RuntimeError):
    """There is no CUDA package, or no driver or device; says which and what to do."""


def missing_package() -> str | None:
    """Why nothing can be compiled here; None if everything needed is installed."""
    if find_spec("numba_cuda") is None:
        return f"arrays on a GPU need the CUDA extra, which is not installed: {INSTALL}"
    return None


def simulated() -> bool:
    """Whether Numba's simulator stands in for the device."""
    return os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")


@cache
def missing_device() -> str | None:
    """Why nothing can be run here; None if there is a device, or the simulator."""
    reason = missing_package()
    if reason is not None or simulated():
        return reason
    try:
        count = len(cuda.gpus)
    except cuda.cudadrv.error.CudaSupportError as error:
        return (
            "the CUDA package is installed, but there is no usable NVIDIA driver "
            f"({' '.join(str(error).split())}): install the driver, or use NumPy arrays"
        )
    if not count:
        return "the CUDA driver finds no GPU: use NumPy arrays"
    status, version = driver.cuDriverGetVersion()
    if not int(status) and version < LEAST_DRIVER:
        had, least = (f"{v // 1000}.{v % 1000 // 10}" for v in (version, LEAST_DRIVER))
        return (
            f"the NVIDIA driver is of CUDA {had}, and kernels are compiled for CUDA {least}: "
            "install a driver of 580 or later, or use NumPy arrays"
        )
    return None


def require_package() -> None:
    """CudaUnavailable unless kernels can be compiled here."""
    reason = missing_package()
    if reason is not None:
        raise CudaUnavailable(reason)


def require_device() -> None:
    """CudaUnavailable unless kernels can be run here."""
    reason = missing_device()
    if reason is not None:
        raise CudaUnavailable(reason)


@cache
def load_cuda() -> Any:
    """`numba.cuda`, imported."""
    require_package()
    with warnings.catch_warnings():
        # numba-cuda warns of a GPU or driver that it finds wanting; `missing_device` says it.
        warnings.simplefilter("ignore")
        from numba import cuda
    if simulated():
        from fastcnn.kernels.cuda.target.simulator import share_once

        share_once()
    return cuda


class _Later:
    """A module of the package, imported when something of it is first asked for."""

    def __init__(self, find: Callable[[], Any]) -> None:
        self._find = find

    def __getattr__(self, name: str) -> Any:
        return getattr(self._find(), name)


def load_types() -> Any:
    """`numba.cuda.types`, imported."""
    load_cuda()
    from numba.cuda import types

    return types


@cache
def _driver() -> Any:
    require_package()
    from cuda.bindings import driver as functions

    return functions


# What kernel files import in place of the package, which is then imported with the first kernel
# that is compiled, and not with the file.
cuda: Any = _Later(load_cuda)
types: Any = _Later(load_types)
driver: Any = _Later(_driver)
