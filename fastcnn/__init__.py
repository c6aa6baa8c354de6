"""fastcnn: fast and readable CNN layers for NumPy arrays.

Convolution, its two gradients, max pooling with its mask, and the layers around them, on Numba
kernels, each beside a NumPy reference. Importing this package compiles nothing; the first call of
an operation compiles its kernel, and later processes load it from Numba's cache.

    fastcnn.functional   stateless operations on kernels
    fastcnn.reference    the same functions in NumPy, formulas in view
    fastcnn.layers       Conv2D, MaxPool2D, Dense, ... with Keras's names
    fastcnn.networks     the networks of the lectures
    fastcnn.recipes      how each of them is trained on real images
    fastcnn.datasets     real images as arrays
    fastcnn.verification every kernel against the reference
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastcnn import (
        datasets,
        functional,
        layers,
        networks,
        recipes,
        reference,
        training,
        verification,
    )
    from fastcnn.functional.devices import to_device, to_host
    from fastcnn.kernels.cpu.threads import get_num_threads, set_num_threads
    from fastcnn.kernels.cuda.target import CudaUnavailable
    from fastcnn.kernels.packed import PackedWeight
    from fastcnn.kernels.precision import precision
    from fastcnn.training import Sequential
    from fastcnn.tuning import autotune

__version__ = "0.1.0"

# Public name -> module that has it. Loaded on first use, so that `import fastcnn` stays cheap.
_ATTRIBUTES = {
    "CudaUnavailable": "fastcnn.kernels.cuda.target",
    "PackedWeight": "fastcnn.kernels.packed",
    "Sequential": "fastcnn.training",
    "autotune": "fastcnn.tuning",
    "get_num_threads": "fastcnn.kernels.cpu.threads",
    "precision": "fastcnn.kernels.precision",
    "set_num_threads": "fastcnn.kernels.cpu.threads",
    "to_device": "fastcnn.functional.devices",
    "to_host": "fastcnn.functional.devices",
}
_MODULES = (
    "datasets",
    "functional",
    "layers",
    "networks",
    "recipes",
    "reference",
    "training",
    "verification",
)

__all__ = [
    "CudaUnavailable",
    "PackedWeight",
    "Sequential",
    "__version__",
    "autotune",
    "datasets",
    "functional",
    "get_num_threads",
    "layers",
    "networks",
    "precision",
    "recipes",
    "reference",
    "set_num_threads",
    "to_device",
    "to_host",
    "training",
    "verification",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"fastcnn.{name}")
    if name in _ATTRIBUTES:
        return getattr(import_module(_ATTRIBUTES[name]), name)
    raise AttributeError(f"module 'fastcnn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ATTRIBUTES, *_MODULES})
