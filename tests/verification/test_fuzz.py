"""A fuzz run whose seed is new every day, and that the fuzzer catches what it is for.

FASTCNN_FUZZ_CASES and FASTCNN_FUZZ_SEED say how many cases and which; the seed of a failed run is
in its message, with the command that runs each failed case again.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.verification import fuzz
from fastcnn.verification.fuzz import check
from fastcnn.verification.fuzz_cases import draft_of
from fastcnn.verification.hostile import FORMS, WRITABLE
from tests.fuzz_settings import CASES, SEED


def test_random_geometries_and_hostile_arrays(record_property):
    record_property("fuzz_seed", SEED)
    report = fuzz(CASES, seed=SEED)
    assert report.passed, str(report)


def cases_of(operation, count, seed=0):
    """Numbers of cases that call an operation without a mistake."""
    found = []
    number = 0
    while len(found) < count:
        draft = draft_of(np.random.default_rng((seed, number)))
        if draft.operation.name == operation and not draft.mistaken:
            found.append(number)
        number += 1
    return found


@pytest.fixture(scope="module")
def conv_cases():
    return cases_of("conv2d", 12)


def complaints(numbers):
    return [check(0, number)[1] for number in numbers]


def test_the_cases_below_are_right_as_they_are(conv_cases):
    assert not any(complaints(conv_cases))


def test_a_wrong_answer_is_caught(monkeypatch, conv_cases):
    right = functional.conv2d

    def wrong(x, w, b=None, *, stride=1, padding=0, dilation=1, groups=1, out=None):
        y = right(
            x, w, b, stride=stride, padding=padding, dilation=dilation, groups=groups, out=out
        )
        if y.size:
            y[(0,) * y.ndim] += 1
        return y

    monkeypatch.setattr(functional, "conv2d", wrong)
    found = complaints(conv_cases)
    assert sum("functional is wrong" in text for text in found) >= 6


def test_a_write_to_an_input_is_caught(monkeypatch):
    right = functional.sigmoid

    def wrong(x):
        y = right(x)
        if x.flags.writeable and x.size:
            x[(0,) * x.ndim] = -1
        return y

    monkeypatch.setattr(functional, "sigmoid", wrong)
    found = complaints(cases_of("sigmoid", 8))
    assert sum("wrote where it should not, in the memory of x" in text for text in found) >= 4


def test_an_error_of_the_wrong_kind_is_caught(monkeypatch, conv_cases):
    def broken(*args, out=None, **options):
        raise IndexError("list index out of range")

    monkeypatch.setattr(functional, "conv2d", broken)
    found = complaints(conv_cases)
    assert all(text.startswith("functional raised IndexError") for text in found)


def test_an_error_that_only_one_raises_is_caught(monkeypatch, conv_cases):
    def broken(*args, out=None, **options):
        raise ValueError("not today, thank you")

    monkeypatch.setattr(functional, "conv2d", broken)
    found = complaints(conv_cases)
    assert sum("not today" in text and "reference returned" in text for text in found) >= 6


def test_an_error_without_a_message_is_caught(monkeypatch, conv_cases):
    def broken(*args, out=None, **options):
        raise ValueError

    monkeypatch.setattr(functional, "conv2d", broken)
    assert any("without saying why" in text for text in complaints(conv_cases))


def test_a_right_output_that_is_not_used_is_caught(monkeypatch):
    right = functional.conv2d

    def forgetful(*args, out=None, **options):
        return right(*args, **options)

    numbers = cases_of("conv2d", 40)
    monkeypatch.setattr(functional, "conv2d", forgetful)
    found = complaints(numbers)
    assert any(text == "did not return out" for text in found)
    # and a wrong output is not refused
    assert any("but reference raised ValueError (refuses such an output)" in text for text in found)


def test_a_report_says_how_to_see_a_failure_again(monkeypatch):
    monkeypatch.setattr(reference, "relu", lambda x: np.asarray(x) + 1)
    (number,) = cases_of("relu", 1, seed=4)
    report = fuzz(1, seed=4, first=number)
    assert not report.passed
    assert f"fastcnn compare --fuzz 1 --first {number} --seed 4" in str(report)
    assert "1 cases from seed 4: 1 wrong" in str(report)


def test_a_case_is_the_same_every_time():
    for number in range(30):
        assert check(11, number) == check(11, number)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int64"])
def test_forms_keep_values_in_memory_of_their_own(form, shape, dtype):
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    made = FORMS[form](array)
    np.testing.assert_array_equal(made, array)
    assert made.dtype.newbyteorder("=") == array.dtype
    assert not np.shares_memory(made, array)
    assert made.flags.writeable == (form in WRITABLE)
