"""The vector kernels of pooling, where rows end within, with and after a vector."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import reference
from fastcnn.kernels import plans
from fastcnn.kernels.cpu import pool_planes
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.selection import IMPLEMENTATIONS, choose
from tests.functional.operations import POOLINGS, Guarded, geometry_of, guarded
from tests.geometries import PoolCase, pooling_data, seeds

# (window, stride): side by side, overlapping, with gaps
WINDOWS = [(2, 2), (3, 2), (3, 1), (1, 2), (5, 2)]


@st.composite
def _cases(draw, window, stride):
    """Rows and columns from fewer elements than a vector has lanes to several vectors."""
    lengths = st.integers(window, 10) | st.sampled_from([15, 16, 17, 31, 32, 33, 34, 37, 66, 70])
    pads = [draw(st.sampled_from([0, 0, 1, window - 1])) for _ in range(4)]
    padding = tuple(min(pad, window - 1) for pad in pads)
    shape = draw(st.integers(0, 2)), draw(st.integers(1, 5)), draw(lengths), draw(lengths)
    return PoolCase(*shape, window, stride, padding, 1, draw(st.booleans()))


def run(name, operation, g, *arrays):
    """One implementation below every check: what it returns and the bytes that it wrote."""
    shapes = [g.output_shape] if operation == "max_pool2d" else [g.input_shape]
    outputs = [Guarded(shape, arrays[0].dtype) for shape in shapes]
    if operation == "max_pool2d":
        outputs.append(Guarded(g.output_shape, g.mask_dtype))
    entry = choose(Problem(operation, g, arrays[0].dtype.name), name)
    returned = entry.load(operation)(g, *map(guarded, arrays), *(out.array for out in outputs))
    for out in outputs:
        out.assert_untouched_around()
    return returned, *(out.array.tobytes() for out in outputs)


def assert_equal_in_every_bit(g, x, dy, masks):
    """Values, masks, gradients that add up in one order, and the counts of bad entries."""
    served = 0
    for operation, calls in (
        ("max_pool2d", [(x,)]),
        ("max_pool2d_grad", [(dy, mask) for mask in masks]),
    ):
        for entry in IMPLEMENTATIONS[operation]:
            if entry.supports(Problem(operation, g, x.dtype.name)) is None:
                served += 1
                for arrays in calls:
                    expected = run("portable", operation, g, *arrays)
                    assert run(entry.name, operation, g, *arrays) == expected, entry.name
    return served


@pytest.mark.parametrize(("window", "stride"), WINDOWS)
@settings(deadline=None, max_examples=40)
@given(data=st.data(), dtype=st.sampled_from(["float32", "float64"]), seed=seeds())
def test_equal_to_portable(window, stride, data, dtype, seed):
    case = data.draw(_cases(window, stride))
    g, rng = geometry_of(case), np.random.default_rng(seed)
    x = pooling_data(rng, case.input_shape, dtype)
    _, mask = reference.max_pool2d(x, **case.options, return_mask=True)
    dy = rng.standard_normal(mask.shape).astype(dtype)
    dy[rng.random(mask.shape) < 0.2] = -0.0
    bad = np.where(rng.random(mask.shape) < 0.1, np.uint8(rng.integers(0, 256)), mask)
    assert_equal_in_every_bit(g, x, dy, [mask, bad])


@pytest.mark.parametrize("side", [4, 7, 14])
@pytest.mark.parametrize(("window", "padding"), [(2, 0), (3, 1)])
def test_several_planes_of_a_task_and_several_tasks(side, window, padding):
    """Planes that end within a task, at its end and with the array."""
    rng = np.random.default_rng(5)
    one = geometry_of(PoolCase(1, 1, side, side, window, 2, padding, 1, False))
    full = pool_planes.planes_per_task(one)
    for planes in (1, full - 1, full, full + 1, 2 * full + 1):
        case = PoolCase(1, planes, side, side, window, 2, padding, 1, False)
        x = rng.standard_normal(case.input_shape).astype(np.float32)
        y, mask = reference.max_pool2d(x, **case.options, return_mask=True)
        assert assert_equal_in_every_bit(geometry_of(case), x, y, [mask]) >= 4


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((1, 1, 9, 9, (2, 3), 2, 0, 1, False), "not square"),
        ((1, 1, 9, 9, 2, (2, 1), 0, 1, False), "not square"),
        ((1, 1, 9, 9, 3, 3, 0, 1, False), "stride 3 is above 2"),
        ((1, 1, 9, 9, 3, 2, 0, 2, False), "the window is dilated"),
        ((1, 1, 9, 9, 6, 2, 0, 1, False), "36 cells"),
        ((1, 1, 9, 3, 3, 2, 0, 1, False), "rows of one element"),
    ],
)
def test_refusals(options, reason):
    g = geometry_of(PoolCase(*options))
    for operation in POOLINGS:
        for name in ("tiles", "windows"):
            with pytest.raises(ValueError, match=reason):
                plans.plan(operation, g, "float32", name)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ((1, 1, 8, 8, 3, 2, 0, 1, False), "windows overlap"),
        ((1, 1, 8, 8, 2, 2, 1, 1, False), "windows reach into padding"),
        ((1, 1, 8, 3, 2, 2, 0, 1, True), "rows of one whole window fill no vector"),
    ],
)
def test_what_tiles_cannot_serve(options, reason):
    g = geometry_of(PoolCase(*options))
    with pytest.raises(ValueError, match=reason):
        plans.plan("max_pool2d", g, "float32", "tiles")
    assert plans.plan("max_pool2d", g, "float32").implementation.name == "windows"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 9), (5, 5), (7, 67), (27, 27)])
def test_tiles_that_hang_over_the_end(height, width, window, dtype):
    """Rows and columns of fewer cells, whose maximum may be negative, -inf or NaN."""
    case = PoolCase(3, 7, height, width, window, 2, 0, 1, True)
    g, rng = geometry_of(case), np.random.default_rng(7)
    assert choose(Problem("max_pool2d", g, dtype)).name == "tiles"
    x = pooling_data(rng, case.input_shape, dtype)
    x[0, 0], x[0, 1], x[0, 2] = -np.inf, np.nan, -1
    _, mask = reference.max_pool2d(x, **case.options, return_mask=True)
    dy = rng.standard_normal(mask.shape).astype(dtype)
    dy[rng.random(mask.shape) < 0.2] = -0.0
    bad = np.where(rng.random(mask.shape) < 0.3, np.uint8(1), mask)
    assert assert_equal_in_every_bit(g, x, dy, [mask, bad]) >= 4
