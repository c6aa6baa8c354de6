"""Ctrl-C in the first compilation, and out: the process ends cleanly, though something compiles."""

import os
import signal
import threading

import work
from numba.core import event


class Presser(event.Listener):
    pressed = False

    def on_start(self, _):
        if self.pressed:
            return
        self.pressed = True
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()

    def on_end(self, _):
        pass


event.register("numba:compile", Presser())
try:
    work.results()
except KeyboardInterrupt:
    print("interrupted")
