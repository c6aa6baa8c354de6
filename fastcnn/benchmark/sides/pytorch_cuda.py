"""PyTorch on a GPU: the same operators, by cuDNN in benchmark mode and in the same numerics.

PyTorch's own default for convolutions is TF32. Here it computes in TF32 only where "tf32" is asked
of fastcnn too; for "float32" and "ieee" it is told not to.
"""

from __future__ import annotations

from typing import Any

import torch

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides import pytorch
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported


def variants(case: Case, precision: str) -> list[str]:
    """As on the CPU."""
    return pytorch.variants(case)


def facts() -> dict[str, Any]:
    """Versions of what computes."""
    return {"torch_cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}


def settle(precision: str) -> None:
    """Benchmark mode, and TF32 only for "tf32"."""
    torch.backends.cudnn.benchmark = True
    allowed = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int, precision: str) -> Prepared:
    """One of PyTorch's sides, timed by events."""
    if not torch.cuda.is_available():
        raise Unsupported("this PyTorch finds no GPU")
    settle(precision)
    prepared = pytorch.prepare(variant, case, sets, threads, "cuda")
    launch = prepared.launch
    assert launch is not None

    def run(number: int) -> None:
        launch(number)
        torch.cuda.synchronize()

    def seconds(number: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result: Any = launch(number)
        end.record()
        end.synchronize()
        del result
        return start.elapsed_time(end) / 1e3  # milliseconds

    def change() -> None:
        prepared.change()
        torch.cuda.synchronize()

    return Prepared(run, prepared.answer, change, seconds=seconds)
