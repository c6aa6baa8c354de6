"""Train two lecture networks on real images, on the NumPy reference and on the Numba kernels.

fifteen_parameter learns faces, two_block a pair of digits, each twice from the same seed. Writes
demo.json (loss curves, accuracies, seconds) and demo.png (loss curves, learned filters, feature
maps, and where max pooling sent the gradient). Exit status 1 if the two loss curves disagree.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numba
import numpy as np

import fastcnn
from fastcnn.cli.options import DTYPES, UsageError
from fastcnn.cli.progress import Progress
from fastcnn.demo import BACKENDS, NETWORKS, Comparison, run_demo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fastcnn demo`."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("fastcnn-demo"),
        metavar="DIR",
        help="folder for the report, made if need be (default: ./fastcnn-demo)",
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="type to train in (default: float32)"
    )


def _lines(comparison: Comparison) -> list[str]:
    """What one network's two trainings came to."""
    reference, kernels = comparison.reference, comparison.kernels
    verdict = "agree" if comparison.agrees else "DISAGREE"
    return [
        f"{comparison.name}: {comparison.recipe.data_description}, {len(kernels.loss)} epochs",
        f"  loss        {kernels.loss[0]:.4f} -> {kernels.loss[-1]:.4f}",
        f"  accuracy    {kernels.accuracy:.1%} on the images trained on, "
        f"{kernels.held_out_accuracy:.1%} on those held out",
        f"  time        NumPy reference {reference.seconds:.2f} s, Numba kernels "
        f"{kernels.seconds:.2f} s: {comparison.ratio:.1f} times as fast",
        f"              (and {kernels.compile_seconds:.2f} s, once, to compile the kernels "
        "or load them from the cache)",
        f"  the curves  {verdict}: largest relative difference {comparison.difference:.1e} "
        f"(at most {comparison.tolerance:.0e} expected)",
        "",
    ]


def run(arguments: argparse.Namespace) -> int:
    """Run `fastcnn demo`; the exit status."""
    print(
        f"fastcnn {fastcnn.__version__}, numba {numba.__version__}, numpy {np.__version__}, "
        f"{fastcnn.get_num_threads()} threads, {arguments.dtype}\n",
        flush=True,
    )
    finished: dict[str, float] = {}
    trainings = len(NETWORKS) * len(BACKENDS)
    with Progress("training") as progress:

        def show(label: str, done: int, total: int) -> None:
            finished[label] = done / total
            progress.update(round(100 * sum(finished.values())), 100 * trainings, label)

        try:
            results = run_demo(arguments.out, arguments.dtype, show)
        except (ImportError, OSError) as error:
            raise UsageError(str(error)) from error
    for comparison in results:
        print("\n".join(_lines(comparison)))
    print(f"report:  {arguments.out / 'demo.json'}\npicture: {arguments.out / 'demo.png'}")
    return 0 if all(comparison.agrees for comparison in results) else 1
