"""The tables of docs/performance.md from a full run: python bench/groups.py bench/results/full.json

Geometric mean and worst of the time of the best peer over ours, by kind of work and number of
threads; then the same beside the targets, and what is slower than a peer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from math import exp, fsum, log
from typing import Any

from fastcnn.benchmark.results import read
from fastcnn.benchmark.statistics import LEVEL
from fastcnn.geometry import Conv2dGeometry
from fastcnn.verification.kinds import ConvProblem
from fastcnn.verification.problems import parse

PEERS = ("torch", "torch_cl", "ort")
OPERATIONS = {"conv2d": "forward", "conv2d_input_grad": "dx", "conv2d_weight_grad": "dw"}
# Kinds of convolutions, each problem counted in the first that fits.
KINDS: tuple[tuple[str, Callable[[str, Conv2dGeometry], bool]], ...] = (
    ("depthwise", lambda suite, g: g.groups > 1 and g.groups in (g.C, g.K)),
    ("first layers and small images", lambda suite, g: g.C <= 8 or suite == "small_images"),
    ("grouped, dilated", lambda suite, g: g.groups > 1 or g.dilation != (1, 1)),
    ("1x1 and strided", lambda suite, g: g.R == g.S == 1 or g.stride != (1, 1)),
    (
        "3x3 stride 1 of VGG-16 and ResNet-50",
        lambda suite, g: g.R == g.S == 3 and suite in ("vgg16", "resnet50") and g.C >= 64,
    ),
    ("other 3x3 stride 1", lambda suite, g: g.R == g.S == 3),
    ("larger kernels", lambda suite, g: True),
)
Ratios = dict[int, list[float]]  # by the number of threads
_VGG, _OTHERS = KINDS[4][0], ("other 3x3 stride 1", "larger kernels", "grouped, dilated")
# What was aimed at: kinds of convolutions, operations, geometric mean, worst.
TARGETS: tuple[tuple[tuple[str, ...], tuple[str, ...], float, float], ...] = (
    ((_VGG,), ("forward", "dx"), 2.5, 1.5),
    ((_VGG,), ("dw",), 3.0, 1.7),
    (("1x1 and strided",), ("forward",), 1.1, 1.0),
    (("1x1 and strided",), ("dx", "dw"), 1.3, 1.0),
    (_OTHERS, ("forward",), 1.25, 1.0),
    (_OTHERS, ("dx", "dw"), 1.7, 1.0),
    (("first layers and small images",), ("forward",), 1.8, 1.2),
    (("first layers and small images",), ("dx", "dw"), 3.0, 1.2),
    (("depthwise",), ("forward", "dx"), 1.2, 1.0),
    (("depthwise",), ("dw",), 3.0, 1.0),
    (tuple(name for name, _ in KINDS), ("forward", "dx", "dw"), 1.7, 1.0),
)


def kind_of(row: dict[str, Any]) -> str:
    """The name of the group that a row of a convolution belongs to."""
    problem = parse(row["problem"])
    assert isinstance(problem, ConvProblem)
    suite = row["layer"].split(".")[0]
    return next(name for name, fits in KINDS if fits(suite, problem.geometry))


def best(row: dict[str, Any], peers: tuple[str, ...] = PEERS) -> float | None:
    """The fastest peer's time over ours."""
    found = [row["ratios"][peer]["median"] for peer in peers if peer in row["ratios"]]
    return min(found) if found else None


def gather(rows: list[dict[str, Any]], peers: tuple[str, ...] = PEERS) -> Ratios:
    """The ratios of rows that were measured beside one of these peers."""
    found: Ratios = {}
    for row in rows:
        ratio = best(row, peers)
        if ratio is not None:
            found.setdefault(row["threads"], []).append(ratio)
    return found


def line(name: str, rows: list[dict[str, Any]], peers: tuple[str, ...] = PEERS) -> str:
    """A row of the table."""
    found = gather(rows, peers)
    count = max((len(ratios) for ratios in found.values()), default=0)
    cells = [
        f"{exp(fsum(map(log, found[t])) / len(found[t])):.2f} | {min(found[t]):.2f}"
        for t in sorted(found)
    ]
    return f"| {name} | {count} | " + " | ".join(cells) + " |"


def _of(rows: list[dict[str, Any]], start: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["operation"].startswith(start)]


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The table, and how many convolutions are slower than a peer."""
    ours = [r for r in content["rows"] if r["side"] == "auto" and r["status"] == "ok"]
    convs = [(kind_of(r), r) for r in ours if r["operation"] in OPERATIONS]
    threads = sorted({row["threads"] for row in ours})
    heads = [f"{t} thread{'s' * (t > 1)} | worst" for t in threads]
    yield "| work | problems | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * (1 + 2 * len(threads))
    for name, _ in KINDS:
        for operation, what in OPERATIONS.items():
            rows = [r for kind, r in convs if kind == name and r["operation"] == operation]
            yield line(f"{name}: {what}", rows)
    yield line("**all convolutions**", [row for _, row in convs])
    for what, operation in (("max pooling", "max_pool2d"), ("ReLU and pooling", "relu_max_pool2d")):
        for layout, peer in (("NCHW", "torch"), ("channels_last", "torch_cl")):
            yield line(f"{what}, both directions, against {layout}", _of(ours, operation), (peer,))
    yield line("dense layers", _of(ours, "dense"))
    yield line("training steps", _of(ours, "train_step"))
    listed = (*OPERATIONS, "max_pool", "relu_max_pool", "dense", "train_step")
    for operation in sorted({r["operation"] for r in ours}):
        if operation == "conv2d_frozen" or not operation.startswith(listed):
            yield line(operation, [row for row in ours if row["operation"] == operation])
    yield ""
    for t, found in gather([row for _, row in convs]).items():
        below = sum(ratio < 1 - LEVEL for ratio in found)
        yield f"{t} threads: {below} of {len(found)} convolutions below {1 - LEVEL:.2f}"


def targets(content: dict[str, Any]) -> Iterator[str]:
    """The table of what was aimed at, and what has been reached."""
    ours = [r for r in content["rows"] if r["side"] == "auto" and r["status"] == "ok"]
    convs = [(kind_of(r), r) for r in ours if r["operation"] in OPERATIONS]
    threads = sorted({row["threads"] for row in ours})
    heads = [f"{t} thread{'s' * (t > 1)} | worst" for t in threads]
    yield "| work: target | problems | " + " | ".join(heads) + " |"
    yield "|---|" + "---|" * (1 + 2 * len(threads))
    for kinds, operations, mean, worst in TARGETS:
        name = "all convolutions" if len(kinds) == len(KINDS) else ", ".join(kinds)
        rows = [
            r for kind, r in convs if kind in kinds and OPERATIONS[r["operation"]] in operations
        ]
        yield line(f"{name}, {', '.join(operations)}: {mean}, worst {worst}", rows)
    pooling = _of(ours, "max_pool2d")
    yield line("max pooling, both directions, against NCHW: 8, worst 1.0", pooling, ("torch",))
    yield line("the same against channels_last: 1.4, worst 1.0", pooling, ("torch_cl",))
    yield line("training steps: 5, worst 3", _of(ours, "train_step"))


def slower(content: dict[str, Any]) -> Iterator[str]:
    """What is slower than a peer, beyond noise: layers of each kind, with the number of threads."""
    found: dict[str, list[str]] = {}
    for row in content["rows"]:
        ratio = best(row) if row["side"] == "auto" and row["status"] == "ok" else None
        if ratio is not None and ratio < 1 - LEVEL:
            kind = row["operation"]
            if kind in OPERATIONS:
                kind = f"{kind_of(row)}, {OPERATIONS[kind]}"
            layer = row["layer"].split(".", 1)[1]
            found.setdefault(kind, []).append(f"{layer} {ratio:.2f} ({row['threads']})")
    for kind, rows in found.items():
        yield f"- {kind}: {', '.join(rows)}"


if __name__ == "__main__":
    full = read(sys.argv[1])
    print("\n".join([*lines(full), "", *targets(full), "", *slower(full)]))
