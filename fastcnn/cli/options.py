"""Readers of command-line values that several subcommands share: argparse's `type=` functions."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fastcnn.verification.problems import find, unknown

DTYPES = ("float32", "float64")


class UsageError(Exception):
    """What was asked for cannot be done as it was asked: the command ends with status 2."""


def names(what: str, known: Iterable[str]) -> Callable[[str], list[str]]:
    """A comma-separated list of known names; a wrong one is answered with the nearest."""
    known = list(known)

    def read(text: str) -> list[str]:
        given = [name.strip() for name in text.split(",")]
        for name in given:
            if name not in known:
                raise argparse.ArgumentTypeError(unknown(what, name, known))
        return given

    return read


def at_least(least: int) -> Callable[[str], int]:
    """An int that is not below `least`."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be an int of at least {least}, got {text!r}")
        return int(text)

    return read


def counts(text: str) -> list[int]:
    """A comma-separated list of numbers of at least 1."""
    return [at_least(1)(part) for part in text.split(",")]


def positive_seconds(text: str) -> float:
    """A number above 0."""
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, but got {text}")
    return seconds


def problems(text: str) -> list[str]:
    """A comma-separated list of problems, each a name or a problem string."""
    given = [part.strip() for part in text.split(",")]
    for part in given:
        try:
            find(part)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return given


def output_file(text: str) -> str:
    """A file to write, "-" for standard output; its folder must exist before the work begins."""
    if text != "-" and not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {str(Path(text).parent)!r}")
    return text


def write_json(file: str, content: Any) -> None:
    """Write to a file, or to standard output for "-"."""
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    if file == "-":
        sys.stdout.write(text)
    else:
        Path(file).write_text(text)
