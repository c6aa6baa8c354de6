"""Ctrl-C while a kernel runs on threads: KeyboardInterrupt, and everything works afterwards."""

import os
import signal
import sys
import threading

import numba
import numpy as np
import work

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch

(layer,) = sys.argv[1:]


@kernel
def wait(task, progress):
    """Set progress[0], then work until progress[1] has been set from outside."""
    progress[0] = 1
    spins = 0
    while progress[1] == 0:
        spins += 1
        if spins % 1024 == 0:
            progress[2 + task] = np.empty(spins % 7).size  # memory must be read again
    progress[0] = 2


def press():
    while progress[0] == 0:
        pass
    os.kill(os.getpid(), signal.SIGINT)
    progress[1] = 1


digest = work.digest()
counts = numba.get_num_threads()
progress = np.zeros(10)
finger = threading.Thread(target=press)
finger.start()
try:
    launch(wait, 8, WORTH_SHARING, progress)
    raise AssertionError("not interrupted")
except KeyboardInterrupt:
    pass
finger.join()
assert progress[0] == 2  # the launch had begun, and was let run to its end
assert numba.get_num_threads() == counts
assert numba.threading_layer() == layer

others = [threading.Thread(target=work.results) for _ in range(2)]
for other in others:
    other.start()
assert work.digest() == digest
for other in others:
    other.join()
