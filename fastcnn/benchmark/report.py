"""The report of a run: one self-contained HTML page, and PNG plots beside it."""

from __future__ import annotations

import base64
from html import escape
from math import log2
from pathlib import Path
from typing import Any

from fastcnn.benchmark import page
from fastcnn.benchmark.estimate import said
from fastcnn.benchmark.plots import NAMES, all_plots
from fastcnn.benchmark.results import typical_limits
from fastcnn.benchmark.sides import DESCRIPTIONS
from fastcnn.benchmark.statistics import LEVEL
from fastcnn.benchmark.summary import (
    Named,
    by_operation,
    charts,
    layer_of,
    libraries,
    means,
    own_rows,
    peers,
    suite_of,
)
from fastcnn.benchmark.table import duration, rate, ratio, size

# A bar reaches its end at this ratio, or its inverse.
_FULL = 8.0

_METHOD = """
<p>Every library runs in a process of its own, with the same number of threads, pinned to the same
cores, one thread to a core. They take turns, round after round, and only one computes at a time.
Before a side is timed, its result is held against the NumPy reference in float64; then its weights
change sign in place and it is held against it again. Three input sets take turns and weights change
in place between calls. Compiling and warming up are not timed.</p>
<p>Times are medians of rounds, a round's figure being the median of its calls. The spread is the
width of the 95&nbsp;% confidence interval of the median. A ratio is the median of the rounds' own
ratios, so that drift of the machine hits both sides; it is called noise if its interval holds 1 or
it is within 3&nbsp;% of it. GFLOP/s count two per multiply-add of the direct convolution, whatever
an algorithm really does; GB/s count inputs and outputs once. Attainable is the smaller of the FMA
peak and intensity times copy bandwidth, both measured in this run; data that fit a cache can exceed
it, and so can algorithms that multiply less.</p>
"""


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


def _machine(content: dict[str, Any]) -> str:
    found = content["machine"]
    if not found:
        return "<p>The run ended before the machine was looked at.</p>"
    caches = ", ".join(f"{name} {size(count)}" for name, count in found["caches"].items())
    kind = "a virtual machine" if found["virtual"] else "bare metal"
    pairs = {
        "Processor": f"{found['cpu']} {found['family']}".strip(),
        "Cores": f"{found['cores']}, {kind}",
        "Caches": caches,
        "Memory": size(found["memory_bytes"]),
        "System": found["system"],
        "Software": ", ".join(f"{k} {v}" for k, v in found["versions"].items()),
        "Commit": found["commit"] or "not from a checkout",
        "Measured": f"{content['created']}, in {said(content['seconds'])}",
        "Command": " ".join(content["command"]),
    }
    rows = []
    for threads, limits in typical_limits(content["limits"]).items():
        mine = [entry for entry in content["limits"] if entry["threads"] == threads]
        peaks = [e["fma_gflops"] for e in mine if e["fma_gflops"] is not None]
        copies = [e["copy_gbs"] for e in mine]
        clock = limits["clock_ghz"]
        trips = [e["trip_ns"] for e in mine if e.get("trip_ns") is not None]
        rows.append([
            _threads(threads),
            f"{limits['fma_gflops']:.0f} ({min(peaks):.0f} to {max(peaks):.0f})" if peaks else "",
            f"{limits['copy_gbs']:.1f} ({min(copies):.1f} to {max(copies):.1f})",
            "" if clock is None else f"{clock:.2f}",
            f"{min(trips):.0f} to {max(trips):.0f}" if trips else "",
        ])  # fmt: skip
    head = ["limits", "FMA, GFLOP/s", "copy, GB/s", "clock, GHz", "core to core and back, ns"]
    note = '<p class="dim">Median of the run, and the range over it.</p>'
    return page.facts(pairs) + "<h3>What it can do</h3>" + page.table(head, rows) + note


def _kind(mean: float) -> str:
    return "good" if mean > 1 + LEVEL else "bad" if mean < 1 - LEVEL else "even"


def _means(content: dict[str, Any], threads: int) -> str:
    """Geometric means: over everything, and per operation, against each library."""
    rows = [row for row in own_rows(content) if row["threads"] == threads]
    names = libraries(rows)
    tiles, cells = [], []
    for name in names:
        found = means(rows, name)
        if found is not None:
            tiles.append(
                f'<div class="tile">{NAMES[name]}<b class="{_kind(found.mean)}">'
                f'{found.mean:.2f}x</b><span class="dim">{found.cases} cases</span></div>'
            )
    for label, group in by_operation(rows).items():
        line: list[page.Cell] = [label]
        for name in names:
            found = means(group, name)
            line.append("" if found is None else (f"{found.mean:.2f}x", _kind(found.mean)))
        cells.append(line)
    heading = f"<h3>{_threads(threads)}</h3>"
    grid = f'<div class="tiles">{"".join(tiles)}</div>'
    return heading + grid + "<p></p>" + page.table(["", *(NAMES[n] for n in names)], cells)


def _bar(side: str, found: dict[str, Any]) -> str:
    kind = {"faster": "good", "slower": "bad", "noise": "even"}[found["verdict"]]
    width = min(1.0, abs(log2(found["median"])) / log2(_FULL)) * 50
    left = 50.0 if found["median"] >= 1 else 50 - width
    spread = f"{found['low']:.2f} to {found['high']:.2f} in {found['rounds']} rounds"
    return (
        f'<div class="bar"><span>{NAMES[side].replace("channels_last", "NHWC")}</span>'
        f'<span class="track" title="{spread}"><i class="{kind}" '
        f'style="left:{left:.1f}%;width:{width:.1f}%"></i></span>'
        f"<span>{ratio(found)}x</span></div>"
    )


def _layers(named: Named) -> str:
    parts = []
    for name, row in named:
        bars = "".join(_bar(s, row["ratios"][s]) for s in DESCRIPTIONS if s in row["ratios"])
        percent = row["percent_of_attainable"]
        roof = "" if percent is None else f", {percent:.0f} %"
        speed = rate(row).replace("GF", "GFLOP/s").replace("GB", "GB/s")
        parts.append(
            f'<div class="layer"><div class="head"><b>{escape(name)}</b>'
            f"<span>{duration(row['median'])}, {speed}{roof}</span></div>{bars}</div>"
        )
    return "\n".join(parts)


def _charts(content: dict[str, Any], threads: int, opened: bool) -> str:
    rows = [row for row in own_rows(content) if row["threads"] == threads]
    parts: list[str] = []
    for title, named in charts(rows).items():
        full = f"{title}, {_threads(threads)}"
        parts.append(page.folded(full, _layers(named), opened=opened and not parts))
    return "\n".join(parts)


def _all_rows(content: dict[str, Any]) -> str:
    head = ["layer", "operation", "threads", "side", "algorithm", "minimum", "median", "±%",
            "rate", "% of peak", "% of attainable", "workspace", "extra", "error"]  # fmt: skip
    cells = []
    for row in content["rows"]:
        if row["status"] != "ok":
            continue
        percents = [row["percent_of_peak"], row["percent_of_attainable"]]
        spread = f"{100 * row['spread']:.1f}{' noisy' if row['noisy'] else ''}"
        error = "" if row["error"] is None else f"{row['error']:.1e}"
        cells.append([
            f"{suite_of(row)} {layer_of(row)}", row["label"], str(row["threads"]), row["side"],
            row["algorithm"] or "", duration(row["minimum"]), duration(row["median"]), spread,
            rate(row), *("" if p is None else f"{p:.0f}" for p in percents),
            size(row["workspace_bytes"]), size(row["extra_bytes"]), error,
        ])  # fmt: skip
    return page.table(head, cells)


def _alarms(content: dict[str, Any]) -> str:
    """Refused and failed sides, an interrupt, cases left out."""
    lines = [
        f"{row['status']}: {row['library']} {row['side']}, {row['label']} {row['layer']}, "
        f"{_threads(row['threads'])}: {row['reason']}"
        for row in content["rows"]
        if row["status"] in ("wrong", "failed")
    ]
    if not content["finished"]:
        lines.append("The run was interrupted; this is what had been measured.")
    if content["left_out"]:
        lines.append(f"No time was left for: {', '.join(content['left_out'])}.")
    return "".join(f'<p class="alarm">{escape(line)}</p>' for line in lines)


def _startup(content: dict[str, Any]) -> str:
    if not content["startup"]:
        return ""
    rows = [[r["name"], duration(r["median"]), duration(r["minimum"]), str(len(r["seconds"]))]
            for r in content["startup"]]  # fmt: skip
    return page.section("Start-up", page.table(["what", "median", "minimum", "runs"], rows))


def _image(title: str, file: Path) -> str:
    data = base64.b64encode(file.read_bytes()).decode()
    return f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'


def render(content: dict[str, Any], plots: dict[str, Path]) -> str:
    """The page as text; of the plots it takes in the rooflines, the bars it draws itself."""
    threads = sorted({row["threads"] for row in own_rows(content)}, reverse=True)
    sides = peers(own_rows(content))
    roofs = [_image(title, file) for title, file in plots.items() if title.startswith("Roofline")]
    legend = "".join(f"<li>{escape(DESCRIPTIONS[s])}</li>" for s in sides)
    lead = (
        "How many times longer other libraries take than fastcnn's automatic choice: above 1x "
        "fastcnn is faster. Geometric means over all cases and by operation; PyTorch by the "
        "faster of its layouts, case by case."
    )
    bars = (
        '<p class="dim">Beside each layer its median time, rate and percent of the attainable. '
        "Bars start at 1x: to the right fastcnn is faster, to the left slower, grey and ~ inside "
        "the noise; the scale is logarithmic and ends at 8x.</p>"
    )
    body = [
        "<h1>fastcnn beside its peers</h1>",
        _alarms(content),
        f"<p>{lead}</p>",
        page.beside(*[_means(content, count) for count in threads]),
        page.section("Peers", f"<ul>{legend}</ul>") if sides else "",
        page.section("The machine", _machine(content)),
        page.section("Roofline", page.beside(*roofs)) if roofs else "",
        page.section(
            "Layer by layer", bars, *[_charts(content, n, n == threads[0]) for n in threads]
        ),
        _startup(content),
        page.section("How it was measured", _METHOD),
        page.section("Everything", page.folded("All rows", _all_rows(content))),
    ]
    return page.page("fastcnn: benchmark report", "\n".join(part for part in body if part))


def write_report(content: dict[str, Any], folder: Path) -> Path:
    """Write index.html and the plots; returns the page.

    Parameters
    ----------
    content : dict
        Of a run's JSON.
    folder : Path
        Made if it does not exist.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    file.write_text(render(content, all_plots(content, folder)))
    return file
