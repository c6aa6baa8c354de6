"""The accuracy that each operation promises: one table, each row with its reason.

    relative error (norm) <= factor * eps * sqrt(terms)

eps is the distance from 1 to the next number of the type (1.2e-7 or 2.2e-16); terms is how many
products, or other rounded numbers, are added up for one element of the result. Rounding errors of a
sum are nearly independent, so that they grow with the square root of its terms, not with the terms.
Sums of small integers are exact in any order and with any blocking: they must be equal.

Algorithms that multiply transformed numbers (Winograd's) add rounded numbers that are larger than
the result's own terms. They promise what `fastcnn.precision("float32")` says, however many terms:

    relative error (norm) <= TRANSFORMED * eps          1e-5 in float32

Those that round what they multiply (to TF32, f16, bf16) promise, where that is more, ROUNDED times
the relative error of one rounding, however many terms:

    relative error (norm) <= ROUNDED * rounding         2e-3 in TF32 and f16, 1.6e-2 in bf16

Small integers have no bits to lose there, and must be equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from fastcnn.verification.kinds import (
    ConvProblem,
    PoolProblem,
    Problem,
    ShapeProblem,
)


@dataclass(frozen=True)
class Bound:
    """What one operation promises.

    Attributes
    ----------
    factor : float
    why : str
    terms : callable
        problem -> number of terms.
    exact : str
        The data on which results must be equal to the reference's: "never", "integers", "always".
    wide : bool
        Added up in float64 whatever the type: in float32 the sum counts as one term.
    """

    factor: float
    why: str
    terms: Callable[[Any], int] = lambda problem: 1
    exact: str = "never"
    wide: bool = False


def _taps(p: ConvProblem) -> int:
    return p.C // p.groups * p.R * p.S


def _input_grad_terms(p: ConvProblem) -> int:
    return p.K // p.groups * p.R * p.S


def _outputs(p: ConvProblem) -> int:
    return p.N * p.geometry.P * p.geometry.Q


def _overlap(p: PoolProblem) -> int:
    """Windows that one cell can lie in."""
    return -(-p.R // p.stride[0]) * -(-p.S // p.stride[1])


def _size(p: ShapeProblem) -> int:
    return p.geometry.flops


def _longest(p: ShapeProblem) -> int:
    return max(p.shape)


# The portable kernels reach 0.7 of eps sqrt(terms) at the most, over thousands of random cases;
# 2 leaves room for other orders of summation, and for the reference's own rounding in float64.
_SUM = 2.0
_SELECTION = "takes or leaves numbers, computes none"
_PRODUCTS = "a sum of products in the array's own type"
_WIDE = "added up in float64, rounded once"
# exp and log are within 1.5 units in the last place, tanh within 2.6; the few operations round them
# add as many.
_FORMULA = 4.0
# The terms of a softmax have one sign, so that in float64 their errors do not cancel as sqrt(terms)
# has it (0.75 of 4 in rows of 4097); in its gradient two nearly equal numbers may be subtracted.
_SOFTMAX = 8.0

BOUNDS: dict[str, Bound] = {
    "conv2d": Bound(_SUM, _PRODUCTS, _taps, "integers"),
    "conv2d_input_grad": Bound(_SUM, _PRODUCTS, _input_grad_terms, "integers"),
    "conv2d_weight_grad": Bound(_SUM, _PRODUCTS, _outputs, "integers"),
    "conv2d_bias_grad": Bound(_SUM, _WIDE, _outputs, "integers", wide=True),
    "conv2d_parameter_grads": Bound(_SUM, _PRODUCTS, _outputs, "integers"),
    "max_pool2d": Bound(0.0, _SELECTION, exact="always"),
    "max_pool2d_grad": Bound(_SUM, "adds the windows that chose a cell", _overlap, "integers"),
    "relu_max_pool2d": Bound(0.0, _SELECTION, exact="always"),
    "relu_max_pool2d_grad": Bound(_SUM, "adds the windows that chose a cell", _overlap, "integers"),
    "relu": Bound(0.0, _SELECTION, exact="always"),
    "relu_grad": Bound(0.0, _SELECTION, exact="always"),
    "sigmoid": Bound(_FORMULA, "one exponential, one quotient"),
    "sigmoid_grad": Bound(_FORMULA, "a product of three numbers"),
    "tanh": Bound(_FORMULA, "one hyperbolic tangent"),
    "tanh_grad": Bound(_FORMULA, "a product of three numbers"),
    "softmax": Bound(_SOFTMAX, "exponentials over their sum", _longest, wide=True),
    "softmax_grad": Bound(_SOFTMAX, "a product with a sum of products", _longest, wide=True),
    "dense": Bound(_SUM, _PRODUCTS, lambda p: p.I, "integers"),
    "dense_input_grad": Bound(_SUM, _PRODUCTS, lambda p: p.O, "integers"),
    "dense_weight_grad": Bound(_SUM, _PRODUCTS, lambda p: p.N, "integers"),
    "dense_bias_grad": Bound(_SUM, _WIDE, lambda p: p.N, "integers", wide=True),
    "binary_cross_entropy": Bound(_FORMULA, _WIDE, _size, wide=True),
    "binary_cross_entropy_grad": Bound(_FORMULA, "a quotient of small differences"),
    "binary_cross_entropy_with_logits": Bound(_FORMULA, _WIDE, _size, wide=True),
    "binary_cross_entropy_with_logits_grad": Bound(_FORMULA, "a sigmoid less its target"),
    "categorical_cross_entropy": Bound(_FORMULA, _WIDE, _size, wide=True),
    "categorical_cross_entropy_grad": Bound(_FORMULA, "one quotient"),
    "categorical_cross_entropy_with_logits": Bound(_FORMULA, _WIDE, _size, wide=True),
    "categorical_cross_entropy_with_logits_grad": Bound(
        _SOFTMAX, "a softmax less its target", _longest, wide=True
    ),
    "half_squared_error": Bound(_FORMULA, _WIDE, _size, wide=True),
    "half_squared_error_grad": Bound(_FORMULA, "one difference, one quotient"),
    "sgd_step": Bound(_FORMULA, "one product, one difference"),
    "momentum_step": Bound(_FORMULA, "two products, two sums"),
    "adam_step": Bound(_FORMULA, "a few products, one root, one quotient"),
}


# 1e-5 in units of float32's eps. Winograd's F(4x4, 3x3) reaches 0.4 of it with 512 channels of
# either kind of data, and 0.05 with one (docs/performance.md).
TRANSFORMED = 84.0

# A product of two rounded numbers is off by 2 roundings at the most, and by 0.6 as a rule; a sum of
# them, over itself, by as much, unless it cancels: 4 leaves room for results of eight numbers.
ROUNDED = 4.0


def limit(
    operation: str,
    dtype: str,
    problem: Problem,
    data: str,
    transforms: bool = False,
    rounding: float = 0.0,
) -> float:
    """The largest relative error allowed; 0 where the result must be equal.

    `transforms` and `rounding` are what the implementation says of itself
    (kernels.implementation).
    """
    if transforms:
        return TRANSFORMED * float(np.finfo(dtype).eps)
    bound = BOUNDS[operation]
    if bound.exact == "always" or bound.exact == data:
        return 0.0
    terms = 1 if bound.wide and dtype == "float32" else max(1, bound.terms(problem))
    return max(bound.factor * float(np.finfo(dtype).eps) * sqrt(terms), ROUNDED * rounding)
