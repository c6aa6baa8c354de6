"""Work for the programs beside this file: every kind of kernel, large enough to be shared."""

import hashlib
from functools import cache

import numpy as np

from fastcnn import functional, reference

_rng = np.random.default_rng(3)
X = _rng.standard_normal((8, 8, 33, 30)).astype(np.float32)
W = _rng.standard_normal((12, 8, 3, 3)).astype(np.float32)
DY = _rng.standard_normal((8, 12, 31, 28)).astype(np.float32)


def results(module=functional):
    """Forward and backward through convolution and pooling, and an activation."""
    pooled, mask = module.max_pool2d(DY, 3, stride=1, return_mask=True)
    return [
        module.conv2d(X, W),
        module.conv2d_input_grad(DY, W, X.shape),
        module.conv2d_weight_grad(X, DY, W.shape),
        module.conv2d_bias_grad(DY),
        pooled,
        module.max_pool2d_grad(pooled, mask, DY.shape, 3, stride=1),
        module.sigmoid(DY),
    ]


def quick_results(module=functional):
    """What compiles in a second: no threads, and two types, so that kernels have two signatures."""
    return [
        function(dy)
        for dy in (DY[:1], DY[:1].astype(np.float64))
        for function in (module.relu, module.conv2d_bias_grad)
    ]


@cache
def expected(work):
    """What the reference gives."""
    return work(reference)


def digest(work=results):
    """A number for the bits of the results, which are held against the reference."""
    arrays = work()
    for array, wanted in zip(arrays, expected(work), strict=True):
        scale = np.sqrt(np.mean(np.square(wanted)))  # transforms err by a share of that
        np.testing.assert_allclose(array, wanted, rtol=1e-4, atol=1e-4 * scale)
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, arrays))).hexdigest()
