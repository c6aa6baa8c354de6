"""What all operations share: the type of the arithmetic, the types accepted, awkward arrays."""

import threading

import numpy as np
import pytest

from fastcnn import reference

# 1 + 2^-12 squared is 1 + 2^-11 + 2^-24: exact in float64, while float32 drops the last term.
X = np.full((1, 1, 1, 1), 1 + 2.0**-12, np.float32)
BIAS = np.array([-(1 + 2.0**-11)], np.float32)
IN_FLOAT64, IN_FLOAT32 = 2.0**-24, 0.0


def residue():
    return reference.conv2d(X, X, BIAS).item()


def test_computes_in_float64_by_default():
    assert residue() == IN_FLOAT64


def test_compute_in_input_uses_the_arrays_own_type():
    with reference.compute_in("input"):
        assert residue() == IN_FLOAT32
    assert residue() == IN_FLOAT64


def test_compute_in_nests():
    with reference.compute_in("input"):
        with reference.compute_in("float64"):
            with reference.compute_in("input"):
                assert residue() == IN_FLOAT32
            assert residue() == IN_FLOAT64
        assert residue() == IN_FLOAT32


def test_compute_in_ends_with_an_exception():
    with pytest.raises(ZeroDivisionError), reference.compute_in("input"):
        raise ZeroDivisionError
    assert residue() == IN_FLOAT64


def test_compute_in_holds_for_its_own_thread_only():
    seen = []
    with reference.compute_in("input"):
        thread = threading.Thread(target=lambda: seen.append(residue()))
        thread.start()
        thread.join()
        assert residue() == IN_FLOAT32
    assert seen == [IN_FLOAT64]


def test_compute_in_refuses_other_names():
    with (
        pytest.raises(ValueError, match="takes 'float64' or 'input', got 'float32'"),
        reference.compute_in("float32"),
    ):
        pass


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("precision", ["float64", "input"])
def test_results_have_the_inputs_type(dtype, precision):
    x = np.linspace(-1, 1, 16, dtype=dtype).reshape(1, 1, 4, 4)
    w = np.ones((2, 1, 3, 3), dtype)
    p = np.array([[0.25, 0.75]], dtype)
    with reference.compute_in(precision):
        y, mask = reference.max_pool2d(x, 2, return_mask=True)
        results = [
            reference.conv2d(x, w, np.ones(2, dtype)),
            reference.conv2d_input_grad(np.ones((1, 2, 2, 2), dtype), w, x.shape),
            reference.conv2d_weight_grad(x, np.ones((1, 2, 2, 2), dtype), w.shape),
            reference.conv2d_bias_grad(x),
            y,
            reference.max_pool2d_grad(y, mask, x.shape, 2),
            reference.relu(x),
            reference.relu_grad(x, x),
            reference.sigmoid(x),
            reference.sigmoid_grad(x, x),
            reference.tanh(x),
            reference.tanh_grad(x, x),
            reference.softmax(p),
            reference.softmax_grad(p, p),
            reference.flatten(x),
            reference.dense(p, np.ones((3, 2), dtype)),
            reference.dense_input_grad(p, np.ones((2, 3), dtype)),
            reference.dense_weight_grad(p, p),
            reference.dense_bias_grad(p),
        ]
        for name in (
            "binary_cross_entropy",
            "binary_cross_entropy_with_logits",
            "categorical_cross_entropy",
            "categorical_cross_entropy_with_logits",
            "half_squared_error",
        ):
            results += [getattr(reference, name)(p, p, r) for r in ("mean", "sum", "none")]
            results += [getattr(reference, f"{name}_grad")(p, p)]
        results += [reference.sgd_step(p.copy(), p, 0.1)]
    assert {result.dtype for result in results} == {np.dtype(dtype)}


@pytest.mark.parametrize(
    ("values", "given"),
    [
        (np.zeros((1, 1, 3, 3), np.int64), "int64"),
        (np.zeros((1, 1, 3, 3), np.float16), "float16"),
        (np.zeros((1, 1, 3, 3), np.complex128), "complex128"),
        (np.zeros((1, 1, 3, 3), bool), "bool"),
        ([[[[1, 2, 3], [4, 5, 6], [7, 8, 9]]]], "int64"),
    ],
)
def test_other_types_are_refused_with_the_fix(values, given):
    expected = rf"x must be float32 or float64, but got {given}; convert it: x.astype\(np.float32\)"
    with pytest.raises(TypeError, match=expected):
        reference.conv2d(values, np.ones((1, 1, 2, 2)))
    with pytest.raises(TypeError, match=expected):
        reference.relu(values)
    with pytest.raises(TypeError, match=expected):
        reference.flatten(values)


def test_mixed_types_are_refused_with_the_fix():
    with pytest.raises(
        TypeError,
        match=r"mixed types: w is float32, but x is float64; .* w.astype\(np.float64\)",
    ):
        reference.conv2d(np.ones((1, 1, 3, 3)), np.ones((1, 1, 2, 2), np.float32))


def test_lists_of_floats_are_float64():
    y = reference.dense([1.0, 2.0], [[10.0, 100.0]])
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, [210.0])


def awkward(x):
    """The same values in every memory layout that NumPy users bring."""
    big_endian = x.astype(x.dtype.newbyteorder(">"))
    read_only = x.copy()
    read_only.flags.writeable = False
    strided = np.repeat(x, 2, axis=-1)[..., ::2]
    backwards = x[..., ::-1].copy()[..., ::-1]
    return [np.asfortranarray(x), big_endian, read_only, strided, backwards]


def test_memory_layout_does_not_matter():
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 2, 5, 6)), rng.standard_normal((3, 2, 3, 2))
    y, mask = reference.max_pool2d(x, 2, return_mask=True)
    plain = [reference.conv2d(x, w, padding=1), y, mask, reference.flatten(x)]
    for x_, w_ in zip(awkward(x), awkward(w), strict=True):
        y_, mask_ = reference.max_pool2d(x_, 2, return_mask=True)
        results = [reference.conv2d(x_, w_, padding=1), y_, mask_, reference.flatten(x_)]
        for result, expected in zip(results, plain, strict=True):
            assert result.dtype == expected.dtype
            assert result.dtype.isnative
            np.testing.assert_array_equal(result, expected)


def test_values_beyond_float32_become_infinite_quietly():
    x = np.full((1, 1, 1, 1), 3e38, np.float32)
    assert reference.conv2d(x, x).item() == np.inf


def test_every_public_name_is_there():
    assert all(hasattr(reference, name) for name in reference.__all__)
    assert reference.__all__ == sorted(reference.__all__)
