"""Print how many compilations the named work took (those of helpers too), and its digest."""

import sys

from numba.core import event


class Count(event.Listener):
    compilations = 0

    def on_start(self, _):
        self.compilations += 1

    def on_end(self, _):
        pass


count = Count()
event.register("numba:compile", count)

import work  # noqa: E402

digest = work.digest(getattr(work, sys.argv[1]))
print(count.compilations, digest)
