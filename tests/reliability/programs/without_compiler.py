"""Every public operation where Numba compiles nothing: the right results, and no warning."""

import numba
import numpy as np

from fastcnn import functional, reference
from tests.calls import calls

assert numba.config.DISABLE_JIT
for images in (2, 0):
    for call in calls(images):
        for dtype in (np.float32, np.float64):
            results = call.run(functional, call.arguments(dtype))
            expected = call.run(reference, call.arguments(dtype))
            for result, wanted in zip(results, expected, strict=True):
                assert result.dtype == wanted.dtype
                tolerance = 1e-5 if dtype is np.float32 else 1e-12
                np.testing.assert_allclose(result, wanted, rtol=tolerance, atol=tolerance)
print(len(calls()))

# Sums are in float64 here too, where Python's own 0.0 would give way to float32.
values = np.array([1e8, 1, -1e8], np.float32).reshape(3, 1, 1, 1)
assert functional.conv2d_bias_grad(values) == 1
assert functional.conv2d_bias_grad(values, per_pixel=True) == 1
assert functional.dense_bias_grad(values.reshape(3, 1)) == 1
