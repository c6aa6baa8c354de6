"""Gradients held against central differences, in float64.

    numeric  = (L(v + eps) - L(v - eps)) / (2 eps)           for one number v at a time
    analytic = what the backward pass says of v
    right if   |analytic - numeric| <= atol + rtol |numeric|

For a function or a layer with output y, L = sum(y * dy) with a random dy, so that all of the
Jacobian counts. The error of `numeric` is about eps^2 |L'''| / 6 + 1e-16 |L| / eps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastcnn.arguments import real, whole

Array = np.ndarray


class GradcheckError(AssertionError):
    """A gradient that is not the function's derivative; the message names the worst entry."""


@dataclass(frozen=True)
class Entry:
    """One number and its two derivatives."""

    name: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    allowed: float

    @property
    def excess(self) -> float:
        """Disagreement in units of what is allowed; infinite if either is not finite."""
        difference = abs(self.analytic - self.numeric)
        return difference / self.allowed if np.isfinite(difference) else np.inf

    def __str__(self) -> str:
        index = ", ".join(str(i) for i in self.index)
        return (
            f"{self.name}[{index}]: analytic {self.analytic:.9g}, numeric {self.numeric:.9g}, "
            f"difference {abs(self.analytic - self.numeric):.2g} of {self.allowed:.2g} allowed"
        )


@dataclass(frozen=True)
class GradcheckReport:
    """What was checked; true if every entry is right. `str()` names the worst."""

    entries: int
    failures: int
    names: tuple[str, ...]
    worst: Entry | None

    def __bool__(self) -> bool:
        return self.failures == 0

    def __str__(self) -> str:
        of = f"of {self.entries} entries of {', '.join(self.names)}"
        if self.failures == 0:
            return f"gradients right: all {of}; worst {self.worst}"
        return (
            f"gradients wrong: {self.failures} {of}; worst {self.worst}. An input on a kink (ReLU "
            "at 0, a tie in max pooling) has no derivative: move it by more than eps"
        )


@dataclass(frozen=True)
class _Problem:
    """Numbers to vary, the loss to watch, and the derivatives that are claimed."""

    variables: dict[str, Array]
    loss: Callable[[], float]
    claimed: dict[str, Array]


def _float64(value: Any, name: str) -> Array:
    array = np.array(value)
    if array.dtype != np.float64:
        raise TypeError(
            f"gradcheck needs float64, as differences of 1e-6 drown in float32's rounding, but "
            f"{name} is {array.dtype}: pass {name}.astype(np.float64), and dtype='float64' to "
            "layers and networks"
        )
    return array


def _arrays(value: Any, names: Mapping[str, Array]) -> dict[str, Array]:
    """Gradients as returned, one array or several, under the names of what they belong to."""
    several = value if isinstance(value, tuple | list) else (value,)
    if len(several) != len(names):
        raise ValueError(f"expected {len(names)} gradients, one for each input, got {len(several)}")
    return dict(zip(names, (np.asarray(v) for v in several), strict=True))


def _of_function(
    function: Callable[..., Any], x: Any, gradient: Callable[..., Any], rng: np.random.Generator
) -> _Problem:
    inputs = list(x) if isinstance(x, tuple | list) else [x]
    names = ["x"] if len(inputs) == 1 else [f"x[{i}]" for i in range(len(inputs))]
    variables = {n: _float64(v, n) for n, v in zip(names, inputs, strict=True)}
    y = _float64(function(*variables.values()), "the function's result")
    dy = np.asarray(rng.standard_normal(y.shape))

    def loss() -> float:
        return float(np.sum(np.asarray(function(*variables.values())) * dy))

    return _Problem(variables, loss, _arrays(gradient(dy), variables))


def _of_layer(layer: Any, x: Any, y: Any, rng: np.random.Generator) -> _Problem:
    x = _float64(x, "x")
    if y is None:
        out = _float64(layer.forward(x), "the layer's output")
        dy = np.asarray(rng.standard_normal(out.shape))
        claimed = {"x": np.asarray(layer.backward(dy))}
    else:
        layer.loss_and_gradients(x, y)
        claimed = {}

    def loss() -> float:
        if y is None:
            return float(np.sum(np.asarray(layer.forward(x)) * dy))
        return float(layer.loss_and_gradients(x, y)[0])

    parameters, gradients = (_mapping(layer, n) for n in ("parameters", "gradients"))
    variables = {"x": x} if y is None else {}
    # Copies: the loss may run the backward pass, which overwrites gradients.
    claimed |= {name: np.array(value) for name, value in gradients.items()}
    return _Problem(variables | dict(parameters), loss, claimed)


def _mapping(layer: Any, name: str) -> Mapping[str, Array]:
    """A layer's `parameters` or `gradients`, whether attribute or method; none if it has none."""
    value = getattr(layer, name, {})
    return value() if callable(value) else value


def _entries(
    problem: _Problem, eps: float, atol: float, rtol: float, samples: int, rng: np.random.Generator
) -> Iterator[Entry]:
    for name, array in problem.variables.items():
        if name not in problem.claimed:
            raise ValueError(f"no gradient for {name}, only for {', '.join(problem.claimed)}")
        claimed = problem.claimed[name]
        if claimed.shape != array.shape:
            raise GradcheckError(
                f"the gradient of {name} has shape {claimed.shape}, but {name} has {array.shape}"
            )
        chosen = rng.permutation(array.size)[:samples]
        for index in zip(*np.unravel_index(np.sort(chosen), array.shape), strict=True):
            value = array[index]
            array[index] = value + eps
            above = problem.loss()
            array[index] = value - eps
            numeric = (above - problem.loss()) / (2 * eps)
            array[index] = value
            place = tuple(int(i) for i in index)
            yield Entry(name, place, float(claimed[index]), numeric, atol + rtol * abs(numeric))


def gradcheck(
    target: Any,
    x: Any,
    gradient: Callable[..., Any] | None = None,
    *,
    y: Any = None,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    samples: int = 200,
    seed: int = 0,
    raise_exception: bool = True,
) -> GradcheckReport:
    """Check gradients against central differences.

    Of a function::

        gradcheck(
            lambda x: conv2d(x, w), x, lambda dy: conv2d_input_grad(dy, w, x.shape)
        )

    of a layer or a network (anything with `forward` and `backward`; its `parameters` and
    `gradients` are checked too), or of a network with its loss::

        gradcheck(Conv2D(4, 3, dtype="float64"), x)
        gradcheck(networks.two_block(dtype="float64"), x, y=labels)

    Parameters
    ----------
    target : callable, layer or network
    x : ndarray, or tuple of ndarrays for a function of several, float64
        Away from kinks and ties.
    gradient : callable, optional
        For a function: takes dy, returns the gradient of sum(y * dy) for each of x.
    y : array_like, optional
        Targets: check `target.loss_and_gradients(x, y)`, its parameters alone.
    eps, atol, rtol : float
        The step, and what is allowed: |analytic - numeric| <= atol + rtol |numeric|.
    samples : int
        Entries checked of each array, chosen at random from larger ones.
    seed : int
        Of dy and of that choice.
    raise_exception : bool
        False returns the report whatever it says.

    Returns
    -------
    GradcheckReport
        True if all is right; prints the worst entry.

    Raises
    ------
    GradcheckError
        A gradient is wrong, or of the wrong shape; names the worst entry.
    TypeError
        Something is not float64.
    ValueError
        A gradient is missing, or a number out of range.
    """
    if not real(eps, "eps") > 0:
        raise ValueError(f"eps must be above 0, but got {eps!r}")
    samples = whole(samples, "samples")
    rng = np.random.default_rng(seed)
    if gradient is not None:
        problem = _of_function(target, x, gradient, rng)
    elif hasattr(target, "backward"):
        problem = _of_layer(target, x, y, rng)
    else:
        raise TypeError(
            "pass a layer (with forward and backward), or a function and its gradient: "
            "gradcheck(function, x, gradient)"
        )
    entries = list(_entries(problem, eps, atol, rtol, samples, rng))
    failures = sum(not entry.excess <= 1 for entry in entries)
    worst = max(entries, key=lambda entry: entry.excess, default=None)
    report = GradcheckReport(len(entries), failures, tuple(problem.variables), worst)
    if raise_exception and not report:
        raise GradcheckError(str(report))
    return report
