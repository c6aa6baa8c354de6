"""What a bug report needs to know: versions, processor, threads, cache, kernels, CUDA."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys
import warnings
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.registry import cpu_target

import fastcnn
from fastcnn import functional
from fastcnn.benchmark import machine
from fastcnn.kernels.cpu import threads
from fastcnn.kernels.cpu.jit import config
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.selection import IMPLEMENTATIONS

_PACKAGES = (
    *("numpy", "numba", "llvmlite", "scipy", "scikit-learn", "scikit-image", "matplotlib", "rich"),
    *("pytest", "hypothesis", "torch", "onnx", "onnxruntime", "jax", "safetensors", "tbb"),
    *("numba-cuda", "cupy", "nvidia-cuda-runtime-cu12", "nvidia-cuda-nvcc-cu12"),
)
# Variables that change what is computed, where, or how fast.
_VARIABLES = (
    *("FASTCNN_", "NUMBA_", "OMP_", "GOMP_", "KMP_", "TBB_", "MKL_", "OPENBLAS_", "BLIS_"),
    *("CUDA_", "LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONMALLOC"),
)


def _versions() -> dict[str, str]:
    found = {"fastcnn": fastcnn.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _processor() -> dict[str, Any]:
    hardware = machine.facts()
    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    unit = vector_unit()
    return {
        "name": hardware["cpu"],
        "family": hardware["family"],
        "cores for this process": hardware["cores"],
        "cores of the machine": os.cpu_count(),
        "caches (bytes)": hardware["caches"],
        "memory (bytes)": hardware["memory_bytes"],
        "virtual": hardware["virtual"],
        "compiled for": name,
        "vector unit": None if unit is None else f"{unit.name}, {unit.rows} x {unit.vectors} tiles",
        "features": [f[1:] for f in features.split(",") if f.startswith("+")],
    }


def _layer() -> str:
    """Numba's threading layer, which is settled by the first launch that is worth sharing."""
    if config.DISABLE_JIT:
        return "none: NUMBA_DISABLE_JIT is set"
    elements = threads.WORTH_SHARING
    try:
        functional.relu(np.zeros(elements, np.float32))
        return numba.threading_layer()
    except ValueError as error:  # a layer asked for by name that is not there
        return f"none: {error}"


def cache_folder() -> str | None:
    """Where compiled kernels are kept; None if nowhere."""
    # Any kernel will do: all lie in one folder.
    return getattr(getattr(threads._run, "_cache", None), "cache_path", None)


def _cache() -> dict[str, Any]:
    folder = cache_folder()
    return {
        "folder": folder,
        "writable": folder is not None and os.access(folder, os.W_OK),
        "entries": len(list(Path(folder).glob("*.nbc"))) if folder else 0,
    }


def _blocks() -> dict[str, int]:
    """The sizes that kernels are cut up by: constants in their files, read from the source."""
    found = {}
    for path in sorted(Path(threads.__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.Assign):
                for name, value in _constants(node):
                    # a leading underscore is an inner matter; below 4 are codes, not sizes
                    if name.isupper() and name[0] != "_" and type(value) is int and value >= 4:
                        found[f"{path.stem}.{name}"] = value
    return found


def _constants(node: ast.Assign) -> list[tuple[str, Any]]:
    """Names and values of NAME = 1, or of A, B = 1, 2; nothing for what is computed."""
    try:
        value = ast.literal_eval(node.value)
    except ValueError:
        return []
    target = node.targets[0]
    if isinstance(target, ast.Tuple):
        return [(ast.unparse(t), v) for t, v in zip(target.elts, value, strict=True)]
    return [(ast.unparse(target), value)]


def _cuda() -> dict[str, Any]:
    """What nvidia-smi says; no CUDA package is imported."""
    query = "--query-gpu=name,driver_version,memory.total"
    command = ["nvidia-smi", query, "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
        devices: Any = done.stdout.strip().splitlines()
    except FileNotFoundError:
        devices = "none: there is no nvidia-smi"
    except (OSError, subprocess.SubprocessError) as error:
        devices = f"none: nvidia-smi failed ({error})"
    return {"devices": devices, "numba-cuda found": find_spec("numba_cuda") is not None}


def facts() -> dict[str, Any]:
    """All of it, by section, for JSON."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layer = _layer()
    return {
        "versions": _versions(),
        "python": {
            "executable": sys.executable,
            "implementation": platform.python_implementation(),
            "global lock": getattr(sys, "_is_gil_enabled", lambda: True)(),
        },
        "fastcnn": {"folder": str(Path(fastcnn.__file__).parent), "commit": machine.commit()},
        "system": {"platform": platform.platform(), "libc": " ".join(platform.libc_ver())},
        "processor": _processor(),
        "threads": {
            "fastcnn uses": fastcnn.get_num_threads(),
            "numba's pool": config.NUMBA_NUM_THREADS,
            "threading layer": layer,
        },
        "cache of kernels": _cache(),
        "warnings": [str(warning.message) for warning in caught],
        "environment": {
            name: value for name, value in sorted(os.environ.items()) if name.startswith(_VARIABLES)
        },
        "cuda": _cuda(),
        "blocks": _blocks(),
        "implementations": {
            operation: [i.name for i in listed] for operation, listed in IMPLEMENTATIONS.items()
        },
    }
