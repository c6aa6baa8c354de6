"""A program's own Numba thread count is its own, in every thread of it."""

import threading

import numba
import work

import fastcnn

fastcnn.set_num_threads(2)
work.digest()
assert numba.get_num_threads() == 4
numba.set_num_threads(3)
work.digest()
assert numba.get_num_threads() == 3
assert fastcnn.get_num_threads() == 2

counts = []


def call():
    work.digest()
    counts.append(numba.get_num_threads())


thread = threading.Thread(target=call)
thread.start()
thread.join()
assert counts == [4]
assert numba.get_num_threads() == 3
