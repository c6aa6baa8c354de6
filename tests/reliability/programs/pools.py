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
    with multiprocessing.get_context(method).Pool(2) as pool:
        digests = set(pool.map(task, range(4), chunksize=1))
    assert digests == {digest or work.digest()}
