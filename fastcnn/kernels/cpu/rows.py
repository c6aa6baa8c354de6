"""The highest element and the sum of a row, in loops that LLVM makes vectors of.

Written out plainly both are chains of comparisons or additions, each of which waits for the one
before: a softmax over rows of 112 spent half of its time on them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from fastcnn.kernels.cpu.jit import in_place_of, kernel
from fastcnn.kernels.cpu.transcendental import recast

_BITS: dict[Any, Any] = {types.float32: np.int32, types.float64: np.int64}


def highest(row: Any) -> Any:
    """The highest element of a row; of one that holds NaN, NaN or the highest of the others."""
    return np.max(row)


@in_place_of(highest)
def _highest(row):
    """As integers: their maximum is a vector instruction, that of floats minds NaN."""
    bits = _BITS[row.dtype]
    sign, lowest = np.iinfo(bits).bits - 1, np.iinfo(bits).min
    all_others = bits(np.iinfo(bits).max)

    def body(row):
        best = bits(lowest)
        for i in range(len(row)):
            # Among negative floats the one of the higher bits is the lower.
            pattern = recast(row[i])
            key = bits(pattern ^ bits(bits(pattern >> sign) & all_others))
            best = max(best, key)
        return recast(bits(best ^ bits(bits(best >> sign) & all_others)))

    return body


@kernel
def add_up(row):
    """The sum of a row in float64, in an order that only its length decides."""
    total = np.float64(0)
    for i in range(len(row)):
        total += row[i]
    return total


@kernel
def add_products(a, b):
    """The sum of the products a[i] b[i], which are of the arrays' type, as `add_up`."""
    total = np.float64(0)
    for i in range(len(a)):
        total += a[i] * b[i]
    return total
