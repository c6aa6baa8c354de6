"""Optimizers: the rule that turns gradients into new parameters, with its memory per parameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fastcnn.arguments import one_of, real
from fastcnn.functional.devices import zeros
from fastcnn.functional.update import adam_rates
from fastcnn.layers.backends import operations

Array = np.ndarray


def _within(value: float, name: str, low: float, below: float) -> float:
    number = real(value, name)
    if not low <= number < below:
        raise ValueError(f"{name} must be from {low:g} to below {below:g}, but got {value!r}")
    return number


class Optimizer:
    """Updates parameters in place.

    Attributes
    ----------
    learning_rate : float
        May be changed between steps.
    iterations : int
        Steps taken.
    state : dict of str to tuple of ndarray
        What the rule remembers of each parameter, under the parameter's name.
    """

    # How many arrays, zeros at first, the rule keeps for each parameter.
    _memory = 0

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = _within(learning_rate, "learning_rate", 0, np.inf)
        self.iterations = 0
        self.state: dict[str, tuple[Array, ...]] = {}

    def step(
        self,
        parameters: Mapping[str, Array],
        gradients: Mapping[str, Array],
        backend: str = "auto",
    ) -> None:
        """Change every parameter in place, once.

        Parameters
        ----------
        parameters : mapping of str to ndarray, float32 or float64
            `layer.parameters`, `network.parameters()`, or your own; the names key the memory, so
            use one optimizer per layer, or names that tell the layers apart.
        gradients : mapping of str to ndarray
            The same names, shapes and types.
        backend : {"auto", "cpu", "cuda", "reference"}
            Who computes the step.

        Raises
        ------
        ValueError
            If a gradient is missing, shapes differ, or the memory is of other parameters.
        TypeError
            If types differ.
        """
        missing = [name for name in parameters if name not in gradients]
        if missing:
            raise ValueError(
                f"no gradient for {', '.join(missing)}; there are gradients for "
                f"{', '.join(gradients) or 'nothing'}"
            )
        ops = operations(backend)
        for name, w in parameters.items():
            if name not in self.state:
                self.state[name] = tuple(zeros(w.shape, w.dtype, w) for _ in range(self._memory))
            for kept in self.state[name]:
                if kept.shape != w.shape or kept.dtype != w.dtype:
                    raise ValueError(
                        f"this optimizer remembers {name!r} as {kept.dtype} of shape {kept.shape}, "
                        f"but now got {w.dtype} of shape {w.shape}: make a new optimizer for "
                        "other parameters"
                    )
        self.iterations += 1
        for name, w in parameters.items():
            self._update(ops, w, gradients[name], *self.state[name])

    def _update(self, ops: Any, w: Array, dw: Array, *memory: Array) -> None:
        raise NotImplementedError

    def rates(self) -> tuple[float, ...]:
        """The numbers of the current step as its kernel takes them."""
        raise NotImplementedError

    def _settings(self) -> dict[str, Any]:
        return {"learning_rate": self.learning_rate}

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self._settings().items())
        return f"{type(self).__name__}({settings})"


class SGD(Optimizer):
    """Gradient descent, the documents' theta <- theta - eta dtheta; with momentum if asked for.

    v <- momentum v + dw; w <- w - eta v, or, after Nesterov, w <- w - eta (dw + momentum v).

    Parameters
    ----------
    learning_rate : float
        eta.
    momentum : float
        From 0 (none) to below 1.
    nesterov : bool
        Look ahead along the velocity; needs momentum.

    Raises
    ------
    ValueError
        Numbers out of range.
    """

    def __init__(
        self, learning_rate: float = 0.01, momentum: float = 0.0, nesterov: bool = False
    ) -> None:
        super().__init__(learning_rate)
        self.momentum = _within(momentum, "momentum", 0, 1)
        self.nesterov = bool(nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=True needs a momentum above 0")
        self._memory = 1 if self.momentum else 0

    def _update(self, ops: Any, w: Array, dw: Array, *memory: Array) -> None:
        if memory:
            ops.momentum_step(w, dw, *memory, self.learning_rate, self.momentum, self.nesterov)
        else:
            ops.sgd_step(w, dw, self.learning_rate)

    def rates(self) -> tuple[float, ...]:
        if self._memory:
            return self.learning_rate, self.momentum, self.nesterov
        return (self.learning_rate,)

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {"momentum": self.momentum, "nesterov": self.nesterov}


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1); see `fastcnn.functional.adam_step`.

    Parameters
    ----------
    learning_rate, beta_1, beta_2, epsilon : float

    Raises
    ------
    ValueError
        Numbers out of range.
    """

    _memory = 2

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__(learning_rate)
        self.beta_1 = _within(beta_1, "beta_1", 0, 1)
        self.beta_2 = _within(beta_2, "beta_2", 0, 1)
        self.epsilon = _within(epsilon, "epsilon", 0, np.inf)

    def _update(self, ops: Any, w: Array, dw: Array, *memory: Array) -> None:
        m, v = memory
        rates = (self.learning_rate, self.beta_1, self.beta_2, self.epsilon)
        ops.adam_step(w, dw, m, v, self.iterations, *rates)

    def rates(self) -> tuple[float, ...]:
        return adam_rates(
            self.iterations, self.learning_rate, self.beta_1, self.beta_2, self.epsilon
        )

    def _settings(self) -> dict[str, Any]:
        return super()._settings() | {
            "beta_1": self.beta_1,
            "beta_2": self.beta_2,
            "epsilon": self.epsilon,
        }


_BY_NAME: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}


def optimizer_of(optimizer: str | Optimizer) -> Optimizer:
    """An optimizer itself, or a new one of the given name ("sgd", "adam") with its defaults.

    Raises
    ------
    ValueError, TypeError
        For an unknown name, or something else.
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if not isinstance(optimizer, str):
        call = f": call it, {optimizer.__name__}()" if isinstance(optimizer, type) else ""
        raise TypeError(f"optimizer must be a name or an Optimizer, but got {optimizer!r}{call}")
    # Keras writes "SGD" and "Adam" as well.
    return _BY_NAME[one_of(optimizer.lower(), "optimizer", _BY_NAME)]()
