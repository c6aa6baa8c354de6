"""Everything that a machine with a GPU should be asked, in one command that writes one JSON.

    python -m fastcnn.verification.cuda_check --json cuda.json

runs, in this order, and goes on where one part fails: the device's own facts and its measured
limits; `fastcnn compare --device cuda` over the quick suites; the tests marked `cuda`, if the
repository is at hand; compute-sanitizer's memcheck and racecheck over the small ones; and times of
a few layers against PyTorch's (cuDNN in benchmark mode, the same numerics), if it is installed.

With Numba's simulator (NUMBA_ENABLE_CUDASIM=1) and --rehearse the same code runs on tiny problems,
without figures that would mean anything.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastcnn
from fastcnn import functional
from fastcnn.kernels.cuda import target
from fastcnn.verification.compare import QUICK, compare
from fastcnn.verification.kinds import ConvProblem, PoolProblem
from fastcnn.verification.problems import find

# What a rehearsal compares and times.
_TINY = ("n1c1h4k1r2", "n1c1h4r2", "n2i3o2", "2x3")
# Layers that are timed: a large and a small convolution, and a pooling.
_LAYERS = (
    "vgg16.conv3_2",
    "resnet50.56_64_64_k3s1",
    "small_images.mnist.conv1",
    "pooling.mnist.pool",
)
_BATCH = 32
# Bytes of the array that is copied: far more than any cache holds.
_COPIED = 1 << 30
# Runs of a timed call; the least of them counts.
_RUNS = 20


def _wait() -> None:
    if not target.simulated():
        target.checked(*target.driver.cuCtxSynchronize())


def _seconds(call: Callable[[], Any], wait: Callable[[], None]) -> float:
    """The least time of a call and all that it has the device do."""
    call()
    least = float("inf")
    for _ in range(_RUNS):
        wait()
        start = time.perf_counter()
        call()
        wait()
        least = min(least, time.perf_counter() - start)
    return least


def device() -> dict[str, Any]:
    """Which GPU, and the bandwidth of a copy on it."""
    if target.simulated():
        return {"name": "simulator"}
    current = target.current_device()
    name = target.checked(*target.driver.cuDeviceGetName(128, current))
    x = fastcnn.to_device(np.zeros(_COPIED // 4, np.float32))
    seconds = _seconds(lambda: functional.relu(x), _wait)
    return {
        "name": name.decode().rstrip("\0"),
        "architecture": target.architecture(current),
        "multiprocessors": target.multiprocessors(),
        "copied_bytes_per_second": 2 * _COPIED / seconds,
    }


def compared(rehearse: bool) -> dict[str, Any]:
    """`fastcnn compare --device cuda`."""
    if rehearse:
        report = compare(device="cuda", problems=_TINY, dtypes=["float32"])
    else:
        report = compare(device="cuda", suites=QUICK, cases=50)
    return report.to_dict()


def _run(command: list[str]) -> dict[str, Any]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return {"command": command, "status": done.returncode, "output": done.stdout[-4000:]}


def tests(rehearse: bool) -> dict[str, Any]:
    """The tests marked `cuda`, which need a device."""
    if rehearse or not Path("tests/cuda").is_dir():
        return {"skipped": "a rehearsal" if rehearse else "not in the repository's folder"}
    return _run([sys.executable, "-m", "pytest", "-q", "-m", "cuda", "tests/cuda"])


def sanitized(rehearse: bool) -> dict[str, Any]:
    """compute-sanitizer over the tiny problems: reads and writes out of bounds, and races."""
    sanitizer = shutil.which("compute-sanitizer")
    if rehearse or sanitizer is None:
        return {"skipped": "a rehearsal" if rehearse else "compute-sanitizer is not installed"}
    program = f"from fastcnn.verification import compare; compare(device='cuda', problems={_TINY})"
    return {
        tool: _run(
            [sanitizer, "--tool", tool, "--error-exitcode", "1", sys.executable, "-c", program]
        )
        for tool in ("memcheck", "racecheck")
    }


def _pairs(
    problem: Any, torch: Any
) -> dict[str, tuple[Callable[[], Any], Callable[[], Any] | None]]:
    """The forward pass of a layer here and, where there is PyTorch, there."""
    rng = np.random.default_rng(0)
    g = problem.geometry
    x = fastcnn.to_device(rng.standard_normal(g.input_shape, np.float32))
    there = None if torch is None else torch.as_tensor(x, device="cuda")
    if isinstance(problem, PoolProblem):
        ours = lambda: functional.max_pool2d(x, **problem.options, return_mask=True)  # noqa: E731
        if torch is None or len(set(g.padding)) > 1:
            return {"forward": (ours, None)}
        pool = torch.nn.MaxPool2d(
            (g.R, g.S),
            g.stride,
            g.padding[0],
            g.dilation,
            return_indices=True,
            ceil_mode=g.ceil_mode,
        )
        return {"forward": (ours, lambda: pool(there))}
    w = fastcnn.to_device(rng.standard_normal(g.weight_shape, np.float32))
    dy = fastcnn.to_device(rng.standard_normal(g.output_shape, np.float32))
    calls = {
        "forward": lambda: functional.conv2d(x, w, **problem.options),
        "dx": lambda: functional.conv2d_input_grad(dy, w, g.input_shape, **problem.options),
        "dw": lambda: functional.conv2d_weight_grad(x, dy, g.weight_shape, **problem.options),
    }
    if torch is None or g.padding[0] != g.padding[1] or g.padding[2] != g.padding[3]:
        return {name: (call, None) for name, call in calls.items()}
    settled = (
        list(g.stride),
        [g.padding[0], g.padding[2]],
        list(g.dilation),
        False,
        [0, 0],
        g.groups,
    )
    w_there, dy_there = torch.as_tensor(w, device="cuda"), torch.as_tensor(dy, device="cuda")

    def backward(wanted: list[bool]) -> Callable[[], Any]:
        gradient = torch.ops.aten.convolution_backward
        return lambda: gradient(dy_there, there, w_there, None, *settled, wanted)

    theirs = {
        "forward": lambda: torch.ops.aten.convolution(there, w_there, None, *settled),
        "dx": backward([True, False, False]),
        "dw": backward([False, True, False]),
    }
    return {name: (calls[name], theirs[name]) for name in calls}


def _torch() -> Any:
    """PyTorch, where it is installed and has a GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def timed(rehearse: bool) -> list[dict[str, Any]]:
    """Times of layers, with PyTorch's beside them in float32 without TF32."""
    torch: Any = None if rehearse else _torch()
    if torch is not None:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    rows = []
    for name in _TINY[:2] if rehearse else _LAYERS:
        problem = find(name)
        assert isinstance(problem, ConvProblem | PoolProblem)
        if not rehearse:
            problem = problem.scaled(batch=_BATCH)
        for operation, (ours, theirs) in _pairs(problem, torch).items():
            row: dict[str, Any] = {"problem": str(problem), "name": name, "operation": operation}
            row["seconds"] = _seconds(ours, _wait)
            if theirs is not None:
                row["torch_seconds"] = _seconds(theirs, torch.cuda.synchronize)
            rows.append(row)
    return rows


def check(rehearse: bool = False) -> dict[str, Any]:
    """Run all parts; a part that fails says why in its place.

    Parameters
    ----------
    rehearse : bool
        On tiny problems, without tests and sanitizer: what the simulator can do.
    """
    target.require_device()
    parts: dict[str, Callable[[], Any]] = {
        "device": device,
        "compare": lambda: compared(rehearse),
        "tests": lambda: tests(rehearse),
        "sanitizer": lambda: sanitized(rehearse),
        "times": lambda: timed(rehearse),
    }
    results: dict[str, Any] = {"fastcnn": fastcnn.__version__, "rehearsal": rehearse}
    for name, part in parts.items():
        print(name, flush=True)
        try:
            results[name] = part()
        except Exception as error:  # the other parts are worth having all the same
            results[name] = {"failed": f"{type(error).__name__}: {error}"}
    return results


def main() -> int:
    """The command; its status is 1 if a part failed, 2 if there is no device."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, default=Path("cuda.json"), help="where to write")
    parser.add_argument("--rehearse", action="store_true", help="tiny problems alone")
    arguments = parser.parse_args()
    try:
        results = check(arguments.rehearse)
    except fastcnn.CudaUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    arguments.json.write_text(json.dumps(results, indent=1, default=str) + "\n")
    failed = [name for name, part in results.items() if isinstance(part, dict) and "failed" in part]
    for name in failed:
        print(f"{name}: {results[name]['failed']}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
