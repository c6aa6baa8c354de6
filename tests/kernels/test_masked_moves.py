"""Moves of vectors between planes and blocks: values, and the borders of what they may touch."""

import numpy as np
import pytest

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import (
    put,
    take_both,
    take_every,
    take_fourth,
    take_second,
    take_stepped,
    turn,
)
from fastcnn.kernels.cpu.units import vector_unit

UNIT = vector_unit()
on_vectors = pytest.mark.skipif(UNIT is None, reason="no vector unit here, or nothing is compiled")
FLOATS = (np.float32, np.float64)


@kernel
def taking_both(count, s, s0, plane, ahead, t, even, odd, step, first, last):
    take_both(count, s, s0, plane, ahead, t, even, odd, step, first, last)


@kernel
def taking(count, s, s0, plane, stride, t, t0, step, first, last, fresh):
    if stride == 1:
        take_every(count, s, s0, plane, stride, t, t0, step, first, last, fresh)
    elif stride == 2:
        take_second(count, s, s0, plane, stride, t, t0, step, first, last, fresh)
    elif stride == 4:
        take_fourth(count, s, s0, plane, stride, t, t0, step, first, last, fresh)
    else:
        take_stepped(count, s, s0, plane, stride, t, t0, step, first, last, fresh)


@kernel
def turning(rows, columns, s, s0, step, t, t0, places, p0):
    turn(rows, columns, s, s0, step, t, t0, places, p0)


@kernel
def putting(count, s, s0, step, t, t0, plane, stride, first, last):
    put(count, s, s0, step, t, t0, plane, stride, first, last)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("fresh", [False, True])
def test_take_reads_its_lanes_alone(dtype, stride, fresh):
    """Lanes beyond the mask lie in poison, and before the array's first element."""
    lanes, count, plane, step = UNIT.lanes(np.dtype(dtype).itemsize), 3, 200, 70
    for first in range(lanes):
        for last in range(first, lanes + 1):
            source = np.full(count * plane, np.nan, dtype)
            target = np.arange(count * step, dtype=dtype)
            expected = target.copy()
            s0 = 0 - first * stride  # lane `first` is the first element of the array
            for n in range(count):
                wanted = 1000 * (n + 1) + np.arange(last - first)
                source[n * plane : n * plane + (last - first) * stride : stride] = wanted
                if fresh:
                    expected[5 + n * step : 5 + n * step + lanes] = 0
                expected[5 + n * step + first : 5 + n * step + last] = wanted
            taking(count, source, s0, plane, stride, target, 5, step, first, last, fresh)
            np.testing.assert_array_equal(target, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
def test_both_residues_are_taken_at_once(dtype):
    """Elements beyond the bounds lie in poison, and before the array's first; what is fetched may
    be no memory."""
    lanes, count, plane, step = UNIT.lanes(np.dtype(dtype).itemsize), 3, 70, 90
    for first in range(2 * lanes):
        for last in range(first, 2 * lanes + 1):
            source = np.full(count * plane, np.nan, dtype)
            target = np.full(count * step, 5, dtype)
            expected = target.copy()
            for n in range(count):
                row = np.zeros(2 * lanes, dtype)
                row[first:last] = 1000 * (n + 1) + np.arange(last - first)
                source[n * plane : n * plane + last - first] = row[first:last]
                expected[1 + n * step : 1 + n * step + lanes] = row[::2]
                expected[40 + n * step : 40 + n * step + lanes] = row[1::2]
            taking_both(count, source, -first, plane, 1 << 40, target, 1, 40, step, first, last)
            np.testing.assert_array_equal(target, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_put_writes_its_lanes_alone(dtype, stride):
    lanes, count, plane, step = UNIT.lanes(np.dtype(dtype).itemsize), 3, 150, 40
    source = np.arange(count * step, dtype=dtype)
    for first in range(lanes):
        for last in range(first, lanes + 1):
            target = np.full(count * plane, np.nan, dtype)
            expected = target.copy()
            for n in range(count):
                places = n * plane + np.arange(last - first) * stride
                expected[places] = source[2 + n * step + np.arange(first, last)]
            putting(count, source, 2, step, target, 0 - first * stride, plane, stride, first, last)
            np.testing.assert_array_equal(target, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
def test_turn_writes_the_columns_that_are_wanted(dtype):
    """Rows end where the source does; columns without a place go nowhere."""
    lanes = UNIT.lanes(np.dtype(dtype).itemsize)
    for rows in range(1, lanes + 1):
        for columns in range(1, lanes + 1):
            step = columns + 2
            source = np.full(3 + (rows - 1) * step + columns, np.nan, dtype)
            target = np.full(7 + lanes * (lanes + 1), np.nan, dtype)
            expected, places = target.copy(), np.full(2 + lanes, -1)
            for j in range(lanes):  # the last columns first; every third nowhere
                places[2 + j] = -1 if j % 3 == 1 else (lanes - 1 - j) * (rows + 1)
            for m in range(rows):
                for j in range(columns):
                    source[3 + m * step + j] = 100 * m + j
                    if places[2 + j] >= 0:
                        expected[7 + places[2 + j] + m] = 100 * m + j
            turning(rows, columns, source, 3, step, target, 7, places, 2)
            np.testing.assert_array_equal(target, expected)
