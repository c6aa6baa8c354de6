"""Losses by name, bound to a network's last activation; labels and accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn.arguments import one_of
from fastcnn.functional.devices import (
    copied,
    count_right,
    is_on_device,
    one_hot,
    reshaped,
    to_device,
    to_host,
)
from fastcnn.layers import Layer, Sigmoid, Softmax
from fastcnn.layers.backends import operations

Array = np.ndarray

# Name of the loss -> the activation whose logits it can start from.
_FUSES_WITH: dict[str, type[Layer] | None] = {
    "binary_cross_entropy": Sigmoid,
    "categorical_cross_entropy": Softmax,
    "half_squared_error": None,
}


def check_loss(loss: str | None) -> str | None:
    """Return `loss` if it is None or a known name; ValueError otherwise."""
    return None if loss is None else one_of(loss, "loss", _FUSES_WITH)


class LossOnDevice:
    """A loss that has not been waited for; `float` waits."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def __float__(self) -> float:
        return float(to_host(self._loss))

    def copied(self) -> LossOnDevice:
        """The same loss in memory of its own."""
        return LossOnDevice(copied(self._loss))


class AccuracyOnDevice:
    """An accuracy, as `accuracy` has it, that has not been waited for; `float` waits."""

    def __init__(self, right: Any, shape: tuple[int, ...]) -> None:
        self._right, self._shape = right, shape

    def __float__(self) -> float:
        rows, answers, other_rows = (int(n) for n in to_host(self._right))
        one_answer = len(self._shape) == 2 and self._shape[1] > 1 and other_rows == 0
        return rows / self._shape[0] if one_answer else answers / prod(self._shape)

    def copied(self) -> AccuracyOnDevice:
        """The same accuracy in memory of its own."""
        return AccuracyOnDevice(copied(self._right), self._shape)


# float(figure) is its value.
Figure = float | LossOnDevice | AccuracyOnDevice


def copied_figures(figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Figures that stay as they are whatever is computed next; does not wait for a GPU."""
    return {name: f if isinstance(f, float) else f.copied() for name, f in figures.items()}


@dataclass(frozen=True)
class BoundLoss:
    """A loss as one network uses it: from its outputs, or from the logits before them.

    Attributes
    ----------
    name : str
        "binary_cross_entropy", "categorical_cross_entropy" or "half_squared_error".
    activation : Layer or None
        The network's last activation, wherever it stands.
    backend : str
        Who computes it.
    """

    name: str
    activation: Layer | None
    backend: str

    @property
    def ops(self) -> ModuleType:
        """The module that computes the loss."""
        return operations(self.backend)

    @property
    def from_logits(self) -> bool:
        """Whether the gradient starts from the logits, past the activation's own derivative.

        Document 001 derives it: dL/dA2 dA2/dZ2 = (A2 - y)/(A2 (1 - A2)) A2 (1 - A2) = A2 - y,
        over m images. Multiplied out, the factors cancel and (A2 - y)/m stays exact where A2
        rounds to 0 or 1 and the factors themselves are 0/0. A softmax before the categorical
        cross-entropy cancels in the same way.
        """
        fuses = _FUSES_WITH[self.name]
        if fuses is None or not isinstance(self.activation, fuses):
            return False
        # The categorical loss takes rows of classes; a softmax along another axis is not its own.
        return not isinstance(self.activation, Softmax) or self.activation.axis in (-1, 1)

    @property
    def has_accuracy(self) -> bool:
        """Whether the outputs are probabilities, of which a right or wrong answer can be read."""
        return self.name != "half_squared_error" or isinstance(self.activation, Sigmoid | Softmax)

    def targets(self, y: Any, outputs_shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
        """Labels in the shape and type that the loss wants.

        (N,) becomes (N, 1) where the outputs are (N, 1); bools, ints and other floats become
        `dtype`, but labels (N,) or (N, 1) of the categorical loss stay integer class numbers.

        Raises
        ------
        TypeError
            If y holds no numbers.
        ValueError
            If a label of a cross-entropy is not from 0 to 1, or no class.
        """
        if is_on_device(y):
            return self._targets_on_device(y, outputs_shape, dtype)
        y = np.asarray(y)
        if y.dtype.kind not in "biuf":
            raise TypeError(f"labels must be numbers or bools, but got {y.dtype}")
        if self.name == "categorical_cross_entropy" and y.dtype.kind in "biu":
            labels = y[:, 0] if y.shape == (outputs_shape[0], 1) != outputs_shape else y
            if labels.ndim == 1:
                return labels.astype(np.int64) if labels.dtype == bool else labels
        if self.name == "categorical_cross_entropy" and y.ndim == 1:
            raise ValueError(
                f"class numbers must be integers, but got {y.dtype}: pass y.astype(int), or rows "
                "of one target per class"
            )
        if outputs_shape == (*y.shape, 1):
            y = y.reshape(outputs_shape)
        if self.name != "half_squared_error" and not np.all((y >= 0) & (y <= 1)):
            wrong = y[~((y >= 0) & (y <= 1))][0]
            raise ValueError(
                f"labels of the {self.name} must be from 0 to 1, but got {wrong}; for two classes "
                "a and b use y == b"
            )
        return y.astype(dtype, copy=False)

    def _targets_on_device(self, y: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        """As `targets`; the numbers themselves are not looked at, which would mean waiting."""
        kind = str(y.dtype).removeprefix("torch.")
        whole = "int" in kind
        if self.name == "categorical_cross_entropy" and whole:
            return one_hot(reshaped(y, (shape[0],)), shape[1], dtype)
        if kind != dtype.name:
            raise TypeError(f"labels on a GPU must be {dtype} or class numbers, but got {kind}")
        return reshaped(y, shape) if shape == (*y.shape, 1) else y

    def placed(self, targets: Array, outputs: Any) -> Any:
        """What `targets` gave, where the outputs are: on a GPU class numbers are rows."""
        if not is_on_device(outputs) or is_on_device(targets):
            return targets
        if targets.dtype.kind == "f":
            return to_device(targets)
        classes = outputs.shape[1]
        bad = (targets < 0) | (targets >= classes)
        if bad.any():
            raise ValueError(
                f"labels must be in 0..{classes - 1}, but got {targets[bad][0]} (y[{bad.argmax()}])"
            )
        dtype = str(outputs.dtype).removeprefix("torch.")
        return one_hot(to_device(targets.astype(np.int64)), classes, dtype)

    def value(self, z: Array, p: Array, y: Array) -> Figure:
        """The mean loss of logits z and outputs p = activation(z)."""
        if self.from_logits:
            loss = getattr(self.ops, f"{self.name}_with_logits")(z, y)
        else:
            loss = getattr(self.ops, self.name)(p, y)
        return LossOnDevice(loss) if is_on_device(loss) else float(loss)

    def figures(self, z: Array, p: Array, y: Array) -> dict[str, Figure]:
        """The mean loss of logits z and outputs p = activation(z), and the accuracy if any.

        Figures of arrays on a GPU stay there until `float` is asked of them.
        """
        logs = {"loss": self.value(z, p, y)}
        return logs | {"accuracy": accuracy(p, y)} if self.has_accuracy else logs

    def gradient(self, z: Array, p: Array, y: Array) -> Array:
        """Gradient of the mean loss with respect to z if `from_logits`, else to p."""
        if self.from_logits:
            return getattr(self.ops, f"{self.name}_with_logits_grad")(z, y)
        return getattr(self.ops, f"{self.name}_grad")(p, y)


def accuracy(p: Array, y: Array) -> Figure:
    """The part of the images whose outputs p answer the targets y rightly.

    One output: p >= 0.5 means 1; several: the largest is the answer. Several outputs that answer
    several yes-or-no questions (targets with other than one 1 per row) count each by itself.
    """
    if is_on_device(p):
        return AccuracyOnDevice(count_right(p, y), tuple(p.shape))
    if y.dtype.kind in "iu":
        right = p.argmax(axis=1) == y
    elif p.ndim == 2 and p.shape[1] > 1 and np.all(y.sum(axis=1) == 1):
        right = p.argmax(axis=1) == y.argmax(axis=1)
    else:
        right = (p >= 0.5) == (y >= 0.5)
    # np.mean takes 4 us, which is more than a small network's loss
    return int(np.count_nonzero(right)) / right.size
