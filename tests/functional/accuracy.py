"""How near the kernels of activations, dense layers, losses and updates come to the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

DTYPES = (np.float32, np.float64)


def tolerance(dtype: Any, ulps: float = 4, largest: float = 0) -> dict[str, float]:
    """For assert_allclose: a few units in the last place of the result and of `largest`."""
    info = np.finfo(dtype)
    return {
        "rtol": ulps * float(info.eps),
        "atol": ulps * max(float(info.eps) * largest, float(info.smallest_subnormal)),
    }
