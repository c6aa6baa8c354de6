"""Launches recorded and run again: every kind of argument, shared and serial launches, failures."""

import numpy as np
import pytest

from fastcnn import functional
from fastcnn.kernels.cpu.jit import config, kernel
from fastcnn.kernels.cpu.replay import recording
from fastcnn.kernels.cpu.threads import WORTH_SHARING, launch
from tests.geometries import small_integers

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="nothing is compiled")


@kernel
def every_kind(task, a, b, flag, single, double, small, out):
    """Arrays of several types and dimensions, bool, float32, float64 and ints."""
    total = a[task, 1] * single + b[task] * double + small
    out[task] = -total if flag else total


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("work", [0, WORTH_SHARING])
def test_every_kind_of_argument(flag, work):
    a, b = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6, dtype=np.uint8)
    out = np.zeros(6)
    with recording() as tape:
        launch(every_kind, 6, work, a, b, flag, np.float32(0.5), 0.25, -3, out)
    expected = out.copy()
    assert len(set(expected)) == 6
    out.fill(np.nan)
    tape.run()
    np.testing.assert_array_equal(out, expected)
    a[:, 1] += 2
    tape.run()
    np.testing.assert_array_equal(out, expected + (-1 if flag else 1))


def test_a_sequence_on_new_inputs():
    rng = np.random.default_rng(0)
    x, w = (
        small_integers(rng, (2, 3, 8, 8), "float32"),
        small_integers(rng, (4, 3, 3, 3), "float32"),
    )

    def work():
        y = functional.conv2d(x, w, padding=1)
        pooled, mask = functional.max_pool2d(functional.relu(y), 2, return_mask=True)
        return functional.max_pool2d_grad(pooled, mask, y.shape, 2)

    with recording() as tape:
        result = work()
    for _ in range(3):
        x[...] = small_integers(rng, x.shape, "float32")
        w[...] = small_integers(rng, w.shape, "float32")
        for array in tape.scratch(x, w):
            array.fill(np.nan)
        tape.run()
        replayed = result.copy()
        np.testing.assert_array_equal(replayed, work())


def test_scratch_names_what_lies_between():
    x = np.ones(5, np.float32)
    with recording() as tape:
        y = functional.relu(x)
        z = functional.tanh(y)
    found = tape.scratch(x)
    assert {np.shares_memory(a, y) for a in found} == {True, False}
    assert all(np.shares_memory(a, y) or np.shares_memory(a, z) for a in found)


def test_nothing_is_recorded_outside_or_elsewhere():
    from threading import Thread

    x = np.ones(5, np.float32)
    with recording() as tape:
        other = Thread(target=functional.relu, args=(x,))
        other.start()
        other.join()
    functional.relu(x)
    assert tape.launches == []
    tape.run()


@kernel
def hungry(task, out, sizes):
    out[task] = np.empty(sizes[task]).size


def test_no_memory_is_an_error():
    out = np.zeros(2)
    sizes = np.array([1, 1])
    with recording() as tape:
        launch(hungry, 2, 0, out, sizes)
    sizes[:] = 1 << 58
    with pytest.raises(MemoryError, match="recorded"):
        tape.run()
    sizes[:] = 1
    tape.run()
