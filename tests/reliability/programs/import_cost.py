"""Print the CPU seconds that all of fastcnn takes to import after Numba, and what it loaded."""

import json
import sys
import time

from numba.core import event


class Count(event.Listener):
    compilations = 0

    def on_start(self, _):
        self.compilations += 1

    def on_end(self, _):
        pass


count = Count()
event.register("numba:compile", count)
before = set(sys.modules)
start = time.process_time()  # other processes on this machine do not count

import fastcnn  # noqa: E402

for name in fastcnn.__all__:
    getattr(fastcnn, name)

seconds = time.process_time() - start
loaded = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
# fastcnn's own rooms for it, which hold the errors' classes, import nothing of it
others = [name for name in sys.modules if not name.startswith("fastcnn.")]
cuda = [name for name in others if {"cuda", "numba_cuda"} & set(name.split("."))]
print(json.dumps([seconds, count.compilations, loaded, cuda]))
