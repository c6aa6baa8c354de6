"""PyTorch on a GPU: the same operators, by cuDNN in benchmark mode and in the same numerics.

PyTorch's own default for convolutions is TF32. Here it computes in TF32 only where "tf32" is asked
of fastcnn too; for "float32" and "ieee" it is told not to. For "f16" and "bf16" its arrays are of
that type from the start: fastcnn's stay float32, and rounding them is part of its time.
"""

from __future__ import annotations

from typing import Any

import torch

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides import pytorch
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported, back_to_back


def variants(case: Case, precision: str) -> list[str]:
    """As on the CPU."""
    return pytorch.variants(case)


def facts() -> dict[str, Any]:
    """Versions of what computes."""
    return {"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


_HALVES = {"f16": torch.float16, "bf16": torch.bfloat16}


def settle(precision: str) -> None:
    """Benchmark mode; no TF32 for "float32" and "ieee"."""
    torch.backends.cudnn.benchmark = True
    allowed = precision not in ("ieee", "float32")
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int, precision: str) -> Prepared:
    """One of PyTorch's sides, timed by events."""
    if not torch.cuda.is_available():
        raise Unsupported("this PyTorch finds no GPU")
    settle(precision)
    prepared = pytorch.prepare(variant, case, sets, threads, "cuda", _HALVES.get(precision))
    launch = prepared.launch
    assert launch is not None

    def run(number: int) -> None:
        launch(number)
        torch.cuda.synchronize()

    def timed(number: int, calls: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        result: Any = None
        start.record()
        for i in range(calls):
            result = launch((number + i) % len(sets))
        end.record()
        end.synchronize()
        del result
        return start.elapsed_time(end) / 1e3  # milliseconds

    def change() -> None:
        prepared.change()
        torch.cuda.synchronize()

    return Prepared(run, prepared.answer, change, seconds=back_to_back(timed))
