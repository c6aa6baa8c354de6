"""Plots of a run: the roofline, and speed-up bars per layer. PNG, by matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np

from fastcnn.benchmark.results import typical_limits
from fastcnn.benchmark.summary import (
    Named,
    best_ratio,
    by_operation,
    charts,
    libraries,
    own_rows,
    peers,
)

NAMES = {
    "numpy": "NumPy",
    "loops": "loops",
    "torch": "PyTorch",
    "torch_cl": "PyTorch channels_last",
    "ort": "ONNX Runtime",
    "jax": "JAX",
    "scipy": "SciPy",
}
# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = {
    "numpy": "#999999",
    "loops": "#555555",
    "torch": "#d55e00",
    "torch_cl": "#e69f00",
    "ort": "#0072b2",
    "jax": "#009e73",
    "scipy": "#cc79a7",
}
_MARKERS = {"conv fwd": "o", "conv frozen": "P", "conv dx": "s", "conv dw": "^"}
# Inches: legible on a phone, whose page is about 4.5 inches of 9-point text across.
_WIDTH, _DPI = 4.6, 150
_FONT = 9


def _figure(height: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.tick_params(labelsize=_FONT - 1)
    return figure, axes


def _ticks(axis: Any, text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def _save(figure: Any, file: Path) -> Path:
    # no creation date and no version: the same figures give the same bytes
    figure.savefig(file, dpi=_DPI, metadata={"Software": None})
    return file


def roofline(content: dict[str, Any], threads: int, file: Path) -> Path | None:
    """Every case with FLOPs under the machine's roof; None if there is none, or no roof."""
    rows = [r for r in own_rows(content) if r["threads"] == threads and r["flops"] and r["bytes"]]
    limits = typical_limits(content["limits"]).get(threads)
    if not rows or limits is None or limits["fma_gflops"] is None:
        return None
    figure, axes = _figure(3.9)
    intensity = np.array([r["flops"] / r["bytes"] for r in rows])
    left, right = min(intensity.min(), 1) / 1.5, max(intensity.max(), 100) * 1.5
    x = np.geomspace(left, right, 200)
    roof = np.minimum(limits["fma_gflops"], x * limits["copy_gbs"])
    axes.plot(x, roof, color="black", linewidth=1.5)
    note = f"{limits['fma_gflops']:.0f} GFLOP/s, FMA out of L1"
    axes.annotate(note, (right, limits["fma_gflops"]), xytext=(-4, 4), fontsize=_FONT - 1,
                  textcoords="offset points", ha="right")  # fmt: skip
    axes.annotate(f"{limits['copy_gbs']:.0f} GB/s", (x[40], roof[40]), xytext=(-6, 2),
                  textcoords="offset points", fontsize=_FONT - 1, ha="right")  # fmt: skip
    for number, (label, group) in enumerate(by_operation(rows).items()):
        axes.plot(
            [r["flops"] / r["bytes"] for r in group], [r["gflops"] for r in group],
            linestyle="", marker=_MARKERS.get(label, "Dvxd*"[number % 5]), markersize=5,
            alpha=0.8, label=label,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        _ticks(axis, lambda value: f"{value:g}")
    axes.set_ylim(top=2.5 * limits["fma_gflops"])
    axes.set_xlabel("FLOPs per byte of inputs and outputs", fontsize=_FONT)
    axes.set_ylabel("GFLOP/s, direct convention", fontsize=_FONT)
    axes.set_title(f"Roofline, {_threads(threads)}", fontsize=_FONT + 1)
    axes.legend(fontsize=_FONT - 2, loc="lower right")
    axes.grid(alpha=0.3)
    return _save(figure, file)


def _threads(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"


def _bars(axes: Any, rows: list[dict[str, Any]], sides: list[str], best: bool) -> None:
    height = 0.8 / len(sides)
    for number, side in enumerate(sides):
        for place, row in enumerate(rows):
            found = best_ratio(row, side) if best else row["ratios"].get(side)
            if found is None:
                continue
            y = place + (number - (len(sides) - 1) / 2) * height
            # bars start at 1: to the right we are faster, to the left slower; log scale
            axes.barh(
                y, log2(found["median"]), height * 0.9, color=COLOURS[side],
                alpha=0.4 if found["verdict"] == "noise" else 1.0,
                label=NAMES[side] if place == 0 else None,
            )  # fmt: skip
    axes.axvline(0, color="black", linewidth=1)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _ticks(axes.xaxis, lambda value: f"{2**value:g}x")
    axes.set_xlabel("their time over ours; right of 1x fastcnn is faster", fontsize=_FONT)
    axes.grid(axis="x", alpha=0.3)


def _legend(axes: Any, sides: list[str], best: bool) -> None:
    from matplotlib.patches import Patch

    name = {**NAMES, "torch": "PyTorch, its better layout"} if best else NAMES
    handles = [Patch(color=COLOURS[side], label=name[side]) for side in sides]
    axes.legend(handles=handles, fontsize=_FONT - 2, loc="upper center", ncols=2,
                bbox_to_anchor=(0.4, -0.14 * 3.5 / axes.figure.get_figheight()))  # fmt: skip


def speedups(named: Named, title: str, file: Path) -> Path | None:
    """Bars per layer against each peer; None if there is no peer."""
    names, rows = [name for name, _ in named], [row for _, row in named]
    sides = peers(rows)
    if not sides:
        return None
    figure, axes = _figure(1.4 + len(rows) * (0.1 + 0.11 * len(sides)))
    _bars(axes, rows, sides, best=False)
    axes.set_yticks(range(len(rows)), names, fontsize=_FONT - 2)
    axes.set_title(title, fontsize=_FONT + 1)
    _legend(axes, sides, best=False)
    return _save(figure, file)


def overview(content: dict[str, Any], threads: int, file: Path) -> Path | None:
    """One chart for README: every case against the better side of each library."""
    rows = [row for row in own_rows(content) if row["threads"] == threads]
    sides = libraries(rows)
    if not sides:
        return None
    figure, axes = _figure(1.4 + len(rows) * (0.1 + 0.1 * len(sides)))
    _bars(axes, rows, sides, best=True)
    labels = [f"{row['layer'].rpartition('.')[2]}, {row['label']}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=_FONT - 2)
    axes.set_title(f"fastcnn against its peers, {_threads(threads)}", fontsize=_FONT + 1)
    _legend(axes, sides, best=True)
    return _save(figure, file)


def all_plots(content: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Every plot of a run, by title."""
    found: dict[str, Path | None] = {}
    for threads in content["settings"]["threads"]:
        name = f"roofline-{threads}.png"
        found[f"Roofline, {_threads(threads)}"] = roofline(content, threads, folder / name)
        mine = [row for row in own_rows(content) if row["threads"] == threads]
        for title, rows in charts(mine).items():
            words = [*title.replace(",", "").split(), str(threads)]
            file = folder / f"speedup-{'-'.join(words)}.png"
            full = f"{title}, {_threads(threads)}"
            found[full] = speedups(rows, full, file)
    return {title: file for title, file in found.items() if file is not None}
