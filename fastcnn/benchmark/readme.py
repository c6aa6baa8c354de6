"""README's performance section and the plot in docs/, from the JSON of a run.

    fastcnn bench --readme bench/results/FILE.json

The text between the two markers is replaced; nothing in it is ever typed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastcnn.benchmark import results
from fastcnn.benchmark.plots import NAMES, overview
from fastcnn.benchmark.results import typical_limits
from fastcnn.benchmark.summary import best_ratio, libraries, means, own_rows
from fastcnn.benchmark.table import duration, rate, ratio

BEGIN, END = "<!-- performance: begin -->", "<!-- performance: end -->"
PLOT = Path("docs") / "performance.png"


def section(content: dict[str, Any], source: str) -> str:
    """The text between the markers, for the largest number of threads measured.

    Parameters
    ----------
    content : dict
        Of a run's JSON.
    source : str
        The file that it came from, as README names it.

    Raises
    ------
    ValueError
        The run has no rows of fastcnn.
    """
    rows = own_rows(content)
    if not rows:
        raise ValueError(f"{source} has no timings of fastcnn")
    threads = max(row["threads"] for row in rows)
    rows = [row for row in rows if row["threads"] == threads]
    names = libraries(rows)
    head = ["layer", "problem", "operation", "time", "rate", "of attainable",
            *(NAMES[name] for name in names)]  # fmt: skip
    lines = [_line(head), _line(["---"] * 3 + ["---:"] * (len(head) - 3))]
    for row in rows:
        percent = row["percent_of_attainable"]
        lines.append(_line([
            row["layer"], f"`{row['problem']}`", row["label"], duration(row["median"]),
            rate(row).replace("GF", "GFLOP/s").replace("GB", "GB/s"),
            "" if percent is None else f"{percent:.0f} %",
            *(_times(best_ratio(row, name)) for name in names),
        ]))  # fmt: skip
    averages = [means(rows, name) for name in names]
    cells = ["" if mean is None else f"**{mean.mean:.2f}x**" for mean in averages]
    lines.append(_line(["**geometric mean**", "", "", "", "", "", *cells]))
    return "\n".join([_lead(content, threads, source), "", *lines, "", _plot_line()])


def _plot_line() -> str:
    return f"![Speed-up of fastcnn over each peer, layer by layer]({PLOT.as_posix()})"


def _times(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{ratio(found).replace('~', '≈')}x"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _lead(content: dict[str, Any], threads: int, source: str) -> str:
    found, limits = content["machine"], typical_limits(content["limits"])[threads]
    versions = found["versions"]
    peers = {"torch": "PyTorch", "onnxruntime": "ONNX Runtime", "jax": "JAX", "numpy": "NumPy"}
    software = ", ".join(f"{name} {versions[p]}" for p, name in peers.items() if p in versions)
    peak = limits["fma_gflops"]
    roof = "" if peak is None else f"{peak:.0f} GFLOP/s of multiply-adds out of L1, "
    return (
        f"Measured by `{' '.join(content['command'])}` ([{source}]({source})) on "
        f"{threads} thread{'s' if threads > 1 else ''} of {found['cpu']} {found['family']} "
        f"({roof}{limits['copy_gbs']:.0f} GB/s copied), float32; {software}. The last columns say "
        "how many times longer each peer takes (PyTorch: the better of NCHW and channels_last): "
        "above 1x fastcnn is faster, ≈ is inside the noise. "
        "[docs/performance.md](docs/performance.md) says how it is measured, and why."
    )


def write_readme(source: str, root: Path | None = None) -> list[Path]:
    """Replace README's section and the plot; returns the files written.

    Parameters
    ----------
    source : str
        A run's JSON.
    root : Path, optional
        The checkout; the one that this package lies in by default.

    Raises
    ------
    OSError
        A file cannot be read or written.
    ValueError
        No run's JSON, or README has lost the markers.
    """
    root = Path(__file__).parents[2] if root is None else root
    content, readme = results.read(source), root / "README.md"
    file = Path(source).resolve()
    name = file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name
    text = readme.read_text()
    before, found, rest = text.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"{readme} must have a line {BEGIN} and after it a line {END}")
    readme.write_text(f"{before}{BEGIN}\n{section(content, name)}\n{END}{after}")
    threads = max(row["threads"] for row in own_rows(content))
    (root / PLOT).parent.mkdir(exist_ok=True)
    plot = overview(content, threads, root / PLOT)
    return [readme] if plot is None else [readme, plot]
