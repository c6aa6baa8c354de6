"""Whole training steps on a GPU, written down once per shape of batch and repeated as CUDA graphs.

In a small network a kernel takes a few microseconds, and launching it from Python several times as
much. A graph holds all launches of a step, from the batch to the optimizer's update of every
parameter, with the addresses of one set of arrays. A step then copies the batch in, writes the
optimizer's rates, and makes one call of the driver. Its bits are those of the plain step, and
nothing of it waits for the GPU: losses and accuracies are copied aside there. (A NumPy batch is
pageable memory, which the driver has read before the call returns.)

The first step of a shape is plain: it compiles kernels and makes the optimizer's memory. The second
computes on the graph's arrays and is then written down; all further ones are repeated. What cannot
be written down stays plain, and FASTCNN_VERBOSE=1 says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fastcnn.functional.devices import assign, contiguous, is_on_device
from fastcnn.functional.graphs import Repeated, say

from .losses import Figure, copied_figures
from .optimizers import SGD, Adam, Optimizer
from .pairs import as_made
from .remains import Remains, own_classes
from .repeats import Repeats, Updated, kind_of_step
from .shapes import walk

if TYPE_CHECKING:
    from .sequential import Sequential

# Bytes that the arrays of one step may take, which are kept: a large GPU writes and reads so much
# in a tenth of a millisecond, the time of a few dozen launches. Beyond, launching is not what
# takes the time.
_MOST_BYTES = 256 << 20
# Shapes of batches that a network keeps graphs for: at most 1 GB of them. The second step of a
# shape is the first that may be one.
_KEPT, _WARM_UP = 4, 2


class StepGraph:
    """Forward pass, loss, backward pass and update for one shape of batch."""

    def __init__(self, network: Sequential, optimizer: Optimizer, x: Any) -> None:
        self.loss, self.optimizer, self.dtype = network.bound_loss(), optimizer, network.dtype
        self._updated = Updated(optimizer)
        memory = [array for arrays in optimizer.state.values() for array in arrays]
        self._work = Repeated([*network._parameters.values(), *memory], _MOST_BYTES)
        self._x = self._work.room(x.shape, network.dtype)
        outputs = walk(network.layers, x.shape)[-1]
        self._y = self._work.room((len(x), *outputs[1:]), network.dtype)
        self._figures: Mapping[str, Figure] = {}
        self._remains: Remains | None = None
        self._rates: Any = None

    @property
    def reason(self) -> str:
        """Why the step cannot be repeated; empty if it can."""
        return self._work.reason

    @property
    def launches(self) -> int:
        """Kernels of one step."""
        return self._work.launches

    def is_of(self, optimizer: Optimizer) -> bool:
        """Whether it updates with the same optimizer, and the same memory of it."""
        return self._updated.is_by(optimizer)

    def _targets(self, y: Any) -> Any:
        """Targets for `_y`, where they are; ValueError, TypeError as in the plain step.

        In C order, as x must be, before anything follows their streams: whoever copies them does
        so there, and a copy that is made later would be read too early.
        """
        shape = tuple(self._y.shape)
        return contiguous(self.loss.placed(self.loss.targets(y, shape, self.dtype), self._y))

    def first(self, network: Sequential, x: Any, y: Any) -> Mapping[str, Figure] | None:
        """Take the step on the arrays that are kept, then write it down; None: only a plain one."""
        optimizer = self.optimizer
        network.captured = False  # or the gradients would be copied, in the graph too

        def step() -> Mapping[str, Figure]:
            z, p = network._forward(self._x, True)
            figures = self.loss.figures(z, p, self._y)
            network._backward_parameters(self.loss, self.loss.gradient(z, p, self._y))
            optimizer.step(network._parameters, network.gradients(), network.backend)
            return figures

        x, targets = contiguous(x), self._targets(y)
        if tuple(targets.shape) != tuple(self._y.shape):
            return None
        with self._work.after(*filter(is_on_device, (x, targets))):
            assign(self._x, x)
            assign(self._y, targets)
            figures = self._work.first(step)
            found = copied_figures(figures)
            iterations = optimizer.iterations
            optimizer.iterations -= 1  # the same step, once more
            self._figures = figures
            try:
                if not self.reason and len(self._work.moved) != 1:
                    self._work.reason = "more than the optimizer's rates comes from the host"
                if not self.reason:
                    self._work.record(step)
            finally:
                optimizer.iterations = iterations
        if not self.reason:
            (self._rates,) = self._work.moved
            self._remains = Remains(network)
        return found

    def again(self, x: Any, y: Any) -> Mapping[str, Figure] | None:
        """The step by its graph; None for targets that only the plain step can judge."""
        x, targets = contiguous(x), self._targets(y)
        if tuple(targets.shape) != tuple(self._y.shape):
            return None
        assert self._remains is not None
        self.optimizer.iterations += 1
        with self._work.after(*filter(is_on_device, (x, targets))):
            assign(self._x, x)
            assign(self._y, targets)
            assign(self._rates, np.array(self.optimizer.rates(), self.dtype))
            self._work.again()
            found = copied_figures(self._figures)
        self._remains.put_back(lambda gradient: gradient)
        return found


class StepGraphs:
    """A network's graphs, by shape of batch; never copied or saved along with it."""

    def __init__(self) -> None:
        self._steps: Repeats[StepGraph] = Repeats(_WARM_UP, _KEPT)

    def step(self, network: Sequential, x: Any, y: Any) -> Mapping[str, Figure] | None:
        """A training step on the arrays of a graph; None where the plain step must be taken."""
        optimizer = network.optimizer
        if network.backend != "cuda" or optimizer is None or not _could(network, optimizer, x):
            return None
        kind = kind_of_step(network, tuple(x.shape), id(optimizer))
        if kind is None:
            return None
        graph = self._steps.find(kind)
        if graph is not None and not graph.is_of(optimizer):
            graph = None
            self._steps.forget(kind)
        if graph is not None:
            figures = graph.again(x, y)
            network.captured = figures is not None
            return figures
        if not self._steps.due(kind) or not optimizer.state.keys() >= network._parameters.keys():
            return None
        graph = StepGraph(network, optimizer, x)
        figures = graph.first(network, x, y)
        if figures is not None:
            self._keep(kind, graph)
        network.captured = figures is not None and not graph.reason
        return figures

    def _keep(self, kind: tuple[Any, ...], graph: StepGraph) -> None:
        about = f"training steps of batches {kind[0]}"
        if graph.reason:
            say(f"{about}: no CUDA graph, {graph.reason}")
            self._steps.refuse(kind)
        else:
            say(f"{about}: a CUDA graph of {graph.launches} launches")
            self._steps.keep(kind, graph)


def _could(network: Sequential, optimizer: Optimizer, x: Any) -> bool:
    """Whether such a network's steps can be graphs at all."""
    return (
        network.built
        and bool(network._parameters)
        and all(layer.backend == "cuda" for layer in network._every)
        and type(optimizer) in (SGD, Adam)  # whose `_update` does nothing besides
        and own_classes(network)
        and all(map(as_made, network._every))
        and (type(x) is np.ndarray or is_on_device(x))
        and str(x.dtype).removeprefix("torch.") == network.dtype.name
        and len(x) > 0
    )
