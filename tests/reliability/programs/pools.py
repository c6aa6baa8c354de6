"""multiprocessing: workers give the bits that the main process gives."""

import multiprocessing
import sys
import warnings

import work


def task(_):
    return work.digest()


if __name__ == "__main__":
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    method, launch_first = sys.argv[1:]
    digest = work.digest() if launch_first == "yes" else None
    pool = multiprocessing.get_context(method).Pool(2)
    digests = set(pool.map(task, range(4), chunksize=1))
    # Not `with`, which kills the workers: one killed while it gives back the semaphore that
    # Numba holds in it leaves the resource tracker with a name that no longer exists.
    pool.close()
    pool.join()
    assert digests == {digest or work.digest()}
