"""`out=`, threads, and what the convolutions refuse."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.functional import conv2d, conv2d_bias_grad, conv2d_input_grad, conv2d_weight_grad
from tests.functional.operations import (
    CONVOLUTIONS,
    convolve,
    implementations,
    plan_for,
    result_shape,
)
from tests.geometries import ConvCase, small_integers

every_algorithm = pytest.mark.parametrize(
    ("operation", "algorithm"), implementations(*CONVOLUTIONS)
)
# All three results have the shapes of x, w and dy, which are equal here.
SQUARE = ConvCase(2, 2, 3, 3, 2, 3, 3, 1, 1, 1, 1)


class TestOut:
    @every_algorithm
    @pytest.mark.parametrize("overlapped", ["x", "w", "dy"])
    def test_may_be_an_input(self, operation, algorithm, overlapped):
        if plan_for(SQUARE, operation, algorithm, np.float32) is None:
            pytest.skip("the implementation says that it does not serve this layer")
        rng = np.random.default_rng(1)
        arrays = {n: small_integers(rng, (2, 2, 3, 3), np.float32) for n in ("x", "w", "dy")}
        expected = convolve(functional, operation, SQUARE, **arrays, algorithm=algorithm)
        out = arrays[overlapped]
        result = convolve(functional, operation, SQUARE, **arrays, algorithm=algorithm, out=out)
        assert result is out
        np.testing.assert_array_equal(out, expected)

    @every_algorithm
    def test_may_share_part_of_an_input(self, operation, algorithm):
        if plan_for(SQUARE, operation, algorithm, np.float32) is None:
            pytest.skip("the implementation says that it does not serve this layer")
        rng = np.random.default_rng(2)
        memory = small_integers(rng, (72,), np.float32)
        x, w, dy = (memory[start : start + 36].reshape(2, 2, 3, 3) for start in (0, 8, 16))
        copies = [a.copy() for a in (x, w, dy)]
        expected = convolve(functional, operation, SQUARE, *copies, algorithm=algorithm)
        out = memory[20:56].reshape(2, 2, 3, 3)
        convolve(functional, operation, SQUARE, x, w, dy, algorithm=algorithm, out=out)
        np.testing.assert_array_equal(out, expected)

    def test_may_be_the_bias(self):
        x, w, b = np.ones((1, 2, 3, 3)), np.ones((2, 2, 3, 3)), np.ones((2, 3, 3))
        expected = reference.conv2d(x, w, b, padding=1)
        conv2d(x, w, b, padding=1, out=b[None])
        np.testing.assert_array_equal(b, expected[0])

    @pytest.mark.parametrize("operation", CONVOLUTIONS)
    def test_need_not_be_contiguous(self, operation):
        rng = np.random.default_rng(3)
        arrays = [small_integers(rng, shape, np.float32) for shape in SQUARE.shapes]
        memory = np.full((2, 2, 6, 6), np.nan, np.float32)
        convolve(functional, operation, SQUARE, *arrays, out=memory[..., ::2, ::-2])
        expected = np.full_like(memory, np.nan)
        expected[..., ::2, ::-2] = convolve(reference, operation, SQUARE, *arrays)
        np.testing.assert_array_equal(memory, expected)

    @pytest.mark.parametrize("operation", CONVOLUTIONS)
    def test_must_fit(self, operation):
        arrays = [np.ones(shape, np.float32) for shape in SQUARE.shapes]
        shape = result_shape(operation, SQUARE)
        fixed = np.ones(shape, np.float32)
        fixed.flags.writeable = False
        for out, error, message in (
            (np.ones((1, *shape[1:]), np.float32), ValueError, r"out must have shape \(2, 2, 3"),
            (np.ones(shape, np.float64), TypeError, "out must be float32, but got float64"),
            (np.ones(shape).tolist(), TypeError, "out must be a NumPy array, but got list"),
            (fixed, ValueError, "out is read-only"),
        ):
            with pytest.raises(error, match=message):
                convolve(functional, operation, SQUARE, *arrays, out=out)


THREADED = [
    ConvCase(2, 6, 40, 30, 9, 3, 3, 1, 1, 1, 1),
    ConvCase(4, 3, 41, 29, 10, 5, 5, 2, 2, 1, 1),
    ConvCase(3, 16, 30, 30, 16, 3, 3, 1, 1, 1, 16),
]


def digests() -> dict[str, str]:
    """One digest per result that is large enough to be shared among threads."""
    found = {}
    for number, case in enumerate(THREADED):
        for dtype in ("float32", "float64"):
            rng = np.random.default_rng(number)
            arrays = [rng.standard_normal(shape).astype(dtype) for shape in case.shapes]
            for operation, algorithm in (p.values for p in implementations(*CONVOLUTIONS)):
                if plan_for(case, operation, algorithm, dtype):
                    y = convolve(functional, operation, case, *arrays, algorithm=algorithm)
                    key = f"{operation} {algorithm} {dtype} {number}"
                    found[key] = hashlib.sha256(y.tobytes()).hexdigest()
        # and the bias gradients, which take no algorithm
        dy = rng.standard_normal((4, 5, 200, 201)).astype(np.float32)
        for per_pixel in (False, True):
            db = conv2d_bias_grad(dy, per_pixel)
            found[f"bias {per_pixel} {number}"] = hashlib.sha256(db.tobytes()).hexdigest()
    return found


def test_same_bits_on_one_two_and_four_threads():
    """Four threads need a process whose pool has them, whatever this machine's cores."""
    program = (
        "import json, fastcnn\n"
        "from tests.functional.test_conv_arguments import digests\n"
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
    assert len(one) >= len(THREADED) * 2 * len(CONVOLUTIONS)
    assert one == two == four


class TestErrors:
    x, w = np.ones((2, 4, 5, 5)), np.ones((6, 4, 3, 3))

    @pytest.mark.parametrize(
        ("x_shape", "w_shape", "options", "message"),
        [
            (
                (2, 3, 5, 5),
                (6, 4, 3, 3),
                {},
                r"Given groups=1, weight of size \[6, 4, 3, 3\], expected input\[2, 3, 5, 5\] "
                "to have 4 channels, but got 3 channels instead",
            ),
            (
                (2, 4, 5, 5),
                (3, 2, 3, 3),
                {"groups": 2},
                "Given groups=2, expected weight to be divisible by 2 at dimension 0, "
                r"but got weight of size \[3, 2, 3, 3\] instead",
            ),
            (
                (1, 1, 2, 5),
                (1, 1, 2, 3),
                {"padding": (1, 0), "dilation": 4},
                r"Calculated padded input size per channel: \(4 x 5\). Kernel size: \(5 x 9\). "
                "Kernel size can't be greater than actual input size",
            ),
            (
                (5, 5),
                (1, 1, 3, 3),
                {},
                r"Expected 3D \(unbatched\) or 4D \(batched\) input to conv2d",
            ),
            ((1, 1, 5, 5), (1, 3, 3), {}, "w must be 4-D, but got 3-D"),
            ((1, 0, 5, 5), (1, 0, 3, 3), {}, "must not have a zero size"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": "foo"}, "Invalid padding string: 'foo'"),
            (
                (1, 1, 5, 5),
                (1, 1, 3, 3),
                {"padding": "same", "stride": 2},
                "padding='same' is not supported for strided convolutions",
            ),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": -1}, "padding must be at least 0"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": (1, 2, 3)}, "padding must be .* 4 ints"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"stride": 0}, "stride must be at least 1"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"stride": (1, 2, 3)}, "stride must be .* 2 ints"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"dilation": (1, 0)}, "dilation must be at least 1"),
            ((1, 1, 5, 5), (1, 1, 3, 3), {"groups": 0}, "groups must be at least 1"),
        ],
    )
    def test_shapes_that_do_not_fit(self, x_shape, w_shape, options, message):
        with pytest.raises(ValueError, match=message):
            conv2d(np.ones(x_shape), np.ones(w_shape), **options)

    @pytest.mark.parametrize("shape", [(5,), (1, 1), (6, 1, 1), (6, 5, 5), (1, 6, 3, 3), ()])
    def test_bias(self, shape):
        with pytest.raises(
            ValueError,
            match=r"Given weight of size \[6, 4, 3, 3\], expected bias to be 1-dimensional "
            "with 6 elements, but got bias of size .* instead",
        ):
            conv2d(self.x, self.w, np.ones(shape))

    @pytest.mark.parametrize("shape", [(2, 6, 1, 1), (1, 6, 3, 3), (2, 6, 4, 3)])
    def test_dy_does_not_broadcast(self, shape):
        with pytest.raises(ValueError, match=r"dy must have shape \(2, 6, 3, 3\)"):
            conv2d_input_grad(np.ones(shape), self.w, self.x.shape)
        with pytest.raises(ValueError, match=r"dy must have shape \(2, 6, 3, 3\)"):
            conv2d_weight_grad(self.x, np.ones(shape), self.w.shape)

    def test_one_image_and_a_batch_do_not_mix(self):
        dy = np.ones((6, 3, 3))
        with pytest.raises(ValueError, match="input_shape must have 3 dimensions"):
            conv2d_input_grad(dy, self.w, (1, 4, 5, 5))
        with pytest.raises(ValueError, match="dy must be 4-D, but got 3-D"):
            conv2d_weight_grad(self.x[:1], dy, self.w.shape)

    def test_shape_arguments(self):
        dy = np.ones((2, 6, 3, 3))
        with pytest.raises(ValueError, match="input_shape must have 4 dimensions"):
            conv2d_input_grad(dy, self.w, (5, 5))
        with pytest.raises(TypeError, match="input_shape must be a tuple of ints"):
            conv2d_input_grad(dy, self.w, (None, 4, 5, 5))
        with pytest.raises(ValueError, match="input_shape must not have negative sizes"):
            conv2d_input_grad(dy, self.w, (-1, 4, 5, 5))
        with pytest.raises(ValueError, match="weight_shape must have 4 dimensions"):
            conv2d_weight_grad(self.x, dy, (6, 3, 3))
        with pytest.raises(ValueError, match="must not have a zero size"):
            conv2d_weight_grad(self.x, dy, (6, 4, 0, 3))
        with pytest.raises(ValueError, match="dy must be 4-D or 3-D"):
            conv2d_bias_grad(np.ones((6, 3)))

    def test_types(self):
        w32 = self.w.astype(np.float32)
        with pytest.raises(TypeError, match=r"x must be float32 .*x\.astype\(np\.float32\)"):
            conv2d(self.x.astype(np.int64), self.w)
        with pytest.raises(TypeError, match=r"mixed types: w is float32, .* are float64"):
            conv2d(self.x, w32)
        with pytest.raises(TypeError, match=r"mixed types: b is float32, .* are float64"):
            conv2d(self.x, self.w, np.ones(6, np.float32))
        with pytest.raises(TypeError, match=r"mixed types: w is float32, .* are float64"):
            conv2d_input_grad(np.ones((2, 6, 3, 3)), w32, self.x.shape)
        with pytest.raises(TypeError, match=r"mixed types: dy is float32, .* are float64"):
            conv2d_weight_grad(self.x, np.ones((2, 6, 3, 3), np.float32), self.w.shape)

    @pytest.mark.parametrize("operation", CONVOLUTIONS)
    def test_algorithms(self, operation):
        arrays = [np.ones(shape) for shape in SQUARE.shapes]
        with pytest.raises(ValueError, match=f"{operation} has no algorithm 'fastest'; it has"):
            convolve(functional, operation, SQUARE, *arrays, algorithm="fastest")
        for value in (None, 3, ["portable"]):
            with pytest.raises(TypeError, match="algorithm must be a string, but got"):
                convolve(functional, operation, SQUARE, *arrays, algorithm=value)
