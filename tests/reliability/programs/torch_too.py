"""PyTorch and fastcnn in one process, in either order of import, and at the same time."""

import sys
import threading
from importlib import import_module

first, second = sys.argv[1:]
import_module(first)
import_module(second)

import torch  # noqa: E402
import work  # noqa: E402

import fastcnn  # noqa: E402

x, w = torch.from_numpy(work.X), torch.from_numpy(work.W)
expected = torch.nn.functional.conv2d(x, w)
torch.set_num_threads(3)
fastcnn.set_num_threads(2)
digest = work.digest()
assert torch.get_num_threads() == 3
assert fastcnn.get_num_threads() == 2

results = []
thread = threading.Thread(
    target=lambda: results.extend(torch.nn.functional.conv2d(x, w) for _ in range(20))
)
thread.start()
assert {work.digest() for _ in range(3)} == {digest}
thread.join()
assert len(results) == 20
for y in results:
    torch.testing.assert_close(y, expected)
torch.testing.assert_close(  # results of 8.5 in root mean square
    torch.from_numpy(fastcnn.functional.conv2d(x, w)), expected, rtol=1e-4, atol=1e-3
)
assert torch.get_num_threads() == 3
