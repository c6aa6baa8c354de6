"""SciPy: `signal.correlate` over the channels of single images, one filter at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import signal

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported
from fastcnn.verification.kinds import ConvProblem

# Filters times channels: beyond it nobody would, and calls take seconds.
_PLANES = 512


def variants(case: Case) -> list[str]:
    p = case.problem
    if case.operation not in ("conv2d", "conv2d_frozen") or not isinstance(p, ConvProblem):
        return []
    plain = p.stride == p.dilation == (1, 1) and p.groups == 1
    return ["scipy"] if p.N == 1 and plain and p.C * p.K <= _PLANES else []


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int) -> Prepared:
    p = case.problem
    if not variants(case) or not isinstance(p, ConvProblem):
        raise Unsupported("single images at stride 1 alone")
    top, bottom, left, right = p.geometry.padding
    sides = (0, 0), (top, bottom), (left, right)
    w, b = sets[0]["w"], sets[0]["b"]

    def run(number: int) -> Any:
        x = np.pad(sets[number]["x"][0], sides)
        planes = [signal.correlate(x, filter_, mode="valid")[0] for filter_ in w]
        return np.stack(planes) + b[:, None, None]

    def change() -> None:
        if case.measured.weights:
            np.negative(w, out=w)
            np.negative(b, out=b)

    return Prepared(run, lambda number: {"y": run(number)[np.newaxis]}, change)
