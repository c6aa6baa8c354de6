"""Everything that a machine with a GPU should be asked, in one command that writes one JSON.

    python -m fastcnn.verification.cuda_check --json cuda.json

runs, each part and precision in a process of its own, as an illegal address ends all work of one,
and goes on where one fails or takes more than half an hour: the device's own facts, with its
measured rates of copying and of multiplying; `fastcnn compare --device cuda` over the quick suites,
and over products in TF32, f16 and bf16; the tests marked `cuda`, if the repository is at hand;
compute-sanitizer's memcheck and racecheck over small problems; and `fastcnn bench --device cuda` in
float32, TF32 and bf16, beside PyTorch (cuDNN in benchmark mode, the same numerics) if it is
installed.

With Numba's simulator (NUMBA_ENABLE_CUDASIM=1) and --rehearse the same code runs on tiny problems,
without figures that would mean anything.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import fastcnn
from fastcnn.benchmark import sides
from fastcnn.benchmark.cases import Case, cases
from fastcnn.benchmark.networks import NetworkProblem
from fastcnn.benchmark.processes import LocalWorker, ProcessWorker, WorkerError
from fastcnn.benchmark.runner import MakeWorker, Run
from fastcnn.benchmark.settings import Settings
from fastcnn.kernels.cuda import target
from fastcnn.verification.compare import QUICK, compare
from fastcnn.verification.problems import find

# What a rehearsal compares and times.
_TINY = ("n1c1h4k1r2", "n1c1h4r2", "n2i3o2", "2x3")
# What compute-sanitizer goes through besides: whole and partial tiles, on every kernel that tiles.
_TILED = ("n2c8h6k9r3p1", "n1c16h7w5k16r3p1g2", "n3c3h9r3st2p1")
# Layers that are timed, and the networks whose steps are: large and small, 3 x 3 and 1 x 1,
# first layers, poolings; a lecture's network, and LeNet-5.
_LAYERS = (
    "vgg16.conv1_1",
    "vgg16.conv3_2",
    "vgg16.conv5_1",
    "resnet50.56_64_64_k3s1",
    "resnet50.28_512_128_k1s1",
    "small_images.mnist.conv1",
    "pooling.mnist.pool",
    "pooling.resnet.pool",
)
_BATCH = 32
_NETWORKS = (NetworkProblem("fifteen_parameter", 32), NetworkProblem("lenet5", 64))
_OPERATIONS = ["forward", "dx", "dw"]
# Precisions that round what they multiply, and the operations that multiply.
_ROUNDED = ("tf32", "f16", "bf16")
_PRODUCTS = [
    "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "dense", "dense_input_grad",
    "dense_weight_grad",
]  # fmt: skip
# Precisions whose products are timed.
_TIMED = ("float32", "tf32", "bf16")
# Seconds after which no further case is begun, of each precision's.
_DEADLINE = 300.0
# Seconds after which a process is ended: several times what any should take.
_MOST_SECONDS = 1800.0


def device() -> dict[str, Any]:
    """Which GPU, and what it can do at the most, by kernels that do nothing else."""
    from fastcnn.benchmark.sides import on_cuda
    from fastcnn.kernels.cuda import rates

    return {
        **on_cuda.facts(),
        "copied_bytes_per_second": rates.copied(),
        "multiply_add_flops": rates.multiply_adds(),
        "tensor_core_flops": {kind: rates.tensor_cores(kind) for kind in ("tf32", "bf16")},
    }


def compared(rehearse: bool) -> dict[str, Any]:
    """`fastcnn compare --device cuda`."""
    if rehearse:
        report = compare(device="cuda", problems=_TINY, dtypes=["float32"])
    else:
        report = compare(device="cuda", suites=QUICK, cases=50)
    return report.to_dict()


def compared_rounded(precision: str, rehearse: bool) -> dict[str, Any]:
    """`fastcnn compare --device cuda --precision ...` of one that rounds what it multiplies."""
    asked: dict[str, Any] = {"problems": _TINY[:1]} if rehearse else {"suites": QUICK}
    report = compare(
        _PRODUCTS, dtypes=["float32"], cases=50, device="cuda", precision=precision, **asked
    )
    return report.to_dict()


def _run(command: list[str], seconds: float = _MOST_SECONDS) -> dict[str, Any]:
    """What a command printed, and its status: that of its end by a signal after so long."""
    root = str(Path(__file__).parents[2])  # the package, wherever this was started
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        start_new_session=True,  # so that what it has started ends with it
    )  # fmt: skip
    late = ""
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        late = f"ended after {seconds:.0f} seconds"
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    status = process.returncode
    found: dict[str, Any] = {"command": command, "status": status, "output": output[-4000:]}
    if status:
        found["errors"] = f"{errors[-4000:]}{late}"
    return found


def tests() -> dict[str, Any]:
    """The tests marked `cuda`, which need a device; the simulator skips them."""
    if not Path("tests/cuda").is_dir():
        return {"skipped": "not in the repository's folder"}
    return _run([sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/cuda"])


def sanitized(rehearse: bool) -> dict[str, Any]:
    """compute-sanitizer over small problems: reads and writes out of bounds, and races."""
    sanitizer = shutil.which("compute-sanitizer")
    if sanitizer is None:
        return {"skipped": "compute-sanitizer is not installed"}
    problems = _TINY[:2] if rehearse else _TINY + _TILED
    precisions = ("float32",) if rehearse else ("float32", *_ROUNDED)
    program = (
        "import sys; from fastcnn.verification import compare; sys.exit(not all("
        f"compare(device='cuda', dtypes=['float32'], problems={problems}, precision=p).passed "
        f"for p in {precisions}))"
    )
    return {
        tool: _run(
            [sanitizer, "--tool", tool, "--error-exitcode", "1", sys.executable, "-c", program]
        )
        for tool in ("memcheck", "racecheck")
    }


def _wanted(rehearse: bool) -> list[Case]:
    """The cases that are timed."""
    if rehearse:
        return cases([], _OPERATIONS, [find(name) for name in _TINY[:2]])
    layers = [find(name).scaled(batch=_BATCH) for name in _LAYERS]
    return cases([], _OPERATIONS, layers) + [Case("train_step", net) for net in _NETWORKS]


def timed(precision: str, rehearse: bool) -> dict[str, Any]:
    """`fastcnn bench --device cuda` in one precision: its JSON, with why it broke off if it did."""
    if rehearse:
        settings = Settings(rounds=1, most_rounds=1, seconds=1e-6, pause=0.0, implementations=False,
                            device="cuda", precision=precision)  # fmt: skip
    else:
        peers = tuple(sides.installed("cuda"))
        settings = Settings((1,), peers, device="cuda", precision=precision, deadline=_DEADLINE)
    make_worker: MakeWorker = LocalWorker if rehearse else ProcessWorker
    failed: dict[str, str] = {}
    with Run(_wanted(rehearse), settings, make_worker=make_worker) as run:
        try:
            run.execute()
        except WorkerError as error:
            failed = {"failed": str(error).strip().splitlines()[-1]}
    return run.results.to_dict() | failed


# What runs in a process of its own; whether it is a rehearsal -> what the report says.
_PARTS: dict[str, Callable[[bool], dict[str, Any]]] = {
    "device": lambda rehearse: device(),
    "compare": compared,
    **{f"compare {precision}": partial(compared_rounded, precision) for precision in _ROUNDED},
    **{f"bench {precision}": partial(timed, precision) for precision in _TIMED},
}


def _apart(name: str, rehearse: bool) -> Any:
    """A part, done by this same command in a process of its own; or why there is nothing."""
    print(name, flush=True)
    with TemporaryDirectory(prefix="fastcnn-check-") as folder:
        file = Path(folder) / "part.json"
        command = [sys.executable, "-m", "fastcnn.verification.cuda_check"]
        options = ["--part", name, "--json", str(file), *["--rehearse"] * rehearse]
        done = _run([*command, *options])
        if done["status"]:
            said = done["errors"].strip().splitlines() or [""]
            return {"failed": f"status {done['status']}: {said[-1]}"}
        return json.loads(file.read_text())


def check(rehearse: bool = False) -> dict[str, Any]:
    """Run all parts; a part that fails says why in its place.

    Parameters
    ----------
    rehearse : bool
        On tiny problems: what the simulator can do.
    """
    target.require_device()
    rounded = _ROUNDED[:1] if rehearse else _ROUNDED
    return {
        "fastcnn": fastcnn.__version__,
        "rehearsal": rehearse,
        "device": _apart("device", rehearse),
        "compare": _apart("compare", rehearse),
        "compare_rounded": {p: _apart(f"compare {p}", rehearse) for p in rounded},
        "tests": tests(),
        "sanitizer": sanitized(rehearse),
        "bench": {p: _apart(f"bench {p}", rehearse) for p in _TIMED},
    }


def failures(results: dict[str, Any]) -> Iterator[str]:
    """What went wrong, a line for each: parts that broke off, and results that were not right."""
    parts = dict(results)
    for name, kept in (("compare", "compare_rounded"), ("bench", "bench")):
        parts |= {f"{name}, {precision}": part for precision, part in results[kept].items()}
    for name, part in parts.items():
        if isinstance(part, dict) and "failed" in part:
            yield f"{name}: {part['failed']}"
        if isinstance(part, dict) and part.get("pass") is False:
            yield f"{name}: an implementation differs from the reference"
    for name, done in {"tests": results["tests"], **results["sanitizer"]}.items():
        if isinstance(done, dict) and done.get("status"):
            yield f"{name}: status {done['status']}"
    for precision, content in results["bench"].items():
        for row in content.get("rows", ()):
            if row["library"] == "fastcnn" and row["status"] in ("wrong", "failed"):
                yield f"bench, {precision}: {row['operation']} {row['problem']}: {row['reason']}"


def main() -> int:
    """The command; its status is 1 if a part failed or found a fault, 2 if there is no device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("cuda.json"), help="where to write")
    parser.add_argument("--rehearse", action="store_true", help="tiny problems alone")
    parser.add_argument("--part", choices=_PARTS, help="only this, within this process")
    arguments = parser.parse_args()
    if target.simulated():
        sys.setswitchinterval(1e-5)  # its threads are Python's, and wait for each other by polling
    try:
        if arguments.part:
            found = _PARTS[arguments.part](arguments.rehearse)
            arguments.json.write_text(json.dumps(found, default=str))
            return 0
        results = check(arguments.rehearse)
    except fastcnn.CudaUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    arguments.json.write_text(json.dumps(results, indent=1, default=str) + "\n")
    failed = list(failures(results))
    for line in failed:
        print(line, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
