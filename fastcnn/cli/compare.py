"""Run every implementation of every operation against the NumPy reference, on this machine.

Named layers (scaled down to one image) and random geometries, in float32 and float64, on one thread
and on all. Each implementation must stay within its stated bound, and give the same bits on any
number of threads. Exit status 1 if one does not.

    fastcnn compare --quick                            half a minute
    fastcnn compare --ops conv2d --suite vgg16 --threads 1,2 --json results.json
    fastcnn compare --ops conv2d --problem n8c64h56k64r3p1,vgg16.conv3_2
    fastcnn compare --quick --device cuda              arrays on a GPU

--fuzz calls every public operation with random geometries, hostile arrays and mistakes instead: the
answer must be right, or the error a clear one.
"""

from __future__ import annotations

import argparse

from fastcnn.cli.options import (
    DTYPES,
    UsageError,
    at_least,
    counts,
    names,
    output_file,
    problems,
    write_json,
)
from fastcnn.cli.progress import Progress
from fastcnn.kernels.cuda.target import CudaUnavailable
from fastcnn.kernels.precision import PRECISIONS
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification.compare import QUICK, NothingToCompare, compare
from fastcnn.verification.fuzz import FuzzReport, fuzz
from fastcnn.verification.problems import suites
from fastcnn.verification.report import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastcnn compare`."""
    algorithms = dict.fromkeys(i.name for listed in IMPLEMENTATIONS.values() for i in listed)
    add = parser.add_argument
    add("--quick", action="store_true", help=f"only the suites {', '.join(QUICK)}")
    add("--ops", type=names("operation", IMPLEMENTATIONS), metavar="NAMES", help="operations")
    add(
        "--implementations",
        type=names("algorithm", algorithms),
        metavar="NAMES",
        help=", ".join(algorithms),
    )
    add("--suite", type=names("suite", suites()), metavar="NAMES", help=", ".join(suites()))
    add(
        "--problem",
        type=problems,
        metavar="PROBLEMS",
        help="these alone, by name (vgg16.conv3_2) or as strings (n8c64h56k64r3p1)",
    )
    add("--cases", type=at_least(0), default=100, metavar="N", help="at least, for each (100)")
    add("--batch", type=at_least(1), default=1, metavar="N", help="images of named layers (1)")
    add(
        "--dtype",
        type=names("type", DTYPES),
        default=list(DTYPES),
        metavar="TYPES",
        help="float32, float64 (both)",
    )
    add("--threads", type=counts, metavar="NUMBERS", help="such as 1,2 (by default 1 and all)")
    add("--precision", choices=PRECISIONS, default="float32", help="which algorithms may serve")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where (cpu)")
    add("--seed", type=at_least(0), default=0, metavar="S", help="of problems and data (0)")
    add(
        "--fuzz",
        type=at_least(1),
        nargs="?",
        const=2000,
        metavar="N",
        help="make N calls (2000) instead of comparing; only --first, --seed and --json count then",
    )
    add("--first", type=at_least(0), default=0, metavar="I", help="number of --fuzz's first call")
    add("--json", type=output_file, metavar="FILE", help="write the results, - to standard output")


def run(arguments: argparse.Namespace) -> int:
    """Compare or fuzz, print what was found, and say by the status whether all is well."""
    report = _fuzzed(arguments) if arguments.fuzz else _compared(arguments)
    if arguments.json:
        write_json(arguments.json, report.to_dict())
    if arguments.json != "-":
        print(report)
    return 0 if report.passed else 1


def _fuzzed(arguments: argparse.Namespace) -> FuzzReport:
    with Progress("fuzzing") as progress:
        return fuzz(
            arguments.fuzz, seed=arguments.seed, first=arguments.first, progress=progress.update
        )


def _compared(arguments: argparse.Namespace) -> Report:
    try:
        with Progress("comparing") as progress:
            return compare(
                arguments.ops,
                arguments.implementations,
                arguments.suite or (QUICK if arguments.quick else None),
                arguments.problem,
                dtypes=arguments.dtype,
                threads=arguments.threads,
                cases=arguments.cases,
                seed=arguments.seed,
                batch=arguments.batch,
                precision=arguments.precision,
                device=arguments.device,
                progress=progress.update,
            )
    except (NothingToCompare, CudaUnavailable) as error:
        raise UsageError(str(error)) from error
