"""Say what a bug report needs: versions, processor, threads, cache, kernels, CUDA.

Launches one small kernel, to see which of Numba's threading layers serves.
"""

from __future__ import annotations

import argparse
import textwrap
from typing import Any

from fastcnn.cli.facts import facts
from fastcnn.cli.options import write_json

_WIDTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `fastcnn info`."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the facts."""
    found = facts()
    if arguments.json:
        write_json("-", found)
    else:
        print("\n".join(_lines(found)))
    return 0


def _lines(found: dict[str, Any]) -> list[str]:
    """Sections of aligned lines, none wider than a hundred columns where words allow it."""
    lines: list[str] = []
    for section, content in found.items():
        lines += ["", section] if lines else [section]
        rows = dict(content) if isinstance(content, dict) else {"": content}
        column = max(map(len, rows), default=0)
        for name, value in rows.items():
            start = f"  {name:<{column}}  "
            lines += textwrap.wrap(
                _text(value) or "none",
                _WIDTH,
                initial_indent=start,
                subsequent_indent=" " * len(start),
                break_long_words=False,
                break_on_hyphens=False,
            )
        if not rows:
            lines.append("  none")
    return lines


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {content}" for name, content in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)
