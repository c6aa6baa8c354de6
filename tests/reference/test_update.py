"""Optimizer steps: in place, by hand."""

import numpy as np
import pytest

from fastcnn.reference import adam_step, momentum_step, sgd_step


def test_sgd():
    w = np.array([1.0, 2.0])
    assert sgd_step(w, [10.0, -20.0], 0.125) is w
    np.testing.assert_array_equal(w, [-0.25, 4.5])


def test_momentum():
    w, velocity = np.array([8.0]), np.array([0.0])
    assert momentum_step(w, [2.0], velocity, 1.0, momentum=0.5) is w
    np.testing.assert_array_equal([w, velocity], [[6], [2]])
    momentum_step(w, [2.0], velocity, 1.0, momentum=0.5)
    # v = 0.5 * 2 + 2
    np.testing.assert_array_equal([w, velocity], [[3], [3]])


def test_nesterov():
    w, velocity = np.array([8.0]), np.array([2.0])
    momentum_step(w, [2.0], velocity, 1.0, momentum=0.5, nesterov=True)
    # v = 0.5 * 2 + 2 = 3; w = 8 - (2 + 0.5 * 3)
    np.testing.assert_array_equal([w, velocity], [[4.5], [3]])


def test_adams_first_step_is_the_learning_rate_whatever_the_gradient():
    w, m, v = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2)
    assert adam_step(w, [1e-3, -1e3], m, v, 1, learning_rate=0.25, epsilon=0.0) is w
    np.testing.assert_allclose(w, [0.75, 1.25])


def test_adam_by_hand():
    w, m, v = np.array([1.0]), np.array([4.0]), np.array([1.0])
    adam_step(w, [2.0], m, v, 2, learning_rate=1.0, beta_1=0.5, beta_2=0.75, epsilon=1.0)
    # m = (4 + 2) / 2, v = (3 * 1 + 4) / 4; corrected m / (3/4) = 4, v / (7/16) = 4; 1 - 4 / (2 + 1)
    np.testing.assert_allclose([w, m, v], [[-1 / 3], [3], [1.75]], rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strided_parameters_are_updated_in_place(dtype):
    table = np.zeros((3, 4), dtype)
    w, m, v = table[:, 1], np.zeros(3, dtype), np.zeros(3, dtype)
    sgd_step(w, np.ones(3, dtype), 1.0)
    momentum_step(w, np.ones(3, dtype), m, 1.0)
    adam_step(w, np.ones(3, dtype), m, v, 1)
    np.testing.assert_array_equal(np.count_nonzero(table, axis=0), [0, 3, 0, 0])
    assert table.dtype == dtype


STEPS = {
    "sgd": lambda w, dw: sgd_step(w, dw, 0.1),
    "momentum": lambda w, dw: momentum_step(w, dw, np.zeros(2), 0.1),
    "adam": lambda w, dw: adam_step(w, dw, np.zeros(2), np.zeros(2), 1),
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
class TestErrors:
    def test_lists_cannot_be_updated(self, step):
        with pytest.raises(TypeError, match=r"expected w to be a numpy\.ndarray.*but got list"):
            step([1.0, 2.0], np.ones(2))

    def test_read_only(self, step):
        w = np.ones(2)
        w.flags.writeable = False
        with pytest.raises(ValueError, match="w is read-only"):
            step(w, np.ones(2))

    @pytest.mark.parametrize("shape", [(), (1,), (1, 2), (3,)])
    def test_gradients_do_not_broadcast(self, step, shape):
        with pytest.raises(ValueError, match=r"dw must have shape \(2,\) \(like w"):
            step(np.ones(2), np.ones(shape))

    def test_types(self, step):
        with pytest.raises(TypeError, match="mixed types: dw is float32, but w is float64"):
            step(np.ones(2), np.ones(2, np.float32))
        with pytest.raises(TypeError, match="w must be float32 or float64, but got int64"):
            step(np.ones(2, np.int64), np.ones(2))


def test_memory_of_another_shape():
    with pytest.raises(ValueError, match=r"velocity must have shape \(2,\) \(like w"):
        momentum_step(np.ones(2), np.ones(2), np.zeros(1), 0.1)
    with pytest.raises(ValueError, match=r"v must have shape \(2,\) \(like w"):
        adam_step(np.ones(2), np.ones(2), np.zeros(2), np.zeros((2, 1)), 1)


def test_steps_count_from_one():
    with pytest.raises(ValueError, match="step must be at least 1, but got 0"):
        adam_step(np.ones(2), np.ones(2), np.zeros(2), np.zeros(2), 0)
