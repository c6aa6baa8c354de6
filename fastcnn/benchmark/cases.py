"""Cases: an operation on a problem, its data, and the lists of cases that a run goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np

from fastcnn.benchmark.networks import INPUT_SHAPES, NetworkProblem
from fastcnn.benchmark.operations import MEASURED, AnyProblem, Arrays, Measured, chosen
from fastcnn.verification import problems
from fastcnn.verification.operations import Source

# Input sets in rotation, so that no side finds its last input still in a cache.
SETS = 3

# Losses run on classifiers' outputs, which no suite of layers has: 10 and 1,000 classes.
_LOSSES = {"digits": "64x10", "imagenet": "256x1000"}
_LECTURE_BATCHES = (1, 32)
_BATCHES = {"lenet5": (64,), "vgg11": (32,)}

# One of each kind, small enough for two minutes: deep and wide 3x3, a 1x1, a first layer, a
# depthwise; poolings of VGG, ResNet and LeNet. One image where the layer is large.
_QUICK_LAYERS = (
    ("vgg16.conv5_1", 1),
    ("resnet50.56_64_64_k3s1", 1),
    ("resnet50.28_512_128_k1s1", 1),
    ("small_images.mnist.conv1", 64),
    ("mobilenet_depthwise.dw_56_128_s1", 1),
    ("pooling.resnet.pool", 8),
    ("pooling.mnist.pool", 128),
    ("pooling.lenet.pool", 64),
)
_QUICK_OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d",
                     "max_pool2d_grad")  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One operation on one problem.

    Attributes
    ----------
    operation : str
        A key of `MEASURED`.
    problem : Problem or NetworkProblem
    dtype : str
    """

    operation: str
    problem: AnyProblem
    dtype: str = "float32"

    @property
    def measured(self) -> Measured:
        return MEASURED[self.operation]

    @property
    def layer(self) -> str:
        """Where the problem comes from, or what it is."""
        return self.problem.name or str(self.problem)

    @property
    def itemsize(self) -> int:
        return np.dtype(self.dtype).itemsize

    @property
    def flops(self) -> int:
        return self.measured.flops(self.problem)

    @property
    def bytes(self) -> int:
        return self.measured.bytes(self.problem, self.itemsize)

    def data(self) -> list[Arrays]:
        """The input sets, the same in every process; weights are shared by all sets.

        Signals and weights are standard normal: no denormals, which would make convolutions tens
        of times slower.
        """
        sets = []
        for number in range(SETS):
            rng = np.random.default_rng((number, crc32(str(self).encode())))
            sets.append(self.measured.make(self.problem, Source(rng, self.dtype, "mean-zero")))
        for arrays in sets[1:]:
            arrays.update({name: sets[0][name] for name in self.measured.weights})
        return sets

    def facts(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "layer": self.layer,
            "problem": str(self.problem),
            "operation": self.operation,
            "label": self.measured.label,
            "dtype": self.dtype,
            "flops": self.flops,
            "bytes": self.bytes,
        }

    def __str__(self) -> str:
        return f"{self.operation} {self.problem} {self.dtype}"


def suites() -> dict[str, str]:
    """Names of suites with what they hold; "startup" has no cases, see startup.py."""
    return {
        **problems.suites(),
        "losses": "the losses on classifiers' outputs",
        "networks": "one training step of whole networks",
        "startup": "import, compile and first training step, from a cold and a warm cache",
    }


def _problems(suite: str) -> list[AnyProblem]:
    if suite == "startup":
        return []
    if suite == "networks":
        return [
            NetworkProblem(name, batch)
            for name in INPUT_SHAPES
            for batch in _BATCHES.get(name, _LECTURE_BATCHES)
        ]
    if suite == "losses":
        return [problems.parse(text, f"losses.{name}") for name, text in _LOSSES.items()]
    return list(problems.suite(suite))


def _belongs(measured: Measured, problem: AnyProblem) -> bool:
    """Losses are for the suite of that name, activations for all other shapes."""
    if not measured.takes(problem):
        return False
    is_loss, loss_suite = "losses" in measured.groups, problem.name.startswith("losses.")
    return is_loss == loss_suite or not problem.name


def cases(
    names: Sequence[str],
    operations: Sequence[str] | None = None,
    own: Sequence[AnyProblem] = (),
    dtype: str = "float32",
) -> list[Case]:
    """All cases of suites, and of problems of one's own.

    Parameters
    ----------
    names : sequence of str
        Keys of `suites()`.
    operations : sequence of str, optional
        As in `operations.chosen`; all by default.
    own : sequence of problems
    dtype : str

    Raises
    ------
    ValueError
        Unknown names; suggests the nearest.
    """
    known = suites()
    for name in names:
        if name not in known:
            raise ValueError(problems.unknown("suite", name, known))
    measured = chosen(None if operations is None else list(operations))
    found = [problem for name in names for problem in _problems(name)] + list(own)
    return [Case(m.name, p, dtype) for p in found for m in measured if _belongs(m, p)]


def quick_cases(operations: Sequence[str] | None = None, dtype: str = "float32") -> list[Case]:
    """What `--quick` measures: convolution, its gradients and pooling, one layer of each kind."""
    allowed = {m.name for m in chosen(None if operations is None else list(operations))}
    found = []
    for name, batch in _QUICK_LAYERS:
        problem = problems.find(name).scaled(batch=batch)
        problem = replace(problem, name=name)
        found += [
            Case(operation, problem, dtype)
            for operation in _QUICK_OPERATIONS
            if operation in allowed and MEASURED[operation].takes(problem)
        ]
    return found
