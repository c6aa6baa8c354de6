"""autotune: what was fastest serves, is remembered, kept in a file, and can be turned off."""

import json

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, tuning
from fastcnn.geometry import conv2d_geometry
from fastcnn.kernels import plans
from fastcnn.kernels.implementation import Problem
from fastcnn.kernels.plans import plan
from fastcnn.kernels.selection import IMPLEMENTATIONS

X, W = np.ones((2, 3, 9, 8), np.float32), np.ones((4, 3, 3, 3), np.float32)
GEOMETRY = conv2d_geometry(X.shape, W.shape)


@pytest.fixture(autouse=True)
def untouched(monkeypatch):
    monkeypatch.setattr(tuning, "_measured", {})
    monkeypatch.setattr(tuning, "_file", None)
    yield
    fastcnn.autotune(False)


@pytest.fixture
def stopwatch(monkeypatch):
    """Measurements that say what they are told; counts them."""
    seconds, problems = {}, []

    def measure(problem, candidates):
        problems.append(problem)
        return {c.name: seconds.get(c.name, 1.0) for c in candidates}

    monkeypatch.setattr(tuning, "measure", measure)
    return seconds, problems


def chosen(operation="conv2d", geometry=GEOMETRY):
    return plan(operation, geometry, "float32").implementation.name


def able():
    problem = Problem("conv2d", GEOMETRY, "float32")
    return [i.name for i in IMPLEMENTATIONS["conv2d"] if i.supports(problem) is None]


def test_the_fastest_serves_and_is_measured_once(stopwatch):
    seconds, problems = stopwatch
    before = chosen()
    for name in able():
        seconds.clear()
        seconds[name] = 0.5
        tuning._measured.clear()
        fastcnn.autotune()
        assert [chosen() for _ in range(3)] == [name] * 3
    assert len(problems) == len(able())
    fastcnn.autotune(False)
    assert chosen() == before
    fastcnn.autotune()
    assert chosen() == able()[-1]  # remembered
    assert len(problems) == len(able())


def test_what_is_hardly_faster_does_not_replace_the_cost_model_s_choice(stopwatch):
    seconds, _ = stopwatch
    before = chosen()
    seconds.update({name: 0.97 for name in able() if name != before})
    fastcnn.autotune()
    assert chosen() == before


def test_every_operation_is_really_measured(monkeypatch):
    monkeypatch.setattr(tuning, "_TURN", 1e-5)
    fastcnn.autotune()
    y = functional.conv2d(X, W)
    functional.conv2d_input_grad(y, W, X.shape)
    functional.conv2d_weight_grad(X, y, W.shape)
    p, mask = functional.max_pool2d(y, 2, return_mask=True)
    functional.max_pool2d_grad(p, mask, y.shape, 2)
    functional.relu(y)  # has one implementation
    assert len(tuning._measured) == 5
    for key, name in tuning._measured.items():
        assert name in [i.name for i in IMPLEMENTATIONS[key.split()[0]]]
    np.testing.assert_array_equal(y, np.full((2, 4, 7, 6), 27))
    functional.conv2d(X[:0], W)  # no images: nothing to measure
    assert len(tuning._measured) == 5


def test_a_named_algorithm_and_ieee_are_respected(stopwatch):
    _, problems = stopwatch
    fastcnn.autotune()
    assert plan("conv2d", GEOMETRY, "float32", "portable").implementation.name == "portable"
    assert not problems
    with fastcnn.precision("ieee"):
        chosen()
    assert [p.precision for p in problems] == ["ieee"]


def test_a_file_serves_later_processes(stopwatch, tmp_path):
    seconds, problems = stopwatch
    seconds["portable"] = 0.5
    file = tmp_path / "choices.json"
    fastcnn.autotune(file=file)
    assert chosen() == "portable"
    tuning._measured.clear()
    plans.forget()
    seconds["portable"] = 2.0
    fastcnn.autotune(file=file)
    assert chosen() == "portable"
    assert len(problems) == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format": "x", "choices": {}}', json.dumps({"format": 1})]
)
def test_another_file_is_refused_and_left(content, tmp_path):
    file = tmp_path / "choices.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"choices\.json holds no choices"):
        fastcnn.autotune(file=file)
    assert file.read_text() == content


def test_a_file_of_another_version_names_what_is_gone(stopwatch, tmp_path):
    """Choices that this version does not have are measured anew."""
    _, problems = stopwatch
    fastcnn.autotune()
    chosen()
    (key,) = tuning._measured
    file = tmp_path / "choices.json"
    file.write_text(json.dumps({"format": tuning._FORMAT, "choices": {key: "gone"}}))
    tuning._measured.clear()
    fastcnn.autotune(file=file)
    assert chosen() in able()
    assert len(problems) == 2


def test_measurements_are_not_recorded_into_a_tape(monkeypatch):
    monkeypatch.setattr(tuning, "_TURN", 1e-5)
    with plans.recording() as tape:
        functional.conv2d(X, W)
    expected = len(tape.launches)
    fastcnn.autotune()
    name = chosen()
    plans.forget()
    tuning._measured.clear()
    with plans.recording() as tape:
        functional.conv2d(X, W, algorithm="portable")
    named = len(tape.launches)
    with plans.recording() as tape:
        functional.conv2d(X, W)
    assert len(tape.launches) <= max(expected, named) + 2
    assert name in able()
