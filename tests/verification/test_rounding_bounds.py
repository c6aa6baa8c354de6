"""What implementations that round their operands promise, against rounding done by NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import reference
from fastcnn.kernels.selection import ON_CUDA
from fastcnn.verification.bounds import limit
from fastcnn.verification.operations import OPERATIONS, Source
from fastcnn.verification.problems import find

ROUNDING = {entry.name: entry.rounding for entry in ON_CUDA["conv2d"] if entry.rounding}


def _rounded(numbers, rounding):
    """To nearest, to as many bits as make this error at the most."""
    mantissa, exponent = np.frexp(numbers)
    bits = -int(np.log2(rounding))
    return np.ldexp(np.round(np.ldexp(mantissa, bits)), exponent - bits)


@pytest.mark.parametrize("name", ROUNDING)
@pytest.mark.parametrize("data", ["mean-zero", "post-relu", "integers"])
def test_rounded_operands_stay_within_the_bound_and_bounds_are_not_idle(name, data):
    worst = 0.0
    for text in ("n1c3h8k9r3", "n1c1h3k8r3", "n1c64h6k16r3p1"):
        problem = find(text)
        bound = limit("conv2d", "float32", problem, data, rounding=ROUNDING[name])
        call = OPERATIONS["conv2d"].make(problem, Source(np.random.default_rng(5), "float32", data))
        x, w, _ = (None if a is None else a.astype(np.float64) for a in call.args)
        exact = reference.conv2d(x, w, **call.options)
        got = reference.conv2d(*(_rounded(a, ROUNDING[name]) for a in (x, w)), **call.options)
        error = np.linalg.norm(got - exact) / np.linalg.norm(exact)
        assert error <= bound
        worst = max(worst, error / bound if bound else 0.0)
    assert worst > 0.05 or data == "integers"


def test_an_implementation_that_rounds_is_found_out_by_the_bound_of_float32():
    problem = find("n1c64h6k16r3p1")
    strict = limit("conv2d", "float32", problem, "mean-zero")
    assert all(limit("conv2d", "float32", problem, "mean-zero", rounding=r) > 20 * strict
               for r in ROUNDING.values())  # fmt: skip
