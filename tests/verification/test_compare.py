"""The comparison passes on the kernels as they are, and catches and names any that is wrong."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels.implementation import Implementation
from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification import compare
from fastcnn.verification.bounds import BOUNDS, limit
from fastcnn.verification.cases import Truth
from fastcnn.verification.compare import NothingToCompare
from fastcnn.verification.operations import DATA, OPERATIONS, Call, Source
from fastcnn.verification.problems import find
from fastcnn.verification.random_problems import random_problem

SMALL = ("seeds", "odd", "dense")


def spoil(monkeypatch, operation, damage):
    """Let every implementation of an operation run `damage(outputs of the kernel)` at its end."""
    load = Implementation.load

    def spoiled(self, name):
        kernel = load(self, name)

        def run(geometry, *args):
            result = kernel(geometry, *args)
            damage(args)
            return result

        return run if name == operation else kernel

    monkeypatch.setattr(Implementation, "load", spoiled)


@pytest.mark.parametrize("operation", IMPLEMENTATIONS)
def test_every_operation_in_the_lists_can_be_compared(operation):
    assert operation in OPERATIONS, f"write a maker for {operation} in operations.py"
    assert operation in BOUNDS, f"state the accuracy of {operation} in bounds.py"
    assert hasattr(functional, operation)
    assert hasattr(reference, operation)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("data", DATA)
def test_makers_make_arrays_of_the_type_asked_for(operation, data):
    rng = np.random.default_rng(0)
    problem = random_problem(OPERATIONS[operation].kind, rng)
    while not OPERATIONS[operation].takes(problem):
        problem = random_problem(OPERATIONS[operation].kind, rng)
    for dtype in ("float32", "float64"):
        call = OPERATIONS[operation].make(problem, Source(rng, dtype, data))
        arrays = [a for a in call.args if isinstance(a, np.ndarray)]
        assert arrays
        assert {a.dtype.name for a in arrays if a.dtype.kind == "f"} == {dtype}


@pytest.mark.parametrize("operation", IMPLEMENTATIONS)
def test_every_implementation_agrees_with_the_reference(operation):
    report = compare([operation], suites=SMALL)
    assert report.passed, str(report)
    assert len(report.rows) == 2 * len(IMPLEMENTATIONS[operation])
    assert all(row.cases >= 100 for row in report.rows)


def one_wrong_element(args):
    out = next(a for a in reversed(args) if isinstance(a, np.ndarray) and a.dtype.kind == "f")
    out.flat[out.size // 2] += 1


def one_wrong_parameter(args):
    args[0].flat[args[0].size // 2] += 1  # a step's result is what it is given first


def one_wrong_mask_entry(args):
    args[-1].flat[0] ^= 1


@pytest.mark.parametrize(
    ("operation", "damage"),
    [
        ("conv2d", one_wrong_element),
        ("conv2d_input_grad", one_wrong_element),
        ("conv2d_weight_grad", one_wrong_element),
        ("conv2d_bias_grad", one_wrong_element),
        ("max_pool2d", one_wrong_element),
        ("max_pool2d", one_wrong_mask_entry),
        ("max_pool2d_grad", one_wrong_element),
        ("relu_grad", one_wrong_element),
        ("softmax", one_wrong_element),
        ("dense", one_wrong_element),
        ("half_squared_error_grad", one_wrong_element),
        ("sgd_step", one_wrong_parameter),
    ],
)
def test_one_wrong_element_is_caught_and_named(monkeypatch, operation, damage):
    spoil(monkeypatch, operation, damage)
    report = compare([operation, "tanh"], suites=["seeds"], cases=20)
    assert not report.passed
    wrong = [row for row in report.rows if not row.passed]
    assert {row.operation for row in wrong} == {operation}
    assert {row.dtype for row in wrong} == {"float32", "float64"}
    # every case, but those with no element in the middle to spoil
    assert all(row.failures > 15 for row in wrong)
    text = str(report)
    assert f"{operation} {wrong[0].implementation} float32" in text
    assert wrong[0].problem in text
    assert report.command(wrong[0]) in text


def test_a_slightly_wrong_element_among_many_is_caught_on_integers(monkeypatch):
    """1 in 10,000 of one element of 8,192 is far below any bound of a norm."""

    def damage(args):
        args[-1].flat[4000] *= 1.0001

    spoil(monkeypatch, "conv2d", damage)
    report = compare(["conv2d"], ["portable"], problems=["n2c4h32k4r3p1"], dtypes=["float32"])
    (row,) = report.rows
    assert (row.cases, row.failures) == (3, 1)
    assert "integers" in row.case
    assert 0 < row.worst < 1e-5
    assert row.bound == 0


def test_an_element_that_is_never_written_is_caught(monkeypatch):
    load = Implementation.load

    def forgetful(self, name):
        def run(geometry, x, w, b, y):
            before = y.flat[0]
            load(self, name)(geometry, x, w, b, y)
            y.flat[0] = before

        return run

    monkeypatch.setattr(Implementation, "load", forgetful)
    report = compare(["conv2d"], suites=["seeds"], cases=20)
    assert all(row.failures > 15 for row in report.rows)


def test_results_that_depend_on_the_number_of_threads_are_caught(monkeypatch):
    def damage(args):
        if fastcnn.get_num_threads() == 2:
            args[-1][...] = np.nextafter(args[-1], np.inf)

    spoil(monkeypatch, "tanh", damage)
    report = compare(["tanh"], suites=["seeds"], cases=10, threads=(1, 2))
    assert not report.passed
    assert any("not the same bits" in row.message for row in report.rows)
    assert all("2 threads" in row.case for row in report.rows)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_results_that_are_not_finite_fail(monkeypatch, value):
    def damage(args):
        args[-1].flat[0] = value

    spoil(monkeypatch, "relu", damage)
    report = compare(["relu"], cases=5)
    assert [row.failures for row in report.rows] == [row.cases for row in report.rows]
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["results"][0]["worst"] is None


def test_an_implementation_that_raises_fails_and_the_others_go_on(monkeypatch):
    def damage(args):
        raise ZeroDivisionError("kernel trouble")

    spoil(monkeypatch, "tanh", damage)
    report = compare(["tanh", "relu"], cases=5)
    assert {row.operation: row.passed for row in report.rows} == {"tanh": False, "relu": True}
    assert "raised ZeroDivisionError: kernel trouble" in str(report)


def test_an_implementation_only_runs_on_what_it_supports(monkeypatch):
    (portable,) = (i for i in IMPLEMENTATIONS["conv2d"] if i.name == "portable")
    picky = replace(
        portable,
        name="picky",
        supports=lambda p: None if p.geometry.R == p.geometry.S == 3 else "only 3x3",
    )
    monkeypatch.setitem(IMPLEMENTATIONS, "conv2d", [portable, picky])
    report = compare(["conv2d"], implementations=["picky"], suites=["seeds"], cases=30)
    assert [row.cases for row in report.rows] == [30, 30]
    with pytest.raises(NothingToCompare):
        compare(["conv2d"], implementations=["picky"], problems=["n1c1h8k1r5"])


def test_a_case_alone_has_the_same_data():
    report = compare(["conv2d_weight_grad"], suites=["odd"], cases=20, seed=5)
    row = report.rows[0]
    again = compare([row.operation], problems=[row.problem], seed=5).rows[0]
    assert again.worst == row.worst
    other = compare([row.operation], problems=[row.problem], seed=6).rows[0]
    assert other.worst != row.worst


def test_threads_are_put_back_and_precision_too():
    before = fastcnn.get_num_threads()
    compare(["relu"], cases=3, threads=(before + 1,), precision="ieee")
    assert fastcnn.get_num_threads() == before
    from fastcnn.kernels import precision

    assert precision.current() == "float32"


def test_progress_ends_at_its_total():
    seen = []
    compare(["relu", "tanh"], cases=5, progress=lambda *news: seen.append(news))
    done, totals, names = zip(*seen, strict=True)
    assert list(done) == sorted(done)
    assert len(set(totals)) == 1
    assert done[-1] == totals[0]
    assert set(names) == {"relu", "tanh", ""}


def test_sums_that_cancel_are_judged_by_what_they_add():
    """w = (1, -1) on a constant and a rounding: the result is all rounding error."""
    x = np.array([[1.0, 1.0, 1e-9]], np.float32)
    w = np.array([[1.0, -1.0, 1.0]], np.float32)
    truth = Truth(OPERATIONS["dense"], Call((x, w, None), {}), "float32")
    bound = limit("dense", "float32", find("n1i3o1"), "mean-zero")
    error, message = truth.judge([np.array([[0.0]], np.float32)], bound)
    assert error < bound
    assert message == ""
    error, _ = truth.judge([np.array([[1e-5]], np.float32)], bound)
    assert error > bound


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        ({"operations": ["conv3d"]}, "unknown operation 'conv3d': did you mean 'conv2d'?"),
        ({"implementations": ["portabel"]}, "did you mean 'portable'?"),
        ({"suites": ["vgg"]}, "unknown suite 'vgg': did you mean 'vgg16'?"),
        ({"problems": ["vgg16.conv9"]}, "unknown problem 'vgg16.conv9'"),
        ({"dtypes": ["float16"]}, "unknown dtype 'float16'"),
        ({"cases": -1}, "cases must be at least 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"precision": "half"}, "precision must be one of"),
        ({"threads": (0,)}, "threads must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(options, advice):
    with pytest.raises(ValueError, match=advice.replace("?", r"\?")):
        compare(**{"operations": ["relu"], "cases": 2, **options})


def test_the_table_fits_100_columns():
    report = compare(suites=["seeds"], cases=2)
    assert max(len(line) for line in str(report).splitlines()) <= 100
    assert len(str(report).splitlines()) == 1 + len(report.rows)
