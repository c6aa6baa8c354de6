"""Both gradients of a convolution's parameters in one call: dw's bits, and db within rounding."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import FLOATS, Guarded, geometry_of, guarded, plan_for
from tests.functional.test_conv import LAYERS
from tests.geometries import ConvCase, conv_cases, seeds, small_integers
from tests.kernels.shorter_vectors import UNITS, needs_longer_vectors, run_on

WEIGHT_GRADS = IMPLEMENTATIONS["conv2d_weight_grad"]
every_algorithm = pytest.mark.parametrize("algorithm", [entry.name for entry in WEIGHT_GRADS])
# Besides those of every algorithm: filters fewer than channels, more than one block of pixels,
# planes of one element, a group's rest of filters.
CASES = [
    *LAYERS,
    ConvCase(3, 70, 13, 17, 21, 1, 1, 1, 0, 1, 1),
    ConvCase(3, 21, 15, 17, 70, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 40, 1, 1, 50, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 64, 14, 14, 64, 3, 3, 1, 1, 1, 64),
    ConvCase(None, 32, 7, 7, 32, 3, 3, 2, 1, 1, 32),
    ConvCase(5, 3, 40, 37, 9, 5, 5, 1, 2, 1, 1),
    ConvCase(3, 6, 30, 33, 9, 5, 3, 2, (2, 1), 1, 3),
]


def both(module, case, x, dy, **extra):
    return module.conv2d_parameter_grads(x, dy, case.weight_shape, **case.options, **extra)


def over_pixels(dy):
    return (dy if dy.ndim == 4 else dy[None]).sum((0, 2, 3))


def check(case, algorithm, dtype, seed):
    """On whole numbers all is exact, and dw has the weight gradient's bits on any numbers.

    Inputs lie in poison, outputs are NaN before.
    """
    planned = plan_for(case, "conv2d_weight_grad", algorithm, dtype)
    if planned is None:
        return
    rng = np.random.default_rng(seed)
    shapes = case.shapes[0], case.shapes[2]
    x, dy = (guarded(small_integers(rng, shape, dtype)) for shape in shapes)
    dw, db = both(functional, case, x, dy, algorithm=algorithm)
    expected = both(reference, case, x, dy)
    assert db.shape == (case.K,)
    np.testing.assert_array_equal(db, expected[1], strict=True)
    if fastcnn.kernels.precision.current() == "ieee":
        np.testing.assert_array_equal(dw, expected[0], strict=True)
    g = geometry_of(case)
    outputs = Guarded(g.weight_shape, dtype), Guarded((g.K,), dtype)
    batch = x.reshape(g.input_shape), dy.reshape(g.output_shape)
    planned.run(g, *map(guarded, batch), *(out.array for out in outputs))
    for out, result in zip(outputs, (dw, db), strict=True):
        out.assert_untouched_around()
        assert out.array.tobytes() == result.tobytes()
    x, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    dw, db = both(functional, case, x, dy, algorithm=algorithm)
    alone = functional.conv2d_weight_grad(
        x, dy, case.weight_shape, **case.options, algorithm=algorithm
    )
    assert dw.tobytes() == alone.tobytes()
    # what conv2d_bias_grad is held to
    tolerance = 2 * np.finfo(dtype).eps * np.maximum(1, over_pixels(abs(dy)))
    assert (abs(db - reference.conv2d_bias_grad(dy.astype(np.float64))) <= tolerance).all()


@every_algorithm
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers(algorithm, case, dtype):
    for precision in ("ieee", "float32"):
        with fastcnn.precision(precision):
            check(case, algorithm, dtype, 1)


@every_algorithm
@settings(deadline=None, max_examples=25)
@given(case=conv_cases(max_length=12), dtype=st.sampled_from(FLOATS), seed=seeds())
def test_any_geometry(algorithm, case, dtype, seed):
    with fastcnn.precision("ieee"):
        check(case, algorithm, dtype, seed)


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="the portable kernel alone serves")
def test_some_implementations_add_up_dy_themselves_and_some_do_not():
    assert {entry.sums_dy for entry in WEIGHT_GRADS} == {True, False}
    for entry in WEIGHT_GRADS:
        assert any(plan_for(case, "conv2d_weight_grad", entry.name, np.float32) for case in CASES)


@every_algorithm
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stays_in_its_filter(algorithm, value):
    for case in CASES:
        if plan_for(case, "conv2d_weight_grad", algorithm, np.float32) is None:
            continue
        rng = np.random.default_rng(2)
        x, dy = (small_integers(rng, shape, np.float32) for shape in case.shapes[::2])
        filters = dy if dy.ndim == 4 else dy[None]
        filters[-1, case.K // 2, -1, -1] = value
        dw, db = both(functional, case, x, dy, algorithm=algorithm)
        alone = functional.conv2d_weight_grad(
            x, dy, case.weight_shape, **case.options, algorithm=algorithm
        )
        assert dw.tobytes() == alone.tobytes()
        np.testing.assert_array_equal(db, functional.conv2d_bias_grad(dy))


@every_algorithm
def test_long_sums_of_one_sign(algorithm):
    """Sums in order of as many numbers in their own type would be off by a thousand roundings."""
    dtype = np.float32
    for case in (
        ConvCase(16, 3, 70, 61, 8, 3, 3, 1, 1, 1, 1),
        ConvCase(64, 32, 30, 30, 32, 3, 3, 1, 1, 1, 32),
        ConvCase(256, 32, 14, 14, 32, 3, 3, 2, 1, 1, 32),
        ConvCase(4, 24, 60, 60, 20, 1, 1, 1, 0, 1, 1),
        ConvCase(4, 20, 60, 60, 24, 1, 1, 1, 0, 1, 1),
    ):
        if plan_for(case, "conv2d_weight_grad", algorithm, dtype):
            rng = np.random.default_rng(3)
            x, dy = (rng.random(shape).astype(dtype) for shape in case.shapes[::2])
            _, db = both(functional, case, x, dy, algorithm=algorithm)
            truth = dy.sum((0, 2, 3), np.float64)
            assert (abs(db - truth) <= 2 * np.finfo(dtype).eps * truth).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_no_images(dtype):
    x, dy = np.zeros((0, 3, 8, 7), dtype), np.zeros((0, 6, 6, 5), dtype)
    for entry in WEIGHT_GRADS:
        if plan_for(
            ConvCase(0, 3, 8, 7, 6, 3, 3, 1, 0, 1, 3), "conv2d_weight_grad", entry.name, dtype
        ):
            dw, db = functional.conv2d_parameter_grads(
                x, dy, (6, 1, 3, 3), groups=3, algorithm=entry.name
            )
            np.testing.assert_array_equal(dw, np.zeros((6, 1, 3, 3)))
            np.testing.assert_array_equal(db, np.zeros(6))


@pytest.mark.parametrize("bias", ["per_filter", "per_pixel"])
def test_a_layer_has_the_gradients_of_the_operations(bias):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((3, 8, 9, 10)).astype(np.float32)
    layer = fastcnn.layers.Conv2D(8, 3, padding="same", groups=8, bias=bias, seed=0)
    y = layer.forward(x, training=True)
    layer.backward(y)
    window = {"padding": 1, "groups": 8}
    dw = functional.conv2d_weight_grad(x, y, (8, 1, 3, 3), **window)
    assert layer.gradients["weight"].tobytes() == dw.tobytes()
    if bias == "per_pixel":
        db = functional.conv2d_bias_grad(y, per_pixel=True)
    else:
        db = functional.conv2d_parameter_grads(x, y, (8, 1, 3, 3), **window)[1]
    assert layer.gradients["bias"].tobytes() == db.tobytes()


PROGRAM = """
import numpy as np
from fastcnn.kernels.cpu.units import vector_unit
from tests.functional.test_parameter_grads import WEIGHT_GRADS, check
from tests.geometries import ConvCase

for case in (
    ConvCase(2, 33, 12, 16, 33, 3, 3, 1, 1, 1, 33),
    ConvCase(8, 16, 7, 7, 16, 3, 3, 1, 1, 1, 16),
    ConvCase(2, 5, 14, 14, 9, 3, 3, 1, 1, 1, 1),
    ConvCase(2, 64, 14, 14, 40, 1, 1, 1, 0, 1, 1),
    ConvCase(2, 40, 14, 14, 67, 1, 1, 1, 0, 1, 1),
):
    for entry in WEIGHT_GRADS:
        if entry.sums_dy:
            check(case, entry.name, np.float32, 5)
print(vector_unit().name)
"""


@needs_longer_vectors
@pytest.mark.parametrize("unit", UNITS)
def test_on_shorter_vectors(unit):
    run_on(unit, PROGRAM)


def digests() -> dict[str, str]:
    """One for each implementation, of layers large enough for threads."""
    found = {}
    for case in (
        ConvCase(4, 64, 28, 28, 64, 3, 3, 1, 1, 1, 64),
        ConvCase(9, 64, 14, 14, 64, 3, 3, 2, 1, 1, 64),
        ConvCase(4, 3, 32, 32, 32, 3, 3, 1, 1, 1, 1),
        ConvCase(4, 64, 28, 28, 48, 1, 1, 1, 0, 1, 1),
        ConvCase(4, 48, 28, 28, 64, 3, 3, 1, 1, 1, 1),
    ):
        rng = np.random.default_rng(0)
        x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in case.shapes[::2])
        for entry in WEIGHT_GRADS:
            if plan_for(case, "conv2d_weight_grad", entry.name, np.float32):
                dw, db = both(functional, case, x, dy, algorithm=entry.name)
                digest = hashlib.sha256(dw.tobytes() + db.tobytes()).hexdigest()
                found[f"{case} {entry.name}"] = digest
    return found


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has no threads here")
def test_same_bits_on_one_two_and_four_threads():
    """In a process of its own, whose pool has four threads whatever this machine's cores."""
    program = (
        "import json, fastcnn\n"
        "from tests.functional.test_parameter_grads import WEIGHT_GRADS, digests\n"
        "found = []\n"
        "for n in (1, 2, 4):\n"
        "    fastcnn.set_num_threads(n)\n"
        "    found.append(digests())\n"
        "import numba\n"
        "print(json.dumps([found, numba.config.NUMBA_NUM_THREADS]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (one, two, four), pool = json.loads(done.stdout)
    assert pool == 4
    assert {key.split()[-1] for key in one} >= {e.name for e in WEIGHT_GRADS if e.sums_dy}
    assert one == two == four
