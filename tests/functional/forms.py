"""What the tests of activations, dense layers, losses and updates share.

FORMS hands the same numbers over in every memory layout; `public` and `parameters` let each file
compare its functions' signatures with the reference's.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import numpy as np

DTYPES = (np.float32, np.float64)


def _strided(a: np.ndarray) -> np.ndarray:
    return np.stack([a, np.full_like(a, np.nan)], axis=-1)[..., 0]


def _reversed(a: np.ndarray) -> np.ndarray:
    return a[::-1].copy()[::-1]


def _unaligned(a: np.ndarray) -> np.ndarray:
    memory = np.zeros(a.nbytes + 1, np.uint8)
    view = memory[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert not view.flags.aligned
    return view


def _byte_swapped(a: np.ndarray) -> np.ndarray:
    return a.astype(a.dtype.newbyteorder())


WRITABLE_FORMS = {
    "strided": _strided,
    "reversed": _reversed,
    "fortran": np.asfortranarray,
    "unaligned": _unaligned,
    "byte_swapped": _byte_swapped,
}


def read_only(a: np.ndarray) -> np.ndarray:
    """A copy that cannot be written to."""
    a = a.copy()
    a.flags.writeable = False
    return a


FORMS = WRITABLE_FORMS | {"read_only": read_only}


def public(room: str) -> list[str]:
    """Names of the functions that fastcnn/functional/{room}.py defines for others."""
    # not `import … as`: the package's attribute `dense` is the function, not the module
    module = import_module(f"fastcnn.functional.{room}")
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    assert names
    return names


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def tolerance(dtype: Any, ulps: float = 4, largest: float = 0) -> dict[str, float]:
    """For assert_allclose: a few units in the last place of the result and of `largest`."""
    info = np.finfo(dtype)
    return {
        "rtol": ulps * float(info.eps),
        "atol": ulps * max(float(info.eps) * largest, float(info.smallest_subnormal)),
    }
