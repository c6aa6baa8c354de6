"""What holds for every test."""

import signal


def pytest_configure() -> None:
    # A shell starts what it puts in the background with Ctrl-C ignored, and children inherit that:
    # the programs that tests interrupt would not notice.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
