"""A kernel that finds no memory for its workspace: MemoryError, from threads or without them."""

import numpy as np
import pytest
import work

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch


@kernel
def greedy(task, out, size):
    scratch = np.empty(size, np.float64)
    scratch[task] = task
    out[task] = scratch[task] + scratch[size - 1]


out = np.zeros(8)
for shared in (0, WORTH_SHARING):
    with pytest.raises(MemoryError, match=r"^no memory for the workspace of greedy$"):
        launch(greedy, len(out), shared, out, 1 << 58)
work.digest()
