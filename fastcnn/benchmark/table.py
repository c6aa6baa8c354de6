"""Results as tables of text, at most 100 columns wide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from fastcnn.benchmark.results import typical_limits

WIDTH = 100
_RATIO, _PEERS = 9, 6  # columns of a ratio, and how many of them fit
_HEADINGS = {"torch_cl": "torch-cl"}
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def duration(seconds: float) -> str:
    """Four digits and a unit: "1.234 ms"."""
    factor, unit = next(((f, u) for f, u in _UNITS if seconds >= f), _UNITS[-1])
    value = seconds / factor
    digits = 3 if value < 10 else 2 if value < 100 else 1
    return f"{value:.{digits}f} {unit}"


def size(count: int | None) -> str:
    """Bytes in the unit that suits them."""
    if count is None:
        return ""
    for factor, unit in ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB")):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"


def rate(row: dict[str, Any]) -> str:
    """GFLOP/s, or GB/s for work that memory bounds."""
    for name, unit in (("gflops", "GF"), ("gbs", "GB")):
        value = row.get(name)
        if value is not None:
            return f"{value:.{1 if value < 1000 else 0}f} {unit}"
    return ""


def ratio(found: dict[str, Any] | None) -> str:
    """How many times longer a side took; "~" inside the noise."""
    if found is None:
        return ""
    value = found["median"]
    text = f"{value:.2f}" if value < 100 else f"{value:.0f}"
    return f"~{text}" if found["verdict"] == "noise" else text


def _peers(rows: list[dict[str, Any]]) -> list[str]:
    """Names of other sides that were measured, in order of appearance."""
    found = (side for row in rows for side in row.get("ratios", {}))
    ours = {row["side"] for row in rows if row["library"] == "fastcnn"}
    return [side for side in dict.fromkeys(found) if side not in ours]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _line(row: dict[str, Any], peers: list[str]) -> str:
    name = row["label"] if row["side"] == "auto" else f" {row['side']}"
    spread = f"{min(999, 100 * row['spread']):.0f}{'!' if row['noisy'] else ''}"
    percent = row.get("percent_of_attainable")
    roof = "" if percent is None else f"{percent:.0f}"
    figures = f"{duration(row['median']):>9} {spread:>4} {rate(row):>8} {roof:>4}"
    ratios = "".join(f"{ratio(row.get('ratios', {}).get(p)):>{_RATIO}}" for p in peers)
    return f"  {_shortened(name, 12):<12} {row['threads']:>2} {figures}{ratios}".rstrip()


def _table(ours: list[dict[str, Any]], peers: list[str]) -> Iterator[str]:
    headings = "".join(f"{_HEADINGS.get(peer, peer):>{_RATIO}}" for peer in peers)
    yield f"{'layer':<14} {'T':>2} {'median':>9} {'±%':>4} {'rate':>8} {'roof':>4}{headings}"
    for (layer, problem), group in groupby(ours, lambda r: (r["layer"], r["problem"])):
        yield _shortened(layer if problem == layer else f"{layer} ({problem})", WIDTH)
        for row in group:
            yield _line(row, peers)
    yield ""


def lines(content: dict[str, Any]) -> Iterator[str]:
    """The table at the end of a run, from the content of its JSON."""
    rows = content["rows"]
    ours = [row for row in rows if row["library"] == "fastcnn" and row["status"] == "ok"]
    if ours:
        peers = _peers(rows)
        # what does not fit beside the figures follows in a table of its own
        for i in range(0, max(1, len(peers)), _PEERS):
            yield from _table(ours, peers[i : i + _PEERS])
        yield "±%: 95 % interval of the median, ! wider than asked for. roof: % of the attainable."
        yield "Peers: their time over ours, by pairs of rounds; above 1 we are faster, ~ noise."
    yield from _limits(content)
    yield from _startup(content)
    yield from _remarks(content)


def _limits(content: dict[str, Any]) -> Iterator[str]:
    for threads, found in typical_limits(content["limits"]).items():
        if "tensor_gflops" in found:
            yield from _gpu_limits(found, content)
            continue
        peak, clock = found["fma_gflops"], found["clock_ghz"]
        text = f"limits, {threads} thread{'s' if threads > 1 else ''}: "
        if peak is not None:
            text += f"{peak:.0f} GFLOP/s out of L1, "
        text += f"{found['copy_gbs']:.1f} GB/s copied"
        text += "" if clock is None else f", {clock:.2f} GHz"
        trip = found.get("trip_ns")  # runs of earlier versions have none
        yield text if trip is None else f"{text}, {trip:.0f} ns core to core and back"


def _gpu_limits(found: dict[str, Any], content: dict[str, Any]) -> Iterator[str]:
    unit = "TFLOP/s"
    text = f"limits of {content['machine']['gpu']}: "
    text += f"{found['multiply_add_gflops'] / 1e3:.1f} {unit} of float32 multiply-adds, "
    for name, kind in (("tensor_gflops", "TF32"), ("half_gflops", "bf16")):
        if found[name] is not None:
            text += f"{found[name] / 1e3:.0f} {unit} of {kind} products (mma.sync), "
    yield f"{text}{found['copy_gbs']:.0f} GB/s copied"
    yield f"numerics on all sides: {content['settings']['precision']}"


def _startup(content: dict[str, Any]) -> Iterator[str]:
    for row in content["startup"]:
        yield f"{row['name']:<34} {duration(row['median']):>9} ±{100 * row['spread']:.0f} %"


def _remarks(content: dict[str, Any]) -> Iterator[str]:
    """What is not in the table: refused, failed, left out."""
    for row in content["rows"]:
        if row["status"] in ("wrong", "failed"):
            word = {"wrong": "REFUSED, wrong", "failed": "failed"}[row["status"]]
            where = f"{row['library']} {row['side']} {row['label']} {row['layer']}"
            yield f"{word}: {where}, {row['threads']}T"
            yield _shortened(f"  {row['reason']}", WIDTH)
    if content["left_out"]:
        yield f"no time was left for {len(content['left_out'])} cases:"
        yield from (_shortened(f"  {name}", WIDTH) for name in content["left_out"])
    if not content["finished"]:
        yield "interrupted: this is what had been measured"
