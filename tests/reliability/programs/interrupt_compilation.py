"""Ctrl-C at many points of the first calls' compilation; the last call then gets through."""

import os
import signal
import threading
import time

import work
from numba.core import event

DELAYS = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.2)  # seconds after a compilation began


class Presser(event.Listener):
    """Presses Ctrl-C once for every delay, each in a compilation of its own."""

    def __init__(self):
        self.delays = list(DELAYS)

    def on_start(self, _):
        if self.delays:
            threading.Thread(target=self.press, args=(self.delays.pop(),)).start()

    def on_end(self, _):
        pass

    def press(self, delay):
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGINT)


presser = Presser()
event.register("numba:compile", presser)
interrupted, through = 0, False
while not through:
    try:
        work.quick_results()
        while threading.active_count() > 1:
            time.sleep(0.01)
        through = True
    except KeyboardInterrupt:
        interrupted += 1
event.unregister("numba:compile", presser)
assert not presser.delays
assert interrupted > 1
work.digest(work.quick_results)
