"""A network: layers one after the other, with a loss and an optimizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fastcnn.functional.devices import copied, joined, part
from fastcnn.layers import Layer

from . import fitting
from .callbacks import Callback
from .history import History
from .losses import BoundLoss, Figure, check_loss
from .optimizers import SGD, Optimizer, optimizer_of
from .stack import Stack
from .step_graphs import StepGraphs
from .step_plans import StepPlans
from .summary import table

Array = np.ndarray


class Sequential(Stack):
    """Layers one after the other.

    Parameters
    ----------
    layers : sequence of Layer
        At least one, none of them twice.
    loss : {"binary_cross_entropy", "categorical_cross_entropy", "half_squared_error"}, optional
    optimizer : Optimizer, "sgd" or "adam", optional
    input_shape : tuple of int, optional
        Of one image or row, without the batch axis: builds the parameters at once. Otherwise the
        first forward pass builds them for the images it gets.
    seed : int, numpy.random.Generator or None
        For the initial parameters of layers without a seed of their own.
    dtype : "float32" or "float64", optional
        For all layers, whatever they were made with.
    backend : {"auto", "cpu", "cuda", "reference"}, optional
        Likewise.
    name : str, optional
        Shown by `summary`.
    default_input_shape : tuple of int, optional
        As `input_shape`, but used only when the parameters are asked for before any forward pass.

    Attributes
    ----------
    layers : tuple of Layer
    built : bool
        Whether the parameters exist.
    history : History or None
        Of the latest `fit`, also of one that was interrupted.
    stop_training : bool
        A callback sets it to end `fit` after the epoch.
    captured : bool
        Whether the latest training step was done on the arrays of a CUDA graph; see docs/cuda.md.

    Raises
    ------
    TypeError, ValueError
        No layers, a layer twice, layers of different types, or names that do not exist.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        *,
        loss: str | None = None,
        optimizer: str | Optimizer | None = None,
        input_shape: tuple[int, ...] | None = None,
        seed: int | np.random.Generator | None = 0,
        dtype: npt.DTypeLike | None = None,
        backend: str | None = None,
        name: str | None = None,
        default_input_shape: tuple[int, ...] | None = None,
    ) -> None:
        self.loss = check_loss(loss)
        self.optimizer = None if optimizer is None else optimizer_of(optimizer)
        self.history: History | None = None
        self.stop_training = False
        self.captured = False
        self._plans = StepPlans()
        self._graphs = StepGraphs()
        super().__init__(
            layers,
            input_shape=input_shape,
            seed=seed,
            dtype=dtype,
            backend=backend,
            name=name,
            default_input_shape=default_input_shape,
        )

    def summary(self, print_fn: Callable[[str], Any] = print) -> None:
        """Print layers, output shapes and parameter counts, one line per call of `print_fn`."""
        self._need_parameters()
        for line in table(self.name or "sequential", self.layers, (None, *self._input_shape)):
            print_fn(line)

    def _backward_parameters(self, loss: BoundLoss, dy: Any) -> None:
        """Gradients of parameters alone, from `loss.gradient`."""
        with_parameters = [n for n, layer in enumerate(self.layers) if layer.parameters]
        first = min(with_parameters, default=len(self.layers))
        for number in range(len(self.layers) - 1, first - 1, -1):
            layer = self.layers[number]
            logits = loss.from_logits and layer is self.layers[-1]
            if logits and layer is loss.activation:
                continue
            backward = layer.backward_linear if logits else layer.backward
            dy = backward(dy, input_grad=number > first)

    def bound_loss(self) -> BoundLoss:
        """The loss as this network uses it; ValueError if it has none."""
        if self.loss is None:
            raise ValueError("the network has no loss: pass loss= to Sequential or to compile()")
        return BoundLoss(self.loss, self._activation(), self.backend)

    def _losses_and_backward(self, x: Any, y: Any) -> dict[str, Figure]:
        loss = self.bound_loss()
        self.captured = False
        z, p = self._forward(x, training=True)
        targets = loss.placed(loss.targets(y, tuple(p.shape), self.dtype), p)
        figures = loss.figures(z, p, targets)
        self._backward_parameters(loss, loss.gradient(z, p, targets))
        return figures

    def loss_and_gradients(self, x: Any, y: Any) -> tuple[float, dict[str, Array]]:
        """The mean loss of a batch and the gradients of all parameters.

        A sigmoid before the binary cross-entropy, or a softmax before the categorical one, is
        passed over: the gradient starts at the logits as (A2 - y)/m, as document 001 derives, and
        is exact however saturated they are. The half squared error goes through the activation's
        own derivative, as document 003 derives.

        Parameters
        ----------
        x : array_like, (N, ...), of the network's dtype
        y : array_like
            Labels or targets: (N,) serves for outputs (N, 1), bools and ints are converted;
            for the categorical loss class numbers (N,) or rows (N, classes).

        Returns
        -------
        loss : float
        gradients : dict of str to ndarray
            As `gradients()`.

        Raises
        ------
        TypeError, ValueError
            As `forward`; labels that fit neither outputs nor loss; no loss.
        """
        plan = self._plans.find(self, x, y)
        figures = None if plan is None else plan.run(x, y, all_figures=False)
        found = self._losses_and_backward(x, y) if figures is None else figures
        return float(found["loss"]), self.gradients()

    def gradients(self) -> dict[str, Array]:
        found = super().gradients()
        # a graph's next run writes to the same arrays
        return {n: copied(g) for n, g in found.items()} if self.captured else found

    def compile(self, optimizer: str | Optimizer | None = None, loss: str | None = None) -> None:
        """Set optimizer and loss; None leaves what there is."""
        if optimizer is not None:
            self.optimizer = optimizer_of(optimizer)
        if loss is not None:
            self.loss = check_loss(loss)

    def train_on_batch(self, x: Any, y: Any) -> dict[str, float]:
        """One step of the optimizer; returns "loss" (and "accuracy") before it.

        Without an optimizer it is the documents' plain gradient descent, `SGD()`.
        """
        return {name: float(figure) for name, figure in self._step(x, y).items()}

    def _step(self, x: Any, y: Any) -> Mapping[str, Figure]:
        """`train_on_batch` without waiting for a GPU."""
        if self.optimizer is None:
            self.optimizer = SGD()
        graphed = self._graphs.step(self, x, y)
        if graphed is not None:
            return graphed
        plan = self._plans.find(self, x, y)
        figures = None if plan is None else plan.run(x, y, all_figures=True)
        if plan is not None and figures is not None:
            self.captured = False
            plan.update(self.optimizer, self._parameters)
            return figures
        found = self._losses_and_backward(x, y)
        self.optimizer.step(self.parameters(), self.gradients(), self.backend)
        return found

    def fit(
        self,
        x: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int | None = 32,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        seed: int | np.random.Generator | None = 0,
        callbacks: Sequence[Callback] | None = None,
        verbose: str | int = "auto",
        optimizer: str | Optimizer | None = None,
    ) -> History:
        """Train.

        Parameters
        ----------
        x, y : array_like
            As in `loss_and_gradients`.
        epochs : int
        batch_size : int or None
            Images per step; None for all at once.
        validation_data : (x, y), optional
            Evaluated after every epoch.
        shuffle : bool
            Go through the images in another order in each epoch.
        seed : int, numpy.random.Generator or None
            For the order.
        callbacks : sequence of Callback, optional
        verbose : "auto", 0, 1 or 2
            0 is silent, 2 a line per epoch; "auto" and 1 a progress bar on a terminal (with rich
            installed), lines elsewhere.
        optimizer : Optimizer, "sgd" or "adam", optional
            As in `compile`.

        Returns
        -------
        History
            Also at `self.history` at once, so that an interrupt leaves the finished epochs there
            and usable parameters here.

        Raises
        ------
        TypeError, ValueError
            As `loss_and_gradients`; no images, or numbers out of range.
        """
        self.compile(optimizer)
        options = (epochs, batch_size, validation_data, shuffle, seed, callbacks, verbose)
        return fitting.fit(self, x, y, *options)

    def predict(self, x: Any, batch_size: int | None = None) -> Array:
        """Outputs for all images; keeps no activations.

        Parameters
        ----------
        x : array_like, (N, ...), of the network's dtype
        batch_size : int or None
            Images at a time; None for all at once.

        Raises
        ------
        TypeError, ValueError
            As `forward`.
        """
        x = self._accept(x)
        parts = [
            self.forward(part(x, rows), training=False)
            for rows in fitting.batches(len(x), batch_size)
        ]
        return joined(parts) if parts else self.forward(x, training=False)

    def evaluate(self, x: Any, y: Any, batch_size: int | None = None) -> dict[str, float]:
        """Mean "loss" over all images and, for outputs that are probabilities, "accuracy".

        Parameters and errors are those of `loss_and_gradients`, and `predict`'s batch_size.
        """
        x, y = fitting.check_data(self, x, y)
        loss = self.bound_loss()
        means = fitting.RunningMeans()
        for rows in fitting.batches(len(x), batch_size):
            z, p = self._forward(part(x, rows), training=False)
            targets = loss.placed(loss.targets(part(y, rows), tuple(p.shape), self.dtype), p)
            means.add(len(p), loss.figures(z, p, targets))
        return means.logs()
