"""The portable kernels: they serve everything, at the estimated cost that stands here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from math import prod

from fastcnn.geometry import Conv2dGeometry, DenseGeometry, Pool2dGeometry
from fastcnn.kernels.implementation import Implementation, Problem

# Measured on one core of a Zen 5 machine, convolutions' but for FLOP/s on one of Zen 4
# (docs/performance.md); only their ratios matter.
_FLOPS = 20e9
_COPY_BYTES = 8e9
_POOL_STEP = 2e-9
# Convolutions in float32, by least squares over all layers of the suites: FLOP/s, and elements of
# columns per second. Over random small geometries: seconds of the smallest calls; of a row of
# columns, however short, and of a row of the result (which decide where rows are of few pixels); of
# an image's group (for dX, of each residue modulo the stride).
_CONV_FLOPS = 75e9
_COLUMNS, _CONV_BYTES = 3.6e9, 20e9
_CALL = {"conv2d": 3e-6, "conv2d_input_grad": 2.9e-6, "conv2d_weight_grad": 3.2e-6}
_COLUMN_ROW = {"conv2d": 1.7e-8, "conv2d_input_grad": 1.7e-8, "conv2d_weight_grad": 1.9e-8}
_RESULT_ROW = {"conv2d": 1.5e-8, "conv2d_input_grad": 1.7e-8, "conv2d_weight_grad": 2.6e-9}
_IMAGE_GROUP = {"conv2d": 2.8e-7, "conv2d_input_grad": 3.2e-7, "conv2d_weight_grad": 0.0}
# Weights per second that are put in order before, or added up one by one.
_WEIGHTS = {"conv2d": 8e8, "conv2d_input_grad": 1.1e9, "conv2d_weight_grad": 3.2e8}

# Dense layers: FLOP/s by operation, bytes per second, seconds of the smallest call.
_DENSE_FLOPS = {
    "dense": 90e9, "dense_input_grad": 65e9, "dense_weight_grad": 65e9,
}  # fmt: skip
_DENSE_BYTES = 30e9
_DENSE_CALL = 3.2e-6


def _cost(problem: Problem) -> float:
    g = problem.geometry
    flops = 0 if isinstance(g, Pool2dGeometry) else g.flops
    return g.bytes(problem.itemsize) / _COPY_BYTES + flops / _FLOPS


def pool_cost(problem: Problem) -> float:
    """Memory, and what is done one by one: forward a window's cells, backward its entry."""
    g = problem.geometry
    assert isinstance(g, Pool2dGeometry)
    steps = g.N * g.C * g.P * g.Q * (1 if problem.operation.endswith("_grad") else g.R * g.S)
    return g.bytes(problem.itemsize) / _COPY_BYTES + steps * _POOL_STEP


def conv_cost(problem: Problem) -> float:
    """The products, the columns that they are taken from, the weights, and rows by their number."""
    g, operation = problem.geometry, problem.operation
    assert isinstance(g, Conv2dGeometry)
    backward = operation == "conv2d_input_grad"
    rows = (g.C if backward else g.K) // g.groups
    seconds = g.flops / _CONV_FLOPS + g.flops / (2 * rows) / _COLUMNS
    seconds += prod(g.weight_shape) / _WEIGHTS[operation]
    (sh, sw), images = g.stride, g.N * g.groups
    if backward:
        column_rows, result_rows = g.N * g.K * g.R * g.S * -(-g.H // sh), g.N * g.C * g.H * sw
        images *= sh * sw
    else:
        column_rows, result_rows = g.N * g.C * g.R * g.S * g.P, g.N * g.K * g.P
    short = column_rows * _COLUMN_ROW[operation] + result_rows * _RESULT_ROW[operation]
    short += _CALL[operation] + images * _IMAGE_GROUP[operation]
    return short + problem.itemsize / 4 * seconds + g.bytes(problem.itemsize) / _CONV_BYTES


def dense_cost(problem: Problem) -> float:
    """The products, and every matrix once."""
    g = problem.geometry
    assert isinstance(g, DenseGeometry)
    seconds = problem.itemsize / 4 * g.flops / _DENSE_FLOPS[problem.operation]
    return _DENSE_CALL + seconds + g.bytes(problem.itemsize) / _DENSE_BYTES


def _anything(problem: Problem) -> None:
    return None


def _no_workspace(problem: Problem) -> int:
    return 0


def portable(
    module: str, scratch: bool = False, cost: Callable[[Problem], float] = _cost
) -> Implementation:
    """The portable kernel of a file, which states its own workspace if it takes scratch memory."""

    def workspace(problem: Problem) -> int:
        kernel_file = import_module(f"fastcnn.kernels.{module}")
        return kernel_file.workspace(problem.operation, problem.geometry, problem.itemsize)

    return Implementation(
        "portable", module, _anything, cost, workspace if scratch else _no_workspace
    )
