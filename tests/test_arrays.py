"""Arrays as they come: every public operation, every array argument, every form of the numbers.

The right answer or one clear error, and nothing written where it should not be. The operations come
from `calls.calls()`, whose rows are held against `fastcnn.functional.__all__`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

from fastcnn import functional, reference
from tests.calls import Call, calls
from tests.layouts import READABLE, WRITABLE, poison

CALLS = calls()
WITH_OUT = [
    c for c in CALLS if "out" in inspect.signature(getattr(functional, c.function)).parameters
]


def arrays_of(calls: list[Call], kind: str) -> Any:
    """Parametrise by `call` and the `name` of each of its arrays of a kind."""
    pairs = [pytest.param(c, a, id=f"{c}-{a}") for c in calls for a in getattr(c, kind)]
    return pytest.mark.parametrize(("call", "name"), pairs)


each_call = pytest.mark.parametrize("call", CALLS, ids=str)
each_array = arrays_of(CALLS, "arrays")
each_float = arrays_of(CALLS, "floats")
each_constant = arrays_of(CALLS, "constants")
each_changed = arrays_of([c for c in CALLS if c.in_place], "in_place")
each_out = pytest.mark.parametrize("call", WITH_OUT, ids=str)


@contextmanager
def trying(what: Any) -> Iterator[None]:
    """Say in a failure which of a loop's cases it was."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"while trying: {what}")
        raise


def assert_same(results: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    """The same bits, types and shapes."""
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape
        assert result.dtype.newbyteorder("=") == wanted.dtype
        assert result.astype(wanted.dtype).tobytes() == wanted.tobytes()


def outcome(module: Any, call: Call, arguments: dict[str, Any]) -> Any:
    """The results, or the type of the exception, which must be one that is documented."""
    try:
        return call.run(module, arguments)
    except TypeError:
        return TypeError
    except ValueError:
        return ValueError


def assert_agree(call: Call, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Fast and reference give the same results, or errors of one type, for the same arguments."""
    result, expected = outcome(functional, call, first), outcome(reference, call, second)
    if isinstance(expected, type) or isinstance(result, type):
        assert result is expected
        return
    for array, wanted in zip(result, expected, strict=True):
        assert array.shape == wanted.shape
        assert array.dtype == wanted.dtype
        np.testing.assert_allclose(array, wanted, rtol=1e-5, atol=1e-5)


def test_every_function_has_a_row():
    assert {call.function for call in CALLS} == set(functional.__all__)


@each_call
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_plain_arrays_give_the_reference(call, dtype):
    assert_agree(call, call.arguments(dtype), call.arguments(dtype))


@each_constant
def test_any_form_gives_the_same_bits_and_stays_as_it_was(call, name):
    expected = call.run(functional, call.arguments())
    for form, make in (WRITABLE | READABLE).items():
        with trying(form):
            arguments = call.arguments()
            value, memory = make(arguments[name])
            before = memory.tobytes()
            assert_same(call.run(functional, arguments | {name: value}), expected)
            assert memory.tobytes() == before


@each_constant
def test_lists_are_float64(call, name):
    dtype = np.float64
    arguments = call.arguments(dtype)
    if name in call.floats:
        arguments[name] = arguments[name].tolist()
        assert_same(call.run(functional, arguments), call.run(functional, call.arguments(dtype)))


@each_constant
def test_broadcast_arrays_are_read_as_numpy_reads_them(call, name):
    arguments = call.arguments()
    repeated = np.broadcast_to(arguments[name][:1], arguments[name].shape)
    expected = call.run(functional, call.arguments(**{name: repeated.copy()}))
    assert_same(call.run(functional, arguments | {name: repeated}), expected)


@each_call
@pytest.mark.parametrize("images", [0, 1])
def test_empty_batch_and_single_image(call, images):
    (small,) = (c for c in calls(images) if str(c) == str(call))
    assert_agree(small, small.arguments(), small.arguments())


@pytest.mark.parametrize("call", [c for c in CALLS if c.any_rank], ids=str)
def test_any_rank(call):
    for shape in ((), (0,), (1,), (3, 0), (1, 1, 1, 1, 1, 2)):
        with trying(shape):
            assert_agree(
                call,
                call.arguments(**{name: np.full(shape, 0.25, "f4") for name in call.floats}),
                call.arguments(**{name: np.full(shape, 0.25, "f4") for name in call.floats}),
            )


@each_array
def test_wrong_ranks(call, name):
    """Another number of dimensions is an error, except where an image may come without a batch."""
    right = call.arguments()[name]
    for rank in set(range(7)) - {right.ndim}:
        with trying(rank):
            first, second = np.ones((2, *(1,) * rank), right.dtype)
            assert_agree(
                call, call.arguments(**{name: first[...]}), call.arguments(**{name: second[...]})
            )


@arrays_of(CALLS, "misfits")
def test_mismatched_shapes(call, name):
    for shape in call.misfits[name]:
        arguments = call.arguments()
        other = np.zeros(shape, arguments[name].dtype)
        with trying(shape), pytest.raises(ValueError, match=r"\d"):
            call.run(functional, arguments | {name: other})


WRONG_TYPES = {
    "int64": lambda a: a.astype(np.int64),
    "bool": lambda a: a.astype(bool),
    "float16": lambda a: a.astype(np.float16),
    "longdouble": lambda a: a.astype(np.longdouble),
    "complex64": lambda a: a.astype(np.complex64),
    "object": lambda a: a.astype(object),
    "str": lambda a: a.astype(str),
    "bytes": lambda a: a.astype(bytes),
    "datetime64": lambda a: a.astype(np.int64).astype("M8[s]"),
    "structured": lambda a: np.zeros(a.shape, "f4, f4"),
    "void": lambda a: np.zeros(a.shape, "V4"),
    "string dtype": lambda a: np.full(a.shape, "a", np.dtypes.StringDType()),
    "masked array": lambda a: np.ma.masked_array(a, a > 0),
    "ragged list": lambda a: [[1.0], [1.0, 2.0]],
    "list of ints": lambda a: a.astype(int).tolist(),
    "list of strings": lambda a: ["a"],
    "list of None": lambda a: [None],
    "None": lambda a: None,
    "int": lambda a: 3,
    "text": lambda a: "x",
    "bytes object": lambda a: b"\0\0\0\0",
    "dict": lambda a: {},
    "set": lambda a: {1.0},
    "generator": lambda a: (v for v in [1.0]),
    "function": lambda a: len,
    "type": lambda a: np.float32,
    "module": lambda a: np,
}


# Where an argument may also be something else than floats.
ALLOWED = {
    ("conv2d", "b"): ["None"],
    ("dense", "b"): ["None"],
    ("categorical_cross_entropy", "y"): ["int64", "list of ints"],
    ("categorical_cross_entropy_with_logits", "y"): ["int64", "list of ints"],
}


@each_float
def test_wrong_types(call, name):
    allowed = ALLOWED.get((call.function.removesuffix("_grad"), name), [])
    for kind, make in WRONG_TYPES.items():
        arguments = call.arguments()
        arguments[name] = make(arguments[name])
        if kind not in allowed:
            with trying(kind), pytest.raises(TypeError, match=rf"^{name}\b"):
                call.run(functional, arguments)


@arrays_of([c for c in CALLS if len(c.floats) > 1], "floats")
def test_mixed_types(call, name):
    arguments = call.arguments()
    arguments[name] = arguments[name].astype(np.float64)
    with pytest.raises(TypeError, match=r"mixed types: .*float(32|64).*float(32|64)"):
        call.run(functional, arguments)


@pytest.mark.parametrize("call", [c for c in CALLS if "mask" in c.integers], ids=str)
def test_mask_of_another_type(call):
    for dtype in (np.int8, np.int64, np.uint16, bool, float, object):
        arguments = call.arguments()
        arguments["mask"] = arguments["mask"].astype(dtype)
        expected = r"^mask must be uint8 or int32, but got "
        with trying(dtype), pytest.raises(TypeError, match=expected):
            call.run(functional, arguments)


@each_call
def test_result_shares_no_memory_with_arguments(call):
    arguments = call.arguments()
    results = getattr(functional, call.function)(**arguments)
    for result in results if isinstance(results, tuple) else (results,):
        for name in call.arrays:
            shared = np.may_share_memory(np.asarray(result), arguments[name])
            assert shared is (name in call.in_place and result is arguments[name])


@each_call
def test_every_element_of_a_result_is_written(call, monkeypatch):
    """np.empty hands out NaN here; the first call compiles, for which np.empty must be NumPy's."""
    expected = call.run(functional, call.arguments())
    monkeypatch.setattr(np, "empty", lambda shape, dtype=float, order="C": poison(shape, dtype))
    monkeypatch.setattr(np, "empty_like", lambda a: poison(a.shape, a.dtype))
    assert_same(call.run(functional, call.arguments()), expected)


class TestInPlace:
    """Arguments that an operation changes."""

    @each_changed
    @pytest.mark.parametrize("form", WRITABLE)
    def test_any_layout(self, call, name, form):
        expected = call.run(functional, call.arguments())
        arguments = call.arguments()
        value, memory = WRITABLE[form](arguments[name])
        gaps = np.isnan(memory) if memory.dtype.kind == "f" else None
        assert_same(call.run(functional, arguments | {name: value}), expected)
        if gaps is not None:  # what lay between and around the elements still does
            np.testing.assert_array_equal(np.isnan(memory), gaps)

    @each_changed
    def test_what_cannot_be_written_to(self, call, name):
        forms = {**READABLE, "list": lambda a: (a.tolist(), a)}
        for form, make in forms.items():
            arguments = call.arguments()
            value, memory = make(arguments[name])
            before = [memory.tobytes(), *(arguments[a].tobytes() for a in call.arrays)]
            expected = rf"^{name} (must be a NumPy array|is read-only)"
            with trying(form), pytest.raises((TypeError, ValueError), match=expected):
                call.run(functional, arguments | {name: value})
            assert before == [memory.tobytes(), *(arguments[a].tobytes() for a in call.arrays)]

    @each_changed
    def test_elements_that_share_memory(self, call, name):
        arguments = call.arguments()
        shape = arguments[name].shape
        value = as_strided(np.ones(10, np.float32), shape, (4,) * len(shape))
        with pytest.raises(ValueError, match=f"^{name} has elements that share memory"):
            call.run(functional, arguments | {name: value})

    @pytest.mark.parametrize(
        ("call", "first", "second"),
        [
            pytest.param(c, a, b, id=f"{c}-{a}-{b}")
            for c in CALLS
            for a in c.in_place
            for b in c.in_place
            if a < b
        ],
    )
    def test_two_arguments_in_one_memory(self, call, first, second):
        arguments = call.arguments()
        memory = np.ones(arguments[first].size + 1, np.float32)
        shape = arguments[first].shape
        overlapping = {first: memory[:-1].reshape(shape), second: memory[1:].reshape(shape)}
        with pytest.raises(ValueError, match=f"({first} and {second}|{second} and {first})"):
            call.run(functional, arguments | overlapping)
        np.testing.assert_array_equal(memory, 1)

    @each_changed
    def test_gradient_in_the_memory_that_changes(self, call, name):
        arguments = call.arguments()
        expected = call.run(functional, call.arguments(dw=arguments[name].copy()))
        assert_same(call.run(functional, arguments | {"dw": arguments[name]}), expected)


class TestOut:
    """`out=`, for every operation that has it."""

    def expected(self, call):
        return call.run(functional, call.arguments())

    @each_out
    @pytest.mark.parametrize("form", WRITABLE)
    def test_any_layout(self, call, form):
        expected = self.expected(call)
        out, memory = WRITABLE[form](poison(expected[0].shape, np.float32))
        inner = np.zeros(memory.shape, bool)
        inner.reshape(-1)[self.places(out, memory)] = True
        before = memory.copy()
        results = call.run(functional, call.arguments(out=out))
        assert_same(results, expected)
        assert_same((np.asarray(out),), expected[:1])
        assert memory[~inner].tobytes() == before[~inner].tobytes()

    def places(self, out, memory):
        """Which elements of `memory` belong to `out`."""
        start = out.__array_interface__["data"][0] - memory.__array_interface__["data"][0]
        offsets = np.zeros(1, np.int64) + start
        for stride, n in zip(out.strides, out.shape, strict=True):
            offsets = np.add.outer(offsets, stride * np.arange(n)).reshape(-1)
        offsets = np.add.outer(offsets, np.arange(out.itemsize)).reshape(-1)
        return np.unique(offsets // memory.itemsize)

    @each_out
    def test_the_array_itself_comes_back(self, call):
        out = poison(self.expected(call)[0].shape, np.float32)
        result = getattr(functional, call.function)(**call.arguments(out=out))
        assert (result[0] if isinstance(result, tuple) else result) is out

    @arrays_of(WITH_OUT, "floats")
    @pytest.mark.parametrize("shift", [0, 1])
    def test_overlapping_an_input(self, call, name, shift):
        """The input and `out` in one memory, from the same address or one element apart."""
        expected = self.expected(call)
        arguments = call.arguments()
        given, size = arguments[name], expected[0].size
        memory = poison((max(given.size, size) + shift,), np.float32)
        value = memory[: given.size].reshape(given.shape)
        value[...] = given
        out = memory[shift : shift + size].reshape(expected[0].shape)
        wanted = memory.copy()
        wanted[shift : shift + size] = expected[0].reshape(-1)
        assert_same(call.run(functional, arguments | {name: value, "out": out}), expected)
        assert memory.tobytes() == wanted.tobytes()

    @each_out
    @pytest.mark.parametrize("form", ["read_only", "memory_map"])
    def test_read_only(self, call, form):
        out, memory = READABLE[form](np.ones(self.expected(call)[0].shape, np.float32))
        with pytest.raises(ValueError, match=r"^out is read-only: "):
            call.run(functional, call.arguments(out=out))
        np.testing.assert_array_equal(memory, 1)

    @each_out
    @pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int32, np.complex64, object])
    def test_another_type(self, call, dtype):
        out = np.ones(self.expected(call)[0].shape, dtype)
        with pytest.raises(TypeError, match=f"^out must be float32, but got {np.dtype(dtype)}$"):
            call.run(functional, call.arguments(out=out))
        np.testing.assert_array_equal(out, np.ones_like(out))

    @each_out
    @pytest.mark.parametrize("change", ["longer", "shorter", "flat", "scalar"])
    def test_another_shape(self, call, change):
        shape = self.expected(call)[0].shape
        other = {
            "longer": (shape[0] + 1, *shape[1:]),
            "shorter": (*shape[:-1], shape[-1] - 1),
            "flat": (int(np.prod(shape)),),
            "scalar": (),
        }[change]
        out = np.ones(other, np.float32)
        with pytest.raises(ValueError, match=r"^out must have shape "):
            call.run(functional, call.arguments(out=out))
        np.testing.assert_array_equal(out, 1)

    @each_out
    @pytest.mark.parametrize("kind", ["list", "int", "text", "masked array", "interface"])
    def test_no_array(self, call, kind):
        array = np.ones(self.expected(call)[0].shape, np.float32)
        out = {
            "list": array.tolist(),
            "int": 3,
            "text": "x",
            "masked array": np.ma.masked_array(array, array > 0),
            "interface": READABLE["array_interface"](array)[0],
        }[kind]
        with pytest.raises(TypeError, match=r"^out must be a NumPy array, but got "):
            call.run(functional, call.arguments(out=out))

    @each_out
    @pytest.mark.parametrize("strides", ["zero", "too small", "half an element"])
    def test_elements_that_share_memory(self, call, strides):
        shape = self.expected(call)[0].shape
        memory = np.ones(1000, np.float32)
        step = {"zero": 0, "too small": 4, "half an element": 2}[strides]
        out = as_strided(memory, shape, (step,) * len(shape))
        with pytest.raises(ValueError, match=r"^out has elements that share memory"):
            call.run(functional, call.arguments(out=out))
        np.testing.assert_array_equal(memory, 1)

    def test_strides_that_interleave_are_legal(self):
        """Elements 0, 12, 8, 20, 16, 28 bytes from the start: no axis contains the other."""
        memory = poison((8,), np.float32)
        out = as_strided(memory, (1, 1, 3, 2), (0, 0, 8, 12))
        x = np.arange(6, dtype=np.float32).reshape(1, 1, 3, 2)
        w = np.ones((1, 1, 1, 1), np.float32)
        assert functional.conv2d(x, w, out=out) is out
        np.testing.assert_array_equal(out, x)
        np.testing.assert_array_equal(np.isnan(memory), [0, 1, 0, 0, 0, 0, 1, 0])
