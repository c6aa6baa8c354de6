"""Measure every kernel beside the NumPy reference, other libraries and this machine's own limits.

Each library runs in a process of its own, with the same number of threads on the same cores, in
turns, after its result has been checked. Ctrl-C keeps what has been measured. Exit status 1 if a
result of fastcnn was wrong, or --compare finds it slower.

    fastcnn bench --quick                             two minutes, every installed peer
    fastcnn bench --suite vgg16 --ops dx,dw --peers torch,ort --threads 1,2 --json new.json
    fastcnn bench --problem n8c64h56k64r3p1           one layer of your own
    fastcnn bench --device cuda --peers torch         arrays on a GPU, beside cuDNN
    fastcnn bench --compare old.json new.json         what got faster, slower, or is noise
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import fastcnn
from fastcnn.benchmark import estimate, results, startup, table
from fastcnn.benchmark.cases import Case, cases, quick_cases, suites
from fastcnn.benchmark.comparison import compare
from fastcnn.benchmark.operations import words
from fastcnn.benchmark.processes import cores_for
from fastcnn.benchmark.runner import Run, check_peers
from fastcnn.benchmark.settings import Settings, check_precision, quick
from fastcnn.benchmark.sides import PEERS, installed
from fastcnn.cli.options import DTYPES, counts, names, output_file, positive_seconds, problems
from fastcnn.cli.progress import Progress
from fastcnn.kernels.cuda.target import CudaUnavailable, require_device
from fastcnn.kernels.precision import PRECISIONS
from fastcnn.verification.problems import find

_INTERRUPTED = 130
# What a new version may be slower by before --compare fails.
_BOUND = 1.05


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastcnn bench`."""
    add = parser.add_argument
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="a few layers, within two minutes")
    what.add_argument("--compare", nargs=2, metavar=("OLD", "NEW"), help="two JSON files")
    what.add_argument("--render", metavar="FILE", help="make --report of a JSON file again")
    what.add_argument("--readme", metavar="FILE", help="write README's table from a JSON file")
    add("--suite", type=names("suite", [*suites(), "all"]), metavar="NAMES",
        help=f"all (the default), or some of {', '.join(suites())}")  # fmt: skip
    add("--problem", type=problems, metavar="PROBLEMS",
        help="these alone, by name (vgg16.conv3_2) or as strings (n8c64h56k64r3p1)")  # fmt: skip
    add("--ops", type=names("operation", words()), metavar="NAMES",
        help="such as forward,frozen,dx,dw,activations,losses,step (all by default)")  # fmt: skip
    add("--peers", type=names("peer", [*PEERS, "none"]), metavar="NAMES",
        help=f"some of {', '.join(PEERS)}, or none (all that are installed)")  # fmt: skip
    add("--threads", type=counts, metavar="NUMBERS", help="such as 1,2 (all cores)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where (cpu)")
    add("--precision", choices=PRECISIONS, default="float32",
        help="of all sides on a GPU (float32): PyTorch takes TF32 only with tf32")  # fmt: skip
    add("--dtype", choices=DTYPES, default="float32")
    add("--turn", type=positive_seconds, metavar="SECONDS",
        help="of calls, per side and round (0.05): with less, sooner done and noisier")  # fmt: skip
    add("--chosen-only", action="store_true",
        help="of fastcnn, measure what auto chooses and no other algorithm")  # fmt: skip
    add("--json", type=output_file, metavar="FILE", help="write the results, - to standard output")
    add("--report", metavar="DIR", help="write index.html and plots there")
    add("--bound", type=float, default=_BOUND, metavar="RATIO",
        help=f"with --compare: slower than this fails ({_BOUND})")  # fmt: skip


def _settings(arguments: argparse.Namespace) -> Settings:
    check_precision(arguments.device, arguments.dtype, arguments.precision)
    peers = installed(arguments.device) if arguments.peers is None else arguments.peers
    chosen = check_peers([peer for peer in peers if peer != "none"], arguments.device)
    threads = tuple(arguments.threads or [fastcnn.get_num_threads()])
    if arguments.device == "cuda":
        require_device()
        threads = (1,)  # of the host, which launches
    cores_for(max(threads))  # more threads than cores are refused before anything starts
    settings = quick(threads, chosen) if arguments.quick else Settings(threads, chosen)
    settings = replace(settings, device=arguments.device, precision=arguments.precision)
    if arguments.device == "cuda":
        settings = replace(settings, together=1)  # an error in one kernel ends its process
    if arguments.chosen_only:
        settings = replace(settings, implementations=False)
    return settings if arguments.turn is None else replace(settings, seconds=arguments.turn)


def _cases(arguments: argparse.Namespace) -> list[Case]:
    if arguments.quick:
        return quick_cases(arguments.ops, arguments.dtype)
    own = [find(text) for text in arguments.problem or ()]
    chosen = arguments.suite or ([] if own else ["all"])
    if "all" in chosen:
        chosen = list(suites())
    found = cases(chosen, arguments.ops, own, arguments.dtype)
    # on a GPU weights are packed at every call, frozen or not
    frozen = "conv2d_frozen" if arguments.device == "cuda" else ""
    return [case for case in found if case.operation != frozen]


def _wants_startup(arguments: argparse.Namespace) -> bool:
    if arguments.device == "cuda":
        return False  # nothing of it is kept between processes yet
    if arguments.quick or arguments.problem:
        return "startup" in (arguments.suite or ())
    return not arguments.suite or bool({"startup", "all"} & set(arguments.suite))


def _compare(arguments: argparse.Namespace) -> int:
    found = compare(*(results.read(file) for file in arguments.compare))
    print("\n".join(found.lines(arguments.bound)))
    return 1 if found.beyond(arguments.bound) else 0


def _write(arguments: argparse.Namespace, content: dict[str, Any]) -> None:
    """What was asked for: JSON, report, and the table unless JSON goes to standard output."""
    if arguments.json == "-":
        from fastcnn.cli.options import write_json

        write_json("-", content)
    else:
        if arguments.json:
            results.write(arguments.json, content)
        print("\n".join(table.lines(content)))
    if arguments.report:
        from fastcnn.benchmark.report import write_report

        print(f"report: {write_report(content, Path(arguments.report))}", file=sys.stderr)


def run(arguments: argparse.Namespace) -> int:
    """Measure, compare or render, as asked."""
    try:
        if arguments.compare:
            return _compare(arguments)
        if arguments.render:
            content = results.read(arguments.render)
            _write(argparse.Namespace(json=None, report=arguments.report), content)
            return 0
        if arguments.readme:
            from fastcnn.benchmark.readme import write_readme

            print("\n".join(str(file) for file in write_readme(arguments.readme)))
            return 0
        settings, wanted = _settings(arguments), _cases(arguments)
    except (ValueError, OSError, CudaUnavailable) as error:
        print(f"fastcnn bench: {error}", file=sys.stderr)
        return 2
    return _measure(arguments, settings, wanted)


def _measure(arguments: argparse.Namespace, settings: Settings, wanted: list[Case]) -> int:
    if arguments.report:
        # a missing package or folder is found now, not after an hour
        if find_spec("matplotlib") is None:
            print("fastcnn bench: --report needs matplotlib: pip install 'fastcnn[bench]'",
                  file=sys.stderr)  # fmt: skip
            return 2
        Path(arguments.report).mkdir(parents=True, exist_ok=True)
    with_startup = _wants_startup(arguments)
    if not wanted and not with_startup:
        print("fastcnn bench: none of the operations runs on these problems", file=sys.stderr)
        return 2
    seconds = estimate.run_seconds(wanted, settings) + 60 * with_startup
    sides = ", ".join(settings.peers) or "no peers"
    print(
        f"{len(wanted)} cases on {' and '.join(map(str, settings.threads))} threads beside "
        f"{sides}: about {estimate.said(seconds)}",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    status, before = 0, signal.signal(signal.SIGINT, _interrupt_once)
    try:
        with Progress("benchmark") as progress, Run(wanted, settings, _shown(progress)) as this:
            try:
                if with_startup:
                    this.results.startup = startup.measure(lambda text: progress.update(0, 1, text))
                this.execute()
            except KeyboardInterrupt:
                status = _INTERRUPTED
        content = this.results.to_dict()
        _write(arguments, content)
    finally:
        signal.signal(signal.SIGINT, before)
    if any(row["library"] == "fastcnn" for row in this.results.refused):
        return 1
    return status


def _interrupt_once(number: int, frame: Any) -> None:
    """End the run; a second Ctrl-C must not lose what the first has kept."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def _shown(progress: Progress) -> Any:
    def show(done: float, total: float, text: str) -> None:
        left = estimate.said(max(0.0, total - done))
        progress.update(round(done), round(total), f"{text}, about {left} left")

    return show
