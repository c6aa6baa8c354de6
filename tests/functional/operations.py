"""What the tests of convolution and pooling share: every implementation, and guarded memory."""

from __future__ import annotations

import re
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from fastcnn.geometry import Conv2dGeometry, Pool2dGeometry, conv2d_geometry, pool2d_geometry
from fastcnn.kernels import precision
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.plans import Plan, plan
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.geometries import ConvCase, PoolCase

CONVOLUTIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
POOLINGS = ("max_pool2d", "max_pool2d_grad")
FLOATS = (np.float32, np.float64)

# Elements of guard on either side; odd, so that the guarded array starts off any wide alignment.
GUARD = 67


def implementations(*operations: str) -> list[Any]:
    """(operation, algorithm) for every entry of the lists, for pytest.mark.parametrize."""
    return [
        pytest.param(operation, entry.name, id=f"{operation}-{entry.name}")
        for operation in operations
        for entry in IMPLEMENTATIONS[operation]
    ]


def geometry_of(case: ConvCase | PoolCase) -> Conv2dGeometry | Pool2dGeometry:
    """The geometry object of a case, one image as a batch of one."""
    shape = case.input_shape if case.N is not None else (1, *case.input_shape)
    if isinstance(case, ConvCase):
        return conv2d_geometry(shape, case.weight_shape, **case.options)
    return pool2d_geometry(shape, **case.options)


def plan_for(case: ConvCase | PoolCase, operation: str, algorithm: str, dtype: Any) -> Plan | None:
    """The named implementation's plan, or None if it says why it cannot serve this case.

    A refusal must be a reason, and naming the algorithm all the same must raise it.
    """
    geometry, name = geometry_of(case), np.dtype(dtype).name
    (entry,) = (e for e in IMPLEMENTATIONS[operation] if e.name == algorithm)
    reason = entry.supports(Problem(operation, geometry, name, precision.current()))
    if reason is None:
        return plan(operation, geometry, name, algorithm)
    assert isinstance(reason, str)
    assert reason
    with pytest.raises(ValueError, match=re.escape(reason)):
        plan(operation, geometry, name, algorithm)
    return None


def convolve(
    module: ModuleType, operation: str, case: ConvCase, x: Any, w: Any, dy: Any, **extra: Any
) -> Any:
    """One of the three convolutions of `fastcnn.functional` or `fastcnn.reference`."""
    options = case.options | extra
    if operation == "conv2d":
        return module.conv2d(x, w, **options)
    if operation == "conv2d_input_grad":
        return module.conv2d_input_grad(dy, w, case.input_shape, **options)
    return module.conv2d_weight_grad(x, dy, case.weight_shape, **options)


def result_shape(operation: str, case: ConvCase) -> tuple[int, ...]:
    """Shape of what `convolve` returns."""
    x, w, y = case.shapes
    return {"conv2d": y, "conv2d_input_grad": x, "conv2d_weight_grad": w}[operation]


def terms(operation: str, case: ConvCase) -> int:
    """Products that one element of the result adds up, at the most."""
    if operation == "conv2d_weight_grad":
        *batch, _, p, q = case.output_shape
        return p * q * (batch[0] if batch else 1)
    channels = case.C if operation == "conv2d" else case.K
    return channels // case.groups * case.R * case.S


class Guarded:
    """An array inside a longer buffer of NaN (or of the largest integer), which it is poison to
    read from and an error to write to."""

    def __init__(self, shape: tuple[int, ...], dtype: Any, values: Any = None) -> None:
        size = int(np.prod(shape))
        dtype = np.dtype(dtype)
        poison = np.nan if dtype.kind == "f" else np.iinfo(dtype).max
        self._buffer = np.full(size + 2 * GUARD, poison, dtype)
        self._before = self._buffer.tobytes()
        self.array = self._buffer[GUARD : GUARD + size].reshape(shape)
        if values is not None:
            self.array[...] = values

    def assert_untouched_around(self) -> None:
        """Not a bit of the guards has changed."""
        ends = GUARD * self._buffer.itemsize
        after = self._buffer.tobytes()
        assert after[:ends] == self._before[:ends]
        assert after[len(after) - ends :] == self._before[len(after) - ends :]


def guarded(values: np.ndarray) -> np.ndarray:
    """The same values in memory surrounded by poison: a read beyond them shows in the result."""
    return Guarded(values.shape, values.dtype, values).array
