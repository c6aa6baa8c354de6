"""What holds for every test."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator

import pytest

from tests.fuzz_settings import CASES, SEED


def pytest_configure() -> None:
    # A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that:
    # the programs that tests interrupt would not notice.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> str:
    return f"fuzz: {CASES} calls, FASTCNN_FUZZ_SEED={SEED}"


@pytest.fixture(autouse=True)
def number_of_threads() -> Iterator[None]:
    """The number of threads is the process's: no test leaves its own to the next."""
    yield
    threads = sys.modules.get("fastcnn.kernels.cpu.threads")
    if threads is not None:
        threads._requested = None
