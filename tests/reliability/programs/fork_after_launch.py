"""A child forked after a parallel launch computes the same bits, by its one thread."""

import os
import signal
import sys
import warnings

import numba
import work

import fastcnn

# Python 3.12 and later warn of every fork while threads exist.
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
(layer,) = sys.argv[1:]
digest = work.digest()
assert numba.threading_layer() == layer


def child():
    signal.alarm(60)
    assert fastcnn.get_num_threads() == 4
    assert work.digest() == digest
    assert len(os.listdir("/proc/self/task")) == 1
    fastcnn.set_num_threads(3)
    assert work.digest() == digest


for _ in range(2):
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert work.digest() == digest  # the parent goes on, and forks again
