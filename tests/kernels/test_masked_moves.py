"""Moves of vectors between planes and blocks: values, and the borders of what they may touch."""

import numpy as np
import pytest

from fastcnn.kernels.cpu.jit import kernel
from fastcnn.kernels.cpu.masked_moves import (
    put,
    put_four,
    put_three,
    put_two,
    rows_in_four,
    rows_in_three,
    rows_in_two,
    rows_whole,
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
def taking_rows(n, planes, plane, rows, row, s, s0, o, t, apart, t0, t_plane, t_row, first, last):
    if n == 1:
        rows_whole(planes, plane, rows, row, s, s0, o, t, apart, t0, t_plane, t_row, first, last)
    elif n == 2:
        rows_in_two(planes, plane, rows, row, s, s0, o, t, apart, t0, t_plane, t_row, first, last)
    elif n == 3:
        rows_in_three(planes, plane, rows, row, s, s0, o, t, apart, t0, t_plane, t_row, first, last)
    else:
        rows_in_four(planes, plane, rows, row, s, s0, o, t, apart, t0, t_plane, t_row, first, last)


@kernel
def putting_in_turn(n, count, s, starts, o0, t, t0, plane, first, last, ahead):
    if n == 2:
        put_two(count, s, starts, o0, t, t0, plane, first, last, ahead)
    elif n == 3:
        put_three(count, s, starts, o0, t, t0, plane, first, last, ahead)
    else:
        put_four(count, s, starts, o0, t, t0, plane, first, last, ahead)


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
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_rows_are_taken_apart_at_once(dtype, n):
    """Elements beyond the bounds lie in poison, and before the array's first; what is fetched may
    be no memory."""
    lanes, planes, rows = UNIT.lanes(np.dtype(dtype).itemsize), 2, 3
    width = n * lanes
    row, t_row, apart = width + 3, lanes + 1, 4 * lanes + 7
    plane, t_plane = rows * row + 2, n * apart + 3
    for first in range(width):
        for last in range(first, width + 1):
            source = np.full(planes * plane, np.nan, dtype)
            target = np.full(1 + planes * t_plane, 5, dtype)
            expected = target.copy()
            for c in range(planes):
                for i in range(rows):
                    line = np.zeros(width, dtype)
                    line[first:last] = 1000 * (rows * c + i + 1) + np.arange(last - first)
                    place = c * plane + i * row
                    source[place : place + last - first] = line[first:last]
                    for r in range(n):
                        place = 1 + r * apart + c * t_plane + i * t_row
                        expected[place : place + lanes] = line[r::n]
            taking_rows(
                n, planes, plane, rows, row, source, -first, 1 << 40, target, apart, 1, t_plane,
                t_row, first, last,
            )  # fmt: skip
            np.testing.assert_array_equal(target, expected)


@on_vectors
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("n", [2, 3, 4])
def test_vectors_are_put_in_turn(dtype, n):
    """Elements beyond the bounds stay; a step of 0 puts the same vector every time."""
    lanes, count = UNIT.lanes(np.dtype(dtype).itemsize), 2
    width = n * lanes
    plane, step = width + 5, 2 * lanes
    source = np.arange(count * step * n, dtype=dtype)
    starts = np.full(1 + 2 * n, -7)
    for r in range(n):
        starts[1 + 2 * r : 3 + 2 * r] = r * count * step, 0 if r == 1 else step
    for first in range(width):
        for last in range(first, width + 1):
            target = np.full(count * plane, np.nan, dtype)
            expected = target.copy()
            for m in range(count):
                line = np.empty(width, dtype)
                for r in range(n):
                    at = starts[1 + 2 * r] + m * starts[2 + 2 * r]
                    line[r::n] = source[at : at + lanes]
                expected[m * plane : m * plane + last - first] = line[first:last]
            putting_in_turn(
                n, count, source, starts, 1, target, -first, plane, first, last, 1 << 40
            )  # fmt: skip
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
