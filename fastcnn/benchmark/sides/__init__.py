"""The sides of a comparison: fastcnn, the NumPy reference, and other libraries.

Each library is a module here with `variants(case)`, the names of its sides, and
`prepare(variant, case, sets, threads)`, which gives a `Prepared` or raises `Unsupported`. Each runs
in a process of its own (worker.py), which imports this module and then only its own library.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

# Library -> (its module here, the packages it needs, the names of its sides). fastcnn's sides are
# "auto" and the names in the selection lists.
LIBRARIES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "fastcnn": ("fast", (), ("auto",)),
    "numpy": ("plain", (), ("numpy", "loops")),
    "torch": ("pytorch", ("torch",), ("torch", "torch_cl")),
    "ort": ("onnx_runtime", ("onnxruntime", "onnx"), ("ort",)),
    "jax": ("xla", ("jax",), ("jax",)),
    "scipy": ("scientific", ("scipy",), ("scipy",)),
}
# The same for arrays on a GPU, whose modules also take the precision:
# `variants(case, precision)`, `prepare(variant, case, sets, threads, precision)`.
ON_CUDA = {"fastcnn": "on_cuda", "torch": "pytorch_cuda"}
PEERS = tuple(name for name in LIBRARIES if name != "fastcnn")

# What the sides are, for reports.
DESCRIPTIONS = {
    "numpy": "the NumPy reference in the input's type: im2col and BLAS",
    "loops": "the lectures' loops, on tiny problems",
    "torch": "PyTorch eager, NCHW",
    "torch_cl": "PyTorch eager, channels_last (NHWC)",
    "ort": "ONNX Runtime, which has no gradients",
    "jax": "JAX, compiled by XLA; its pooling has no mask",
    "scipy": "SciPy, single images",
}


def missing(library: str) -> list[str]:
    """Packages that a library needs and that are not installed."""
    return [package for package in LIBRARIES[library][1] if find_spec(package) is None]


def installed(device: str = "cpu") -> list[str]:
    """Peers that can run here."""
    able = PEERS if device == "cpu" else tuple(name for name in PEERS if name in ON_CUDA)
    return [name for name in able if not missing(name)]


def module(library: str, device: str = "cpu") -> ModuleType:
    """A library's module; imports the library itself."""
    name = ON_CUDA[library] if device == "cuda" else LIBRARIES[library][0]
    return import_module(f"fastcnn.benchmark.sides.{name}")
