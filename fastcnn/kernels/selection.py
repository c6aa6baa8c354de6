"""Which implementation serves a problem: a list per operation, of which the cheapest able wins.

A new algorithm is one kernel file and one line in a list below: tests, `fastcnn.compare` and the
benchmarks find it through the list. Kernels are imported when first chosen, never before.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from fastcnn.kernels.implementation import Implementation, Problem, on_cuda, stated
from fastcnn.kernels.portable import conv_cost, dense_cost, pool_cost, portable

_PORTABLE_CONV = portable("cpu.portable", scratch=True, cost=conv_cost)
_IMPLICIT_GEMM = stated("implicit_gemm", "cpu.implicit_gemm")
_WINOGRAD = stated("winograd", "cpu.winograd", transforms=True)
_WINOGRAD_DILATED = stated("winograd_phases", "cpu.winograd_dilated", transforms=True)
_WINOGRAD_STRIDED = stated("winograd_strided", "cpu.winograd_strided", transforms=True)
_GEMM_WEIGHT_GRAD = stated("implicit_gemm", "cpu.gemm_weight_grad", sums_dy=True)
_INNER_WEIGHT_GRAD = stated("inner_products", "cpu.inner_weight_grad", sums_dy=True)
_WINOGRAD_WEIGHT_GRAD = stated("winograd", "cpu.winograd_weight_grad", transforms=True)
_FOURIER = stated("fourier", "cpu.fourier", transforms=True)
_FOURIER_PHASES = stated("fourier_phases", "cpu.fourier_phases", transforms=True)
_DEPTHWISE = stated("depthwise", "cpu.depthwise", sums_dy=True)
_DEPTHWISE_ACROSS = stated("depthwise_across", "cpu.depthwise_across", sums_dy=True)
_SMALL_CHANNEL = stated("small_channel", "cpu.small_channel")
_SMALL_CHANNEL_INPUT_GRAD = stated("small_channel", "cpu.small_channel_input_grad")
_FULL_CONVOLUTION = stated("full_convolution", "cpu.small_channel_full")
_SMALL_CHANNEL_WEIGHT_GRAD = stated("small_channel", "cpu.small_channel_weight_grad", sums_dy=True)
_PORTABLE_DENSE = portable("cpu.dense", cost=dense_cost)
_DENSE_SUMS = stated("register_tiles", "cpu.dense_sums")

_POOL_VECTORS = [stated("tiles", "cpu.pool_tiles"), stated("windows", "cpu.pool_windows")]

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
    "conv2d_bias_grad": [portable("cpu.sums", scratch=True)],
    "max_pool2d": [portable("cpu.pool", scratch=True, cost=pool_cost), *_POOL_VECTORS],
    "max_pool2d_grad": [portable("cpu.pool", cost=pool_cost), *_POOL_VECTORS],
    "relu_max_pool2d": [portable("cpu.pool", scratch=True, cost=pool_cost), *_POOL_VECTORS],
    "relu_max_pool2d_grad": [portable("cpu.pool", cost=pool_cost), *_POOL_VECTORS],
    "relu": [portable("cpu.activation")],
    "relu_grad": [portable("cpu.activation")],
    "sigmoid": [portable("cpu.activation")],
    "sigmoid_grad": [portable("cpu.activation")],
    "tanh": [portable("cpu.activation")],
    "tanh_grad": [portable("cpu.activation")],
    "softmax": [portable("cpu.activation")],
    "softmax_grad": [portable("cpu.activation")],
    "dense": [_PORTABLE_DENSE, stated("register_tiles", "cpu.dense_dots")],
    "dense_input_grad": [_PORTABLE_DENSE, _DENSE_SUMS],
    "dense_weight_grad": [_PORTABLE_DENSE, _DENSE_SUMS],
    "dense_bias_grad": [portable("cpu.sums", scratch=True)],
    "binary_cross_entropy": [portable("cpu.loss")],
    "binary_cross_entropy_grad": [portable("cpu.loss")],
    "binary_cross_entropy_with_logits": [portable("cpu.loss")],
    "binary_cross_entropy_with_logits_grad": [portable("cpu.loss")],
    "categorical_cross_entropy": [portable("cpu.loss")],
    "categorical_cross_entropy_grad": [portable("cpu.loss")],
    "categorical_cross_entropy_with_logits": [portable("cpu.loss")],
    "categorical_cross_entropy_with_logits_grad": [portable("cpu.loss")],
    "half_squared_error": [portable("cpu.loss")],
    "half_squared_error_grad": [portable("cpu.loss")],
    "sgd_step": [portable("cpu.update")],
    "momentum_step": [portable("cpu.update")],
    "adam_step": [portable("cpu.update")],
}


# Half the distance from 1 to the next number.
_TF32 = _F16 = 2.0**-11
_BF16 = 2.0**-8

# Convolutions: direct; on tiles in plain multiply-adds; on tensor cores in 3xTF32, TF32, f16 and
# bf16. Which of them may serve is a matter of `precision`.
_CONV_ON_CUDA = [
    on_cuda("portable", "conv"),
    on_cuda("implicit_gemm", "implicit_gemm"),
    on_cuda("tensor_gemm", "tensor_gemm"),
    on_cuda("tf32_gemm", "tf32_gemm", _TF32),
    on_cuda("f16_gemm", "f16_gemm", _F16),
    on_cuda("turing_gemm", "turing_gemm", _F16),
    on_cuda("bf16_gemm", "bf16_gemm", _BF16),
]

# Dense layers: a portable kernel; on tensor cores in 3xTF32 and in TF32.
_DENSE_ON_CUDA = [
    on_cuda("portable", "dense"),
    on_cuda("tensor_gemm", "tensor_dense"),
    on_cuda("tf32_gemm", "tf32_dense", _TF32),
]

# Operations on arrays that live on a GPU.
ON_CUDA: dict[str, list[Implementation]] = {
    "conv2d": _CONV_ON_CUDA,
    "conv2d_input_grad": _CONV_ON_CUDA,
    "conv2d_weight_grad": _CONV_ON_CUDA,
    "conv2d_bias_grad": [on_cuda("portable", "sums")],
    "dense": _DENSE_ON_CUDA,
    "dense_input_grad": _DENSE_ON_CUDA,
    "dense_weight_grad": _DENSE_ON_CUDA,
    **{
        name: [on_cuda("portable", module)]
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
