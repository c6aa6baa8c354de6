"""Every implementation with the vectors of older processors: few geometries, every algorithm."""

import pytest

from tests.kernels.shorter_vectors import UNITS, needs_longer_vectors, run_on

PROGRAM = """
import numpy as np
from fastcnn import functional as fast, reference
from fastcnn.kernels.cpu.units import vector_unit
from fastcnn.kernels.selection import IMPLEMENTATIONS

# first layer, 3x3, 1x1, strided, depthwise, grouped and dilated
PROBLEMS = [
    ((2, 3, 19, 30), (9, 3, 5, 5), dict(stride=2, padding=2)),
    ((2, 12, 21, 18), (20, 12, 3, 3), dict(padding=1)),
    ((2, 20, 11, 13), (17, 20, 1, 1), {}),
    ((1, 9, 17, 16), (10, 9, 3, 3), dict(stride=2, padding=1)),
    ((2, 9, 13, 20), (10, 9, 4, 5), dict(stride=3, padding=1)),
    ((2, 8, 14, 15), (8, 1, 3, 3), dict(padding=1, groups=8)),
    ((2, 24, 10, 12), (26, 12, 3, 3), dict(padding=2, dilation=2, groups=2)),
]
rng = np.random.default_rng(0)
served = set()


def check(operation, names, call, want, eps):
    for name in names:
        try:
            got = call(name)
        except ValueError as error:
            assert "cannot serve" in str(error), error
            continue
        served.add(name)
        assert np.linalg.norm(got - want) <= 100 * eps * np.linalg.norm(want), (operation, name)


for x_shape, w_shape, options in PROBLEMS:
    x, w = (rng.standard_normal(s).astype(np.float32) for s in (x_shape, w_shape))
    y = reference.conv2d(x, w, **options)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    for operation, arguments in (
        ("conv2d", (x, w)),
        ("conv2d_input_grad", (dy, w, x.shape)),
        ("conv2d_weight_grad", (x, dy, w.shape)),
    ):
        names = [i.name for i in IMPLEMENTATIONS[operation]]
        want = getattr(reference, operation)(*arguments, **options)
        function = getattr(fast, operation)
        call = lambda name: function(*arguments, algorithm=name, **options)
        check(operation, names, call, want, np.finfo(np.float32).eps)
x = rng.standard_normal((3, 5, 17, 22)).astype(np.float32)
for window in ((2, 2), (3, 2)):
    y, mask = reference.max_pool2d(x, *window, return_mask=True)
    want = np.stack([y, mask])
    names = [i.name for i in IMPLEMENTATIONS["max_pool2d"]]
    call = lambda name: np.stack(fast.max_pool2d(x, *window, return_mask=True, algorithm=name))
    check("max_pool2d", names, call, want, 0)
listed = ("conv2d", "conv2d_weight_grad", "max_pool2d")
missing = {i.name for operation in listed for i in IMPLEMENTATIONS[operation]} - served
assert not missing, missing
print(vector_unit().name)
"""


@needs_longer_vectors
@pytest.mark.parametrize("unit", UNITS)
def test_every_implementation(unit):
    run_on(unit, PROGRAM)
