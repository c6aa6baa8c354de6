"""Which implementation serves a problem: a list per operation, of which the cheapest able wins.

A new algorithm is one kernel file and one line in a list below: tests, `fastcnn.compare` and the
benchmarks find it through the list. Kernels are imported when first chosen, never before.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from math import inf, prod
from typing import Any

import numpy as np

from fastcnn.geometry import Conv2dGeometry, DenseGeometry, Extent, Pool2dGeometry

Geometry = Conv2dGeometry | Pool2dGeometry | DenseGeometry | Extent


@dataclass(frozen=True)
class Problem:
    """What a choice may depend on. The number of threads is deliberately not here."""

    operation: str
    geometry: Geometry
    dtype: str
    precision: str = "float32"
    device: str = "cpu"

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        known = vars(self.geometry).items()
        fields = (f"{name}={value}" for name, value in known if not name.startswith("_"))
        on = "" if self.device == "cpu" else f" {self.device}"
        return f"{self.operation} {self.dtype}{on} {' '.join(fields)}"


@dataclass(frozen=True)
class Implementation:
    """One way to do one operation.

    Attributes
    ----------
    name : str
        What `algorithm=` takes.
    module : str
        Kernel file below fastcnn.kernels; it has a function named like the operation.
    supports : Problem -> None or str
        None if it can serve the problem, else the reason why not.
    cost : Problem -> float
        Estimated seconds on one core.
    workspace : Problem -> int
        Bytes of scratch memory that one thread needs at the most.
    transforms : bool
        Whether it multiplies transformed numbers, as Winograd's algorithms do: its sums of small
        integers are not exact, it may have to compute a result in another way (its function then
        returns why), and precision "ieee" leaves it out.
    rounding : float
        The relative error with which it rounds the numbers that it multiplies; 0 if it takes them
        as they are.
    sums_dy : bool
        Whether its `conv2d_weight_grad` takes `db` behind dw, the bias gradient, and adds up dy
        while it reads it.
    """

    name: str
    module: str
    supports: Callable[[Problem], str | None]
    cost: Callable[[Problem], float]
    workspace: Callable[[Problem], int]
    transforms: bool = False
    rounding: float = 0.0
    sums_dy: bool = False

    def load(self, operation: str) -> Callable[..., Any]:
        """Import the kernel file and return the function that does the operation."""
        return getattr(import_module(f"fastcnn.kernels.{self.module}"), operation)

    def packer(self) -> Callable[..., Any] | None:
        """The kernel file's `pack(operation, geometry, w)`, if it puts weights in an order."""
        return getattr(import_module(f"fastcnn.kernels.{self.module}"), "pack", None)


def _anything(problem: Problem) -> None:
    return None


# Measured on one core of a Zen 5 machine (docs/performance.md); only their ratios matter.
_PORTABLE_FLOPS = 20e9
_COPY_BYTES = 8e9
_POOL_STEP = 2e-9
# Convolutions in float32, by least squares over all layers of the suites: FLOP/s, and elements of
# columns per second. Over random small geometries: seconds of the smallest calls; of a row of
# columns, however short, and of a row of the result (which decide where rows are of few pixels); of
# an image's group (for dX, of each residue modulo the stride).
_PORTABLE_CONV_FLOPS = 75e9
_COLUMNS = 1.2e9
_PORTABLE_CALL = {"conv2d": 8.7e-6, "conv2d_input_grad": 1.1e-5, "conv2d_weight_grad": 7e-6}
_COLUMN_ROW = {"conv2d": 1.9e-8, "conv2d_input_grad": 1.5e-8, "conv2d_weight_grad": 2.1e-8}
_RESULT_ROW = {"conv2d": 2.4e-8, "conv2d_input_grad": 2.4e-8, "conv2d_weight_grad": 3e-9}
_IMAGE_GROUP = {"conv2d": 4e-7, "conv2d_input_grad": 9e-7, "conv2d_weight_grad": 0.0}
# Weights per second that are put in order before, or added up one by one.
_PORTABLE_WEIGHTS = {"conv2d": 6e8, "conv2d_input_grad": 1.5e8, "conv2d_weight_grad": 3.5e8}

# Dense layers: FLOP/s by operation, bytes per second, seconds of the smallest call.
_PORTABLE_DENSE_FLOPS = {
    "dense": 90e9, "dense_input_grad": 65e9, "dense_weight_grad": 65e9,
}  # fmt: skip
_PORTABLE_DENSE_BYTES = 30e9
_PORTABLE_DENSE_CALL = 3.2e-6


def _cost(problem: Problem) -> float:
    g = problem.geometry
    flops = 0 if isinstance(g, Pool2dGeometry) else g.flops
    return g.bytes(problem.itemsize) / _COPY_BYTES + flops / _PORTABLE_FLOPS


def _pool_cost(problem: Problem) -> float:
    """Memory, and what is done one by one: forward a window's cells, backward its entry."""
    g = problem.geometry
    assert isinstance(g, Pool2dGeometry)
    steps = g.N * g.C * g.P * g.Q * (1 if problem.operation.endswith("_grad") else g.R * g.S)
    return g.bytes(problem.itemsize) / _COPY_BYTES + steps * _POOL_STEP


def _stated(
    name: str, module: str, transforms: bool = False, sums_dy: bool = False
) -> Implementation:
    """An implementation whose file states its refusals, cost and workspace."""

    def ask(question: str) -> Callable[[Problem], Any]:
        def answer(problem: Problem) -> Any:
            statement = getattr(import_module(f"fastcnn.kernels.{module}"), question)
            return statement(problem.operation, problem.geometry, problem.itemsize)

        return answer

    refusal = ask("refusal")

    def supports(problem: Problem) -> str | None:
        if transforms and problem.precision == "ieee":
            return 'precision "ieee" leaves out what multiplies transformed numbers'
        return refusal(problem)

    return Implementation(
        name, module, supports, ask("cost"), ask("workspace"), transforms, sums_dy=sums_dy
    )


def _conv_cost(problem: Problem) -> float:
    """The products, the columns that they are taken from, the weights, and rows by their number."""
    g, operation = problem.geometry, problem.operation
    assert isinstance(g, Conv2dGeometry)
    backward = operation == "conv2d_input_grad"
    rows = (g.C if backward else g.K) // g.groups
    seconds = g.flops / _PORTABLE_CONV_FLOPS + g.flops / (2 * rows) / _COLUMNS
    seconds += prod(g.weight_shape) / _PORTABLE_WEIGHTS[operation]
    (sh, sw), images = g.stride, g.N * g.groups
    if backward:
        column_rows, result_rows = g.N * g.K * g.R * g.S * -(-g.H // sh), g.N * g.C * g.H * sw
        images *= sh * sw
    else:
        column_rows, result_rows = g.N * g.C * g.R * g.S * g.P, g.N * g.K * g.P
    short = column_rows * _COLUMN_ROW[operation] + result_rows * _RESULT_ROW[operation]
    short += _PORTABLE_CALL[operation] + images * _IMAGE_GROUP[operation]
    return short + problem.itemsize / 4 * seconds + g.bytes(problem.itemsize) / _COPY_BYTES


def _dense_cost(problem: Problem) -> float:
    """The products, and every matrix once."""
    g = problem.geometry
    assert isinstance(g, DenseGeometry)
    seconds = problem.itemsize / 4 * g.flops / _PORTABLE_DENSE_FLOPS[problem.operation]
    return _PORTABLE_DENSE_CALL + seconds + g.bytes(problem.itemsize) / _PORTABLE_DENSE_BYTES


def _no_workspace(problem: Problem) -> int:
    return 0


def _portable(
    module: str, scratch: bool = False, cost: Callable[[Problem], float] = _cost
) -> Implementation:
    """The portable kernel of a file, which states its own workspace if it takes scratch memory."""

    def workspace(problem: Problem) -> int:
        kernel_file = import_module(f"fastcnn.kernels.{module}")
        return kernel_file.workspace(problem.operation, problem.geometry, problem.itemsize)

    return Implementation(
        "portable", module, _anything, cost, workspace if scratch else _no_workspace
    )


_PORTABLE_CONV = _portable("cpu.portable", scratch=True, cost=_conv_cost)
_IMPLICIT_GEMM = _stated("implicit_gemm", "cpu.implicit_gemm")
_WINOGRAD = _stated("winograd", "cpu.winograd", transforms=True)
_WINOGRAD_DILATED = _stated("winograd_phases", "cpu.winograd_dilated", transforms=True)
_WINOGRAD_STRIDED = _stated("winograd_strided", "cpu.winograd_strided", transforms=True)
_GEMM_WEIGHT_GRAD = _stated("implicit_gemm", "cpu.gemm_weight_grad", sums_dy=True)
_INNER_WEIGHT_GRAD = _stated("inner_products", "cpu.inner_weight_grad", sums_dy=True)
_WINOGRAD_WEIGHT_GRAD = _stated("winograd", "cpu.winograd_weight_grad", transforms=True)
_FOURIER = _stated("fourier", "cpu.fourier", transforms=True)
_FOURIER_PHASES = _stated("fourier_phases", "cpu.fourier_phases", transforms=True)
_DEPTHWISE = _stated("depthwise", "cpu.depthwise", sums_dy=True)
_DEPTHWISE_ACROSS = _stated("depthwise_across", "cpu.depthwise_across", sums_dy=True)
_SMALL_CHANNEL = _stated("small_channel", "cpu.small_channel")
_SMALL_CHANNEL_INPUT_GRAD = _stated("small_channel", "cpu.small_channel_input_grad")
_FULL_CONVOLUTION = _stated("full_convolution", "cpu.small_channel_full")
_SMALL_CHANNEL_WEIGHT_GRAD = _stated("small_channel", "cpu.small_channel_weight_grad", sums_dy=True)
_PORTABLE_DENSE = _portable("cpu.dense", cost=_dense_cost)
_DENSE_SUMS = _stated("register_tiles", "cpu.dense_sums")

_POOL_VECTORS = [_stated("tiles", "cpu.pool_tiles"), _stated("windows", "cpu.pool_windows")]

IMPLEMENTATIONS: dict[str, list[Implementation]] = {
    "conv2d": [
        _PORTABLE_CONV,
        _IMPLICIT_GEMM,
        _WINOGRAD,
        _FOURIER,
        _WINOGRAD_DILATED,
        _WINOGRAD_STRIDED,
        _FOURIER_PHASES,
        _DEPTHWISE,
        _DEPTHWISE_ACROSS,
        _SMALL_CHANNEL,
    ],
    "conv2d_input_grad": [
        _PORTABLE_CONV,
        _IMPLICIT_GEMM,
        _WINOGRAD,
        _FOURIER,
        _WINOGRAD_DILATED,
        _WINOGRAD_STRIDED,
        _DEPTHWISE,
        _DEPTHWISE_ACROSS,
        _SMALL_CHANNEL_INPUT_GRAD,
        _FULL_CONVOLUTION,
    ],
    "conv2d_weight_grad": [
        _PORTABLE_CONV,
        _GEMM_WEIGHT_GRAD,
        _INNER_WEIGHT_GRAD,
        _WINOGRAD_WEIGHT_GRAD,
        _FOURIER,
        _DEPTHWISE,
        _DEPTHWISE_ACROSS,
        _SMALL_CHANNEL_WEIGHT_GRAD,
    ],
    "conv2d_bias_grad": [_portable("cpu.sums", scratch=True)],
    "max_pool2d": [_portable("cpu.pool", scratch=True, cost=_pool_cost), *_POOL_VECTORS],
    "max_pool2d_grad": [_portable("cpu.pool", cost=_pool_cost), *_POOL_VECTORS],
    "relu_max_pool2d": [_portable("cpu.pool", scratch=True, cost=_pool_cost), *_POOL_VECTORS],
    "relu_max_pool2d_grad": [_portable("cpu.pool", cost=_pool_cost), *_POOL_VECTORS],
    "relu": [_portable("cpu.activation")],
    "relu_grad": [_portable("cpu.activation")],
    "sigmoid": [_portable("cpu.activation")],
    "sigmoid_grad": [_portable("cpu.activation")],
    "tanh": [_portable("cpu.activation")],
    "tanh_grad": [_portable("cpu.activation")],
    "softmax": [_portable("cpu.activation")],
    "softmax_grad": [_portable("cpu.activation")],
    "dense": [_PORTABLE_DENSE, _stated("register_tiles", "cpu.dense_dots")],
    "dense_input_grad": [_PORTABLE_DENSE, _DENSE_SUMS],
    "dense_weight_grad": [_PORTABLE_DENSE, _DENSE_SUMS],
    "dense_bias_grad": [_portable("cpu.sums", scratch=True)],
    "binary_cross_entropy": [_portable("cpu.loss")],
    "binary_cross_entropy_grad": [_portable("cpu.loss")],
    "binary_cross_entropy_with_logits": [_portable("cpu.loss")],
    "binary_cross_entropy_with_logits_grad": [_portable("cpu.loss")],
    "categorical_cross_entropy": [_portable("cpu.loss")],
    "categorical_cross_entropy_grad": [_portable("cpu.loss")],
    "categorical_cross_entropy_with_logits": [_portable("cpu.loss")],
    "categorical_cross_entropy_with_logits_grad": [_portable("cpu.loss")],
    "half_squared_error": [_portable("cpu.loss")],
    "half_squared_error_grad": [_portable("cpu.loss")],
    "sgd_step": [_portable("cpu.update")],
    "momentum_step": [_portable("cpu.update")],
    "adam_step": [_portable("cpu.update")],
}


def _on_cuda(name: str, module: str, rounding: float = 0.0) -> Implementation:
    """An implementation for arrays on a GPU; its file states its refusals, cost and workspace.

    The refusals depend on the precision in force as well. A portable one serves everything, at
    the highest cost.
    """

    def ask(question: str) -> Any:
        return getattr(import_module(f"fastcnn.kernels.cuda.{module}"), question)

    def supports(problem: Problem) -> str | None:
        if name == "portable":
            return None
        settled = problem.operation, problem.geometry, problem.itemsize, problem.precision
        return ask("refusal")(*settled)

    def cost(problem: Problem) -> float:
        if name == "portable":
            return inf
        return ask("cost")(problem.operation, problem.geometry, problem.itemsize)

    def workspace(problem: Problem) -> int:
        if name == "portable":
            return 0
        return ask("workspace")(problem.operation, problem.geometry, problem.itemsize)

    return Implementation(name, f"cuda.{module}", supports, cost, workspace, rounding=rounding)


# Half the distance from 1 to the next number.
_TF32 = _F16 = 2.0**-11
_BF16 = 2.0**-8

# Convolutions: direct; on tiles in plain multiply-adds; on tensor cores in 3xTF32, TF32, f16 and
# bf16. Which of them may serve is a matter of `precision`.
_CONV_ON_CUDA = [
    _on_cuda("portable", "conv"),
    _on_cuda("implicit_gemm", "implicit_gemm"),
    _on_cuda("tensor_gemm", "tensor_gemm"),
    _on_cuda("tf32_gemm", "tf32_gemm", _TF32),
    _on_cuda("f16_gemm", "f16_gemm", _F16),
    _on_cuda("turing_gemm", "turing_gemm", _F16),
    _on_cuda("bf16_gemm", "bf16_gemm", _BF16),
]

# Dense layers: a portable kernel; on tensor cores in 3xTF32 and in TF32.
_DENSE_ON_CUDA = [
    _on_cuda("portable", "dense"),
    _on_cuda("tensor_gemm", "tensor_dense"),
    _on_cuda("tf32_gemm", "tf32_dense", _TF32),
]

# Operations on arrays that live on a GPU.
ON_CUDA: dict[str, list[Implementation]] = {
    "conv2d": _CONV_ON_CUDA,
    "conv2d_input_grad": _CONV_ON_CUDA,
    "conv2d_weight_grad": _CONV_ON_CUDA,
    "conv2d_bias_grad": [_on_cuda("portable", "sums")],
    "dense": _DENSE_ON_CUDA,
    "dense_input_grad": _DENSE_ON_CUDA,
    "dense_weight_grad": _DENSE_ON_CUDA,
    **{
        name: [_on_cuda("portable", module)]
        for module, names in {
            "pool": (
                "max_pool2d", "max_pool2d_grad", "relu_max_pool2d", "relu_max_pool2d_grad",
                "mask_to_indices", "mask_to_input",
            ),
            "elements": ("relu", "relu_grad", "sigmoid", "sigmoid_grad", "tanh", "tanh_grad"),
            "softmax": ("softmax", "softmax_grad"),
            "sums": ("dense_bias_grad",),
            "loss": [name for name, (first, *_) in IMPLEMENTATIONS.items()
                     if first.module == "cpu.loss"],
            "update": ("sgd_step", "momentum_step", "adam_step"),
        }.items()
        for name in names
    },
}  # fmt: skip


def trace(text: str) -> None:
    """Print one line to standard error if FASTCNN_VERBOSE=1."""
    if os.environ.get("FASTCNN_VERBOSE", "0") not in ("", "0"):
        print(f"fastcnn: {text}", file=sys.stderr, flush=True)


def listed(problem: Problem) -> list[Implementation]:
    """All implementations of its operation, where its arrays are."""
    return (IMPLEMENTATIONS if problem.device == "cpu" else ON_CUDA)[problem.operation]


def choose(problem: Problem, algorithm: Any = "auto") -> Implementation:
    """The implementation that serves a problem.

    Parameters
    ----------
    problem : Problem
    algorithm : str
        "auto", which always finds one, or a name from the operation's list.

    Raises
    ------
    TypeError, ValueError
        `algorithm` names none of the list, or one that cannot serve this problem; says why.
    """
    if not isinstance(algorithm, str):
        raise TypeError(f"algorithm must be a string, but got {algorithm!r}")
    candidates = listed(problem)
    if algorithm != "auto":
        for candidate in candidates:
            if candidate.name == algorithm:
                reason = candidate.supports(problem)
                if reason is not None:
                    raise ValueError(f"algorithm={algorithm!r} cannot serve {problem}: {reason}")
                trace(f"{problem}: {algorithm} (asked for)")
                return candidate
        names = ", ".join(repr(c.name) for c in candidates)
        raise ValueError(
            f"{problem.operation} has no algorithm {algorithm!r}; it has 'auto' and {names}"
        )
    refusals = [(c, c.supports(problem)) for c in candidates]
    able = sorted((c.cost(problem), i) for i, (c, why) in enumerate(refusals) if why is None)
    chosen = candidates[able[0][1]]
    reasons = [f"cheapest of {len(able)}, estimated {able[0][0]:.2e} s on one core"]
    reasons += [f"not {candidates[i].name}: estimated {cost:.2e} s" for cost, i in able[1:]]
    reasons += [f"not {c.name}: {why}" for c, why in refusals if why is not None]
    trace(f"{problem}: {chosen.name} ({'; '.join(reasons)})")
    return chosen
