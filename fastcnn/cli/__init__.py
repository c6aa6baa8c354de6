"""The `fastcnn` command: one file per subcommand, loaded when it is asked for.

A subcommand's file has `add_arguments(parser)` and `run(arguments) -> int`, the exit status.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import fastcnn

COMMANDS = {
    "demo": "train two networks on real images, on NumPy and on the kernels",
    "train": "train a network of the lectures on real images",
    "compare": "run every kernel against the reference on this machine",
    "bench": "measure every kernel beside NumPy, other libraries and the machine's limits",
    "warmup": "compile kernels ahead of their first use",
    "info": "say what a bug report needs to know",
}

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
exit status: 0 done, 1 something failed, 2 wrong usage, 130 interrupted
fastcnn COMMAND --help says more about each."""


class _Parser(argparse.ArgumentParser):
    """argparse's parser, with errors that begin with the command and advice on wrong names."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"{self.prog}: {message}\n(see {self.prog} --help)\n")


def _parser(command: str) -> argparse.ArgumentParser:
    """The whole parser; of the subcommands, only `command` knows its arguments."""
    parser = _Parser(
        prog="fastcnn",
        description="Fast and readable CNN layers for NumPy arrays.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastcnn {fastcnn.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, formatter_class=parser.formatter_class)
        if name == command:
            module = import_module(f"fastcnn.cli.{name}")
            sub.description = module.__doc__
            module.add_arguments(sub)
    return parser


def _dispatch(argv: Sequence[str]) -> int:
    command = next((a for a in argv if not a.startswith("-")), "")
    parser = _parser(command)
    if command and command not in COMMANDS:
        from fastcnn.verification.problems import unknown

        parser.error(unknown("command", command, COMMANDS))
    if not argv:
        parser.print_help(sys.stderr)
        return USAGE
    arguments = parser.parse_args(argv)
    from fastcnn.cli.options import UsageError

    try:
        return import_module(f"fastcnn.cli.{arguments.command}").run(arguments)
    except UsageError as error:
        name = f"{parser.prog} {arguments.command}"
        parser.exit(USAGE, f"{name}: {error}\n(see {name} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments; those of the process by default.

    Returns
    -------
    int
        The exit status: 0, 1 if something failed, 2 for wrong usage, 130 after Ctrl-C.
    """
    try:
        status = _dispatch(sys.argv[1:] if argv is None else argv)
        sys.stdout.flush()
    except SystemExit as stop:  # argparse, after --help or an error
        return stop.code if isinstance(stop.code, int) else USAGE
    except KeyboardInterrupt:
        print("\nfastcnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # `fastcnn info | head`: nobody reads on. What is still buffered must go nowhere, or Python
        # complains about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return status
