"""The cache folder turns into a file between import and first call: one warning, right results."""

import os
import shutil
import warnings
from pathlib import Path

import work

from fastcnn.kernels.cpu import activation, sums, threads

folder = Path(os.environ["NUMBA_CACHE_DIR"])
assert {Path(m.__file__).parent.name for m in (activation, sums, threads)} == {"cpu"}
shutil.rmtree(folder)
folder.write_text("in the way")
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    work.digest(work.quick_results)
(warning,) = caught
assert warning.category is RuntimeWarning
print(warning.message)
