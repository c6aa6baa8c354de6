"""Train a network of the lectures on real images.

Settings that are not given are those that the network is known to learn with (fastcnn.recipes). The
same command gives the same network again, and so does one that was cut in two by --save and
--resume.

    fastcnn train two_block --data digits:4,9
    fastcnn train multichannel --data digits --epochs 10 --save digits.npz --plot digits.png
    fastcnn train --resume digits.npz --epochs 20
"""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn import datasets
from fastcnn.cli import images
from fastcnn.cli.options import DTYPES, UsageError, at_least, output_file
from fastcnn.cli.plots import loss_curves
from fastcnn.cli.progress import Progress
from fastcnn.layers.backends import BACKENDS
from fastcnn.recipes import RECIPES
from fastcnn.training import SGD, Adam, Optimizer, Sequential, checkpoints
from fastcnn.verification.problems import unknown

Array = np.ndarray

OPTIMIZERS = ("sgd", "momentum", "adam")


@dataclass
class Run:
    """What a training is, and how far it has come: the notes of a checkpoint.

    Attributes
    ----------
    network, data, dtype : str
    optimizer : str
        One of `OPTIMIZERS`.
    rate, held_out : float
    batch_size, seed : int
    options : dict
        Arguments of the network's function.
    history : dict of str to list
        Figures per epoch.
    """

    network: str
    data: str
    optimizer: str
    rate: float
    batch_size: int
    seed: int
    dtype: str
    held_out: float
    options: dict[str, Any] = field(default_factory=dict)
    history: dict[str, list[float]] = field(default_factory=dict)

    @property
    def epochs(self) -> int:
        """Finished ones."""
        return len(self.history.get("loss", ()))


def _fraction(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"must be from 0 to below 1, got {text!r}")
    return number


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return number


def _network(text: str) -> str:
    if text not in RECIPES:
        raise argparse.ArgumentTypeError(unknown("network", text, RECIPES))
    return text


def _checkpoint(text: str) -> str:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastcnn train`."""
    add = parser.add_argument
    add("network", type=_network, nargs="?", metavar="NETWORK", help=", ".join(RECIPES))
    add("--data", metavar="DATA", help=images.HELP)
    add("--epochs", type=at_least(0), metavar="N", help="all in all, those of --resume included")
    add("--batch-size", type=at_least(1), metavar="N")
    add("--rate", type=_rate, metavar="RATE", help="the learning rate")
    add("--optimizer", choices=OPTIMIZERS)
    add("--seed", type=at_least(0), metavar="S", help="of parameters and order (0)")
    add("--dtype", choices=DTYPES, help="(float32)")
    add("--backend", choices=BACKENDS, default="auto", help="kernels, or plain NumPy (auto)")
    add("--held-out", type=_fraction, metavar="PART", help="of each class, for testing (0.25)")
    add("--save", type=output_file, metavar="FILE.npz", help="write after every epoch")
    add("--resume", type=_checkpoint, metavar="FILE.npz", help="go on with what --save wrote")
    add("--plot", type=output_file, metavar="FILE.png", help="the curves of loss and accuracy")


def _new_run(arguments: argparse.Namespace) -> Run:
    """A run from the options, what they leave open from the network's recipe."""
    if arguments.network is None or arguments.data is None:
        raise UsageError("say NETWORK and --data, or --resume FILE")
    recipe = RECIPES[arguments.network]
    own = recipe.optimizer()
    name = arguments.optimizer or ("adam" if isinstance(own, Adam) else "sgd")
    same_rule = isinstance(own, Adam) == (name == "adam")
    rate = own.learning_rate if same_rule else _optimizer(name, None).learning_rate
    return Run(
        arguments.network,
        arguments.data,
        name,
        arguments.rate or rate,
        arguments.batch_size or recipe.batch_size,
        arguments.seed or 0,
        arguments.dtype or "float32",
        0.25 if arguments.held_out is None else arguments.held_out,
        dict(recipe.options),
    )


def _resumed_run(arguments: argparse.Namespace) -> Run:
    """The run of a checkpoint; what defines it may not be given anew, but for the rate."""
    try:
        run = Run(**checkpoints.load_notes(arguments.resume))
    except (ValueError, TypeError, OSError) as error:
        raise UsageError(f"--resume: {error}") from error
    fixed = ("network", "data", "optimizer", "batch_size", "seed", "dtype", "held_out")
    for name in fixed:
        given = getattr(arguments, name)
        if given not in (None, getattr(run, name)):
            option = "NETWORK" if name == "network" else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{arguments.resume} was trained with {option} {getattr(run, name)}, not {given}"
            )
    run.rate = arguments.rate or run.rate
    return run


def _optimizer(name: str, rate: float | None) -> Optimizer:
    settings: dict[str, Any] = {} if rate is None else {"learning_rate": rate}
    if name == "adam":
        return Adam(**settings)
    return SGD(**settings, momentum=0.9 if name == "momentum" else 0.0)


def _prepare(run: Run, backend: str) -> tuple[Sequential, tuple[Array, ...]]:
    """The network as it is before the first epoch, and the data: to train on, and held out."""
    x, y = images.load(run.data, run.dtype)
    make = RECIPES[run.network].make
    binary = make(**run.options).loss != "categorical_cross_entropy"
    x, y, run.options = images.fit_for(run.network, run.options, x, y, binary)
    try:
        data = datasets.split(x, y, run.held_out) if run.held_out else (x, y, x[:0], y[:0])
        network = make(seed=run.seed, dtype=run.dtype, backend=backend, **run.options)
        network.build((None, *x.shape[1:]))
    except ValueError as error:
        raise UsageError(f"{run.network} cannot learn {run.data}: {error}") from error
    network.compile(_optimizer(run.optimizer, run.rate))
    return network, data


def _one_epoch(run: Run, network: Sequential, data: tuple[Array, ...]) -> None:
    x, y, x_test, y_test = data
    history = network.fit(
        x,
        y,
        epochs=1,
        batch_size=run.batch_size,
        # An order of its own for each epoch, whatever came before: a resumed run has the same.
        seed=np.random.default_rng((run.seed, run.epochs)),
        validation_data=(x_test, y_test) if len(x_test) else None,
        verbose=0,
    ).history
    for name, values in history.items():
        run.history.setdefault(name, []).extend(values)


def _figures(run: Run) -> str:
    """The latest epoch's figures in one line."""
    return "  ".join(f"{name} {values[-1]:.4f}" for name, values in run.history.items())


def run(arguments: argparse.Namespace) -> int:
    """Train, save and plot as asked."""
    if arguments.plot and find_spec("matplotlib") is None:
        raise UsageError("--plot needs matplotlib: pip install 'fastcnn[demo]'")
    run = _resumed_run(arguments) if arguments.resume else _new_run(arguments)
    network, data = _prepare(run, arguments.backend)
    if arguments.resume:
        try:
            checkpoints.load(arguments.resume, network)
        except (ValueError, OSError) as error:
            raise UsageError(f"--resume: {error}") from error
        assert network.optimizer is not None
        network.optimizer.learning_rate = run.rate
    epochs = RECIPES[run.network].epochs if arguments.epochs is None else arguments.epochs
    print(
        f"{run.network}, {network.count_params()} parameters, on {run.data}: {len(data[0])} images "
        f"to train on, {len(data[2])} held out\n{run.optimizer} at {run.rate:g}, batches of "
        f"{run.batch_size}, seed {run.seed}, {run.dtype}, backend {arguments.backend}",
        flush=True,
    )
    first, start = run.epochs, time.perf_counter()
    try:
        with Progress("training") as progress:
            while run.epochs < epochs:
                _one_epoch(run, network, data)
                if arguments.save:
                    checkpoints.save(arguments.save, network, asdict(run))
                progress.update(run.epochs, epochs, f"epoch {run.epochs}/{epochs}  {_figures(run)}")
    except KeyboardInterrupt:
        if arguments.save and run.epochs > first:
            print(f"{run.epochs} epochs saved: fastcnn train --resume {arguments.save} goes on")
        raise
    seconds = time.perf_counter() - start
    if run.epochs == first:
        print(f"nothing to train: {first} of {epochs} epochs are done")
    else:
        print(f"{run.epochs - first} epochs in {seconds:.1f} s: {_figures(run)}")
    if arguments.save and run.epochs == first:
        checkpoints.save(arguments.save, network, asdict(run))
    if arguments.plot:
        title = f"{run.network} on {run.data}"
        loss_curves(arguments.plot, title, run.history)
    for what, file in (("saved", arguments.save), ("plot", arguments.plot)):
        if file:
            print(f"{what}: {file}")
    return 0
