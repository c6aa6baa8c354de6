"""Rates and percentages of rows, from times, FLOPs, bytes and the machine's limits.

    attainable FLOP/s = min(peak, intensity * bandwidth)      intensity = FLOPs / bytes moved

(Williams, Waterman and Patterson 2009), where bytes are those of inputs and outputs, each once.
"""

from __future__ import annotations

from typing import Any


def with_rates(
    rows: list[dict[str, Any]], limits: dict[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows with rates and, in fastcnn's, the ratio to each other side.

    gflops          FLOPs of the direct form per second, 10^9: an algorithm that needs fewer can
                    exceed the peak
    gbs             bytes of inputs and outputs per second, 10^9: data that fit a cache can exceed
                    the bandwidth of memory
    percent_of_peak, percent_of_attainable
                    of the FMA peak, and of min(peak, FLOPs/byte * bandwidth)
    """
    found = []
    for row in rows:
        row = {name: value for name, value in row.items() if name != "paired"}
        if row["status"] == "ok":
            row |= _rates(row, limits.get(row["threads"]))
        if row["library"] == "fastcnn":
            row["ratios"] = _ratios(row, rows)
        found.append(row)
    return found


def _rates(row: dict[str, Any], limits: dict[str, Any] | None) -> dict[str, Any]:
    seconds, flops, moved = row["median"], row["flops"], row["bytes"]
    rates: dict[str, Any] = {
        "gflops": flops / seconds / 1e9 if flops else None,
        "gbs": moved / seconds / 1e9 if moved else None,
        "percent_of_peak": None,
        "percent_of_attainable": None,
    }
    if limits is not None:
        if flops and limits["fma_gflops"]:
            rates["percent_of_peak"] = 100 * rates["gflops"] / limits["fma_gflops"]
        least = attainable(flops, moved, limits)
        if least is not None:
            rates["percent_of_attainable"] = 100 * least / seconds
    return rates


def _same_case(row: dict[str, Any], other: dict[str, Any]) -> bool:
    names = "operation", "problem", "dtype", "threads", "layer"
    return all(row[name] == other[name] for name in names)


def _ratios(row: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of "auto", paired round by round; another implementation has its own against auto alone."""
    if row["side"] != "auto":
        return {}
    return {
        other["side"]: other["paired"]
        for other in rows
        if "paired" in other and _same_case(row, other)
    }


def attainable(flops: int, moved: int, limits: dict[str, Any]) -> float | None:
    """Seconds that the roofline allows for work of so many FLOPs and bytes; None if unknown.

    Parameters
    ----------
    flops, moved : int
        FLOPs may be 0: work that only moves memory.
    limits : dict
        With "fma_gflops" and "copy_gbs".
    """
    by_memory = moved / (limits["copy_gbs"] * 1e9)
    if not flops:
        return by_memory
    if limits["fma_gflops"] is None:
        return None
    # time = FLOPs / min(peak, FLOPs/bytes * bandwidth)
    return max(flops / (limits["fma_gflops"] * 1e9), by_memory)
