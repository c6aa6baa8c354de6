"""Losses by name, bound to a network's last activation; labels and accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from fastcnn.arguments import one_of
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

    def value(self, z: Array, p: Array, y: Array) -> float:
        """The mean loss of logits z and outputs p = activation(z)."""
        if self.from_logits:
            return float(getattr(self.ops, f"{self.name}_with_logits")(z, y))
        return float(getattr(self.ops, self.name)(p, y))

    def figures(self, z: Array, p: Array, y: Array) -> dict[str, float]:
        """The mean loss of logits z and outputs p = activation(z), and the accuracy if any."""
        logs = {"loss": self.value(z, p, y)}
        return logs | {"accuracy": accuracy(p, y)} if self.has_accuracy else logs

    def gradient(self, z: Array, p: Array, y: Array) -> Array:
        """Gradient of the mean loss with respect to z if `from_logits`, else to p."""
        if self.from_logits:
            return getattr(self.ops, f"{self.name}_with_logits_grad")(z, y)
        return getattr(self.ops, f"{self.name}_grad")(p, y)


def accuracy(p: Array, y: Array) -> float:
    """The part of the images whose outputs p answer the targets y rightly.

    One output: p >= 0.5 means 1; several: the largest is the answer. Several outputs that answer
    several yes-or-no questions (targets with other than one 1 per row) count each by itself.
    """
    if y.dtype.kind in "iu":
        right = p.argmax(axis=1) == y
    elif p.ndim == 2 and p.shape[1] > 1 and np.all(y.sum(axis=1) == 1):
        right = p.argmax(axis=1) == y.argmax(axis=1)
    else:
        right = (p >= 0.5) == (y >= 0.5)
    # np.mean takes 4 us, which is more than a small network's loss
    return int(np.count_nonzero(right)) / right.size
