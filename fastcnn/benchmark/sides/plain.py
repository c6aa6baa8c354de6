"""The NumPy reference: vectorised, in the input's own type; and the lectures' loops."""

from __future__ import annotations

from math import prod
from types import SimpleNamespace

from fastcnn import reference
from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import (
    Prepared,
    Unsupported,
    with_namespace,
    with_network,
)
from fastcnn.reference import loops
from fastcnn.verification.kinds import ConvProblem, PoolProblem

# Multiplications or comparisons of a call in loops: Python does two to four million a second.
_LOOP_TERMS = 250_000


def _terms(case: Case) -> int:
    p = case.problem
    if isinstance(p, ConvProblem):
        return p.geometry.flops // 2
    if isinstance(p, PoolProblem):
        return prod(p.geometry.output_shape) * p.R * p.S
    raise Unsupported("the loops have convolution and pooling alone")


def variants(case: Case) -> list[str]:
    """ "numpy", and "loops" where they end soon."""
    try:
        return ["numpy", "loops"] if _terms(case) <= _LOOP_TERMS else ["numpy"]
    except Unsupported:
        return ["numpy"]


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int) -> Prepared:
    """One of NumPy's sides; its threads are the BLAS's, set by the environment."""
    if not case.measured.function:
        prepared = with_network(case, sets, "reference")
    elif variant == "loops":
        ops = SimpleNamespace(**{**vars(reference), **vars(loops)})
        prepared = with_namespace(ops, case, sets)
    else:
        prepared = with_namespace(reference, case, sets)
    run = prepared.run

    def run_in_input_type(number: int) -> object:
        with reference.compute_in("input"):
            return run(number)

    prepared.run = run_in_input_type
    return prepared
