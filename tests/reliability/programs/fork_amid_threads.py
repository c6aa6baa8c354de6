"""Forks while one thread launches kernels and another compiles: no lock stays shut in a child."""

import os
import signal
import threading
import warnings

import numba
import work

warnings.filterwarnings("ignore", "This process", DeprecationWarning)
digest = work.digest()
stop = threading.Event()


def launch():
    while not stop.is_set():
        work.results()


def compile_something():
    while not stop.is_set():
        numba.njit(lambda x: x + 1)(1)


threads = [threading.Thread(target=f) for f in (launch, compile_something)]
for thread in threads:
    thread.start()
for _ in range(5):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        assert numba.njit(lambda x: x + 2)(1) == 3
        assert work.digest() == digest
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
for thread in threads:
    thread.join()
assert work.digest() == digest
