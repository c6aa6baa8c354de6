"""Central finite differences in float64, the judge of every gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# The error of a central difference is about h^2 |f'''| / 6 + 1e-16 |f| / h: near its least at
# h = 1e-5, with some 1e-10 left for functions and arguments near 1.
STEP = 1e-5


def numeric_gradient(
    function: Callable[[np.ndarray], float], x: np.ndarray, step: float = STEP
) -> np.ndarray:
    """The gradient of a scalar function at x, one element at a time.

    A linear function has no truncation error: give it step=1 and the rounding all but goes too.
    """
    gradient = np.empty(x.shape)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (function(above) - function(below)) / (2 * step)
    return gradient
