"""Eight Python threads call everything at once, from a process that has launched nothing before."""

import sys
import threading

import numba
import work

import fastcnn

(layer,) = sys.argv[1:]
THREADS = 8
work.expected(work.results)
barrier = threading.Barrier(THREADS)
digests, errors = [], []


def call():
    try:
        barrier.wait()
        digests.extend([work.digest() for _ in range(3)])
    except BaseException as error:
        errors.append(error)


threads = [threading.Thread(target=call) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for error in errors:
    raise error
fastcnn.set_num_threads(1)
assert len(digests) == 3 * THREADS
assert set(digests) == {work.digest()}
assert numba.threading_layer() == layer
