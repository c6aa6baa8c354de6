"""Numbers that Winograd's and Fourier's algorithms take: finite ones below 1e30.

A transform spreads the rounding error of one huge number over its tile, as it does one NaN or
infinity: results beside it that do not depend on it would drown. The transforms find the largest
number in their own pass, lane by lane, and a call that meets a larger one is left to an algorithm
that multiplies the numbers themselves.
"""

import numpy as np

from fastcnn.kernels.cpu.jit import exact
from fastcnn.kernels.cpu.threads import launch

# Numbers of this size and above are left to the direct algorithms.
LARGEST = 1e30


@exact
def _results_chunk(task, peaks, sums, count):
    """count[0] = how many peaks are too large or NaN, and how many sums are not finite."""
    count[0] = 0
    for i in range(len(peaks)):
        count[0] += not peaks[i] < LARGEST
    for i in range(len(sums)):
        count[0] += not np.isfinite(sums[i])


def results_stand(peaks: np.ndarray, sums: np.ndarray) -> bool:
    """Whether no input was too large, and every sum that results went into is finite.

    Judged by a launch, so that whoever repeats a call's launches repeats this.
    """
    count = np.empty(1, np.int64)
    launch(_results_chunk, 1, 0, peaks, sums, count, tells=True)
    return not count[0]


@exact
def _products_chunk(task, peaks, of_first, factor, limit, count):
    """count[0] = how many peaks are too large or NaN; 1 more if products could reach `limit`."""
    count[0] = 0
    most = np.zeros(2)
    for i in range(len(peaks)):
        count[0] += not peaks[i] < LARGEST
        of = 0 if i < of_first else 1
        most[of] = max(most[of], peaks[i])
    count[0] += not factor * most[0] * most[1] < limit


def products_stand(peaks: np.ndarray, of_first: int, factor: float) -> bool:
    """Whether no input was too large, and `factor` times a product of two of them cannot overflow.

    The first `of_first` peaks are of one array, the others of the other. Judged by a launch.
    """
    count, limit = np.empty(1, np.int64), float(np.finfo(peaks.dtype).max)
    launch(_products_chunk, 1, 0, peaks, of_first, float(factor), limit, count, tells=True)
    return not count[0]
