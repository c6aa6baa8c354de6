"""Whole training steps of small networks, recorded once per shape of batch and replayed.

In a network of fifteen parameters a step's arithmetic takes 5 us and the calls around it 200. A
plan holds one batch's arrays, from the images to the gradients, and the tape of all launches
between them; a step then copies the batch in, runs the tape, and copies the gradients out. Its bits
are those of the plain step.

A tape repeats launches and nothing else. So a plan is kept only if the tape gives the plain step's
bits after every array between input and output has been filled with NaN: had NumPy, or a layer of
somebody's own, computed one of them, the NaN would show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.functional.replay import recording

from .losses import accuracy
from .optimizers import SGD, Adam, Optimizer
from .pairs import as_made
from .remains import Remains, own_classes
from .repeats import Repeats, Updated, kind_of_step

if TYPE_CHECKING:
    from .sequential import Sequential

Array = np.ndarray

# Steps of one shape before one is recorded: compiling a plan's entries takes up to a second.
_WARM_UP = 8
# Bytes of the arrays between: with more, the arithmetic is what takes the time.
_MOST_BYTES = 4 << 20
# Shapes of batches that a network keeps plans for.
_KEPT = 8


class _Unrepeatable(Exception):
    """This step cannot be repeated from a tape."""


class StepPlan:
    """Forward pass, loss and backward pass for one shape of batch."""

    def __init__(self, network: Sequential, x: Array, y: Array) -> None:
        if not own_classes(network):
            raise _Unrepeatable  # whose methods may do more than launch
        self.loss = network.bound_loss()
        self.x = x.copy()
        with recording() as tape:
            z, p = network._forward(self.x, True)
            self.p, self.images = p, np.arange(len(p))
            targets = self.loss.targets(y, p.shape, network.dtype)
            self.y = targets.copy() if targets.dtype.kind == "f" else np.empty(p.shape, p.dtype)
            if not self._put(targets):
                raise _Unrepeatable
            value = float(self.loss.value(z, p, self.y))
            if not tape.launches:
                raise _Unrepeatable  # the reference computes, or nothing is compiled
            # where a loss's last launch puts its mean (kernels/cpu/loss.py)
            self.mean = tape.launches[-1].args[-1]
            network._backward_parameters(self.loss, self.loss.gradient(z, p, self.y))
        if tape.conditional:
            raise _Unrepeatable
        self.tape = tape
        self.remains = Remains(network)
        self._gradients = network.gradients()
        self._check(network, value)
        self._updates: _Updates | None = None

    def _check(self, network: Sequential, value: float) -> None:
        """_Unrepeatable unless the tape alone gives the loss and the gradients."""
        fixed = [self.x, self.y, *network._parameters.values()]
        # the results too, which NumPy might have made of what the launches wrote
        scratch = [*self.tape.scratch(*fixed), self.p, *self._gradients.values()]
        if sum(a.nbytes for a in scratch) > _MOST_BYTES:
            raise _Unrepeatable
        found = [gradient.tobytes() for gradient in self._gradients.values()]
        finite = all(np.isfinite(gradient).all() for gradient in self._gradients.values())
        before = [array.copy() for array in scratch]
        for array in scratch:
            array.fill(np.nan)
        self.tape.run()
        same = found == [gradient.tobytes() for gradient in self._gradients.values()]
        if not (finite and same and self._value() == value):
            # one of them may be a table that others use
            for array, content in zip(scratch, before, strict=True):
                array[...] = content
            raise _Unrepeatable

    def _put(self, targets: Array) -> bool:
        """Put targets into the tape's array, class numbers as rows of 0 and one 1.

        False, and nothing done, for class numbers out of range: the plain step says so.
        """
        if targets.dtype.kind == "f":
            self.y[...] = targets
            return True
        if targets.min() < 0 or targets.max() >= self.p.shape[1]:
            return False
        self.y.fill(0)
        self.y[self.images, targets] = 1
        return True

    def _value(self) -> float:
        return float(self.p.dtype.type(self.mean[0]))

    def run(self, x: Array, y: Array, all_figures: bool) -> dict[str, float] | None:
        """The step's loss, and its accuracy if all figures are wanted; sets layers' gradients.

        None for what only the plain step can do.
        """
        targets = self.loss.targets(y, self.p.shape, self.p.dtype)
        if not self._put(targets):
            return None
        self.x[...] = x
        self.tape.run()
        self.remains.put_back(np.ndarray.copy)
        logs = {"loss": self._value()}
        if all_figures and self.loss.has_accuracy:
            logs["accuracy"] = float(accuracy(self.p, targets))
        return logs

    def update(self, optimizer: Optimizer, parameters: Mapping[str, Array]) -> None:
        """The optimizer's step with the gradients of `run`, from a tape of its own."""
        if type(optimizer) not in (SGD, Adam):  # whose `_update` may do more than launch
            optimizer.step(parameters, self._gradients)
        elif self._updates is not None and self._updates.updated.is_by(optimizer):
            self._updates.run()
        else:
            self._updates = _Updates(optimizer, parameters, self._gradients)


class _Updates:
    """One optimizer's updates of all parameters; making it does the first of them."""

    def __init__(
        self, optimizer: Optimizer, parameters: Mapping[str, Array], gradients: Mapping[str, Array]
    ) -> None:
        self.optimizer = optimizer
        with recording() as self.tape:
            optimizer.step(parameters, gradients)
        self.updated = Updated(optimizer)
        # an update's last argument is its rates (kernels/cpu/update.py)
        self.rates = [launch.args[-1] for launch in self.tape.launches]

    def run(self) -> None:
        self.optimizer.iterations += 1
        numbers = self.optimizer.rates()
        for rates in self.rates:
            rates[:] = numbers
        self.tape.run()


class StepPlans:
    """A network's plans, by shape of batch; never copied or saved along with it."""

    def __init__(self) -> None:
        self._steps: Repeats[StepPlan] = Repeats(_WARM_UP, _KEPT)

    def find(self, network: Sequential, x: Any, y: Any) -> StepPlan | None:
        """The plan for a batch, made after a few batches of its shape; None for the plain step."""
        if type(x) is not np.ndarray or type(y) is not np.ndarray or x.dtype != network.dtype:
            return None
        if not network.built or x.size == 0:
            return None
        if any(layer.backend == "cuda" for layer in network._every):
            return None
        if not all(map(as_made, network._every)):
            return None
        kind = kind_of_step(network, x.shape, y.shape, y.dtype)
        if kind is None:
            return None
        plan = self._steps.find(kind)
        if plan is None and self._steps.due(kind):
            try:
                plan = StepPlan(network, x, y)
            except _Unrepeatable:
                self._steps.refuse(kind)
            else:
                self._steps.keep(kind, plan)
        return plan
