"""Numbers that Winograd's algorithms take: finite ones below 1e30.

A transform spreads the rounding error of one huge number over its tile, as it does one NaN or
infinity: results beside it that do not depend on it would drown. The transforms find the largest
number in their own pass, lane by lane, and a call that meets a larger one is left to implicit GEMM.
"""

import numpy as np

# Numbers of this size and above are left to the direct algorithms.
LARGEST = 1e30


def largest(peaks: np.ndarray) -> float:
    """The largest of numbers whose bits were compared: infinity or NaN if there is one."""
    bits = np.int32 if peaks.itemsize == 4 else np.int64
    return float(peaks.view(bits).max().view(peaks.dtype))
