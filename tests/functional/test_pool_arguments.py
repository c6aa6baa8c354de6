"""Bad masks, `out=`, threads, and what max pooling refuses."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings

from fastcnn import reference
from fastcnn.functional import mask_to_indices, mask_to_input, max_pool2d, max_pool2d_grad
from fastcnn.kernels.selection import IMPLEMENTATIONS
from tests.functional.operations import Guarded, plan_for
from tests.geometries import PoolCase, pool_cases, seeds, small_integers

backward = pytest.mark.parametrize(
    "algorithm", [e.name for e in IMPLEMENTATIONS["max_pool2d_grad"]]
)


class TestBadMasks:
    @backward
    @settings(deadline=None, max_examples=60)
    @given(case=pool_cases(), seed=seeds())
    def test_random_bytes_never_write_outside(self, algorithm, case, seed):
        """Either every entry names a cell, and the reference agrees, or both refuse."""
        if plan_for(case, "max_pool2d_grad", algorithm, np.float32) is None:
            return
        rng = np.random.default_rng(seed)
        low, high = rng.choice([(0, 2), (0, 16), (0, 256), (250, 256)])
        mask = rng.integers(low, high, case.output_shape).astype(np.uint8)
        dy = small_integers(rng, case.output_shape, np.float32)
        arguments = (dy, mask, case.input_shape)
        out = Guarded(case.input_shape, np.float32)
        try:
            expected = reference.max_pool2d_grad(*arguments, **case.options)
        except ValueError:
            with pytest.raises(ValueError, match="entries that name no cell of the input"):
                max_pool2d_grad(*arguments, **case.options, algorithm=algorithm, out=out.array)
            for view in (mask_to_indices, mask_to_input):
                with pytest.raises(ValueError, match="entries that name no cell of the input"):
                    view(mask, case.input_shape, **case.options)
        else:
            max_pool2d_grad(*arguments, **case.options, algorithm=algorithm, out=out.array)
            np.testing.assert_array_equal(out.array, expected)
        out.assert_untouched_around()

    @backward
    @pytest.mark.parametrize("code", [-1, 289, 2**31 - 1, -(2**31)])
    def test_four_byte_codes(self, algorithm, code):
        case = PoolCase(1, 2, 18, 18, 17, 1, 0, 1, False)
        if plan_for(case, "max_pool2d_grad", algorithm, np.float32) is None:
            pytest.skip("the implementation says that it does not serve this layer")
        mask = np.zeros((1, 2, 2, 2), np.int32)
        mask[0, 1, 1, 0] = mask[0, 0, 0, 1] = code
        out = Guarded((1, 2, 18, 18), np.float32)
        with pytest.raises(ValueError, match=r"mask has 2 entries .* r\*17 \+ s .* 0 to 288"):
            max_pool2d_grad(
                np.ones(mask.shape, np.float32),
                mask,
                case.input_shape,
                **case.options,
                algorithm=algorithm,
                out=out.array,
            )
        out.assert_untouched_around()
        for view in (mask_to_indices, mask_to_input):
            with pytest.raises(ValueError, match="mask has 2 entries"):
                view(mask, case.input_shape, **case.options)

    @pytest.mark.parametrize("code", [0, 1, 2, 3, 6])
    def test_cells_in_padding_are_no_cells(self, code):
        # of the first 3x3 window with padding 1, only 4, 5, 7 and 8 lie on the image
        mask = np.full((1, 1, 1, 1), code, np.uint8)
        with pytest.raises(ValueError, match="mask has 1 entries that name no cell"):
            max_pool2d_grad(np.ones((1, 1, 1, 1)), mask, (1, 1, 2, 2), 3, padding=1)

    def test_types_and_shapes(self):
        x = np.arange(32.0).reshape(1, 2, 4, 4)
        y, mask = max_pool2d(x, 2, return_mask=True)
        for function in (
            lambda m: max_pool2d_grad(y, m, x.shape, 2),
            lambda m: mask_to_indices(m, x.shape, 2),
            lambda m: mask_to_input(m, x.shape, 2),
        ):
            for wrong in (mask.astype(np.int64), mask.astype(bool), mask.astype(float)):
                with pytest.raises(TypeError, match="mask must be uint8 or int32, but got"):
                    function(wrong)
            with pytest.raises(TypeError, match="mask must be uint8 for a window of 2 x 2"):
                function(mask.astype(np.int32))
            for wrong in (mask[0], mask[:, :1], mask[..., :1], mask.repeat(2, 0)):
                with pytest.raises(ValueError, match=r"mask must have shape \(1, 2, 2, 2\)"):
                    function(wrong)
        with pytest.raises(TypeError, match="mask must be int32 for a window of 17 x 17"):
            mask_to_indices(np.zeros((1, 1, 1, 1), np.uint8), (1, 1, 17, 17), 17)
        for wrong in (y[0], y[:, :1], y.repeat(2, 0)):
            with pytest.raises(ValueError, match=r"dy must have shape \(1, 2, 2, 2\)"):
                max_pool2d_grad(wrong, mask, x.shape, 2)


class TestOut:
    @pytest.mark.parametrize("shift", [0, 3])
    def test_may_overlap_the_input(self, shift):
        memory = small_integers(np.random.default_rng(1), (80,), np.float32)
        x = memory[:72].reshape(2, 1, 6, 6)
        expected = reference.max_pool2d(x.copy(), 3, stride=1, padding=1)
        out = memory[shift : shift + 72].reshape(2, 1, 6, 6)
        max_pool2d(x, 3, stride=1, padding=1, out=out)
        np.testing.assert_array_equal(out, expected)

    def test_of_the_gradient_may_be_dy_or_hold_the_mask(self):
        x = small_integers(np.random.default_rng(2), (1, 2, 5, 5), np.float32)
        dy, mask = max_pool2d(x, 3, stride=1, padding=1, return_mask=True)
        expected = reference.max_pool2d_grad(dy.copy(), mask, x.shape, 3, stride=1, padding=1)
        out = np.empty_like(x)
        inside = out.view(np.uint8).reshape(-1)[: mask.size].reshape(mask.shape)
        inside[...] = mask
        max_pool2d_grad(dy, inside, x.shape, 3, stride=1, padding=1, out=out)
        np.testing.assert_array_equal(out, expected)
        max_pool2d_grad(dy, mask, x.shape, 3, stride=1, padding=1, out=dy)
        np.testing.assert_array_equal(dy, expected)

    def test_need_not_be_contiguous(self):
        x = small_integers(np.random.default_rng(3), (1, 2, 6, 6), np.float32)
        memory = np.full((1, 2, 6, 6), np.nan, np.float32)
        max_pool2d(x, 2, out=memory[..., ::2, ::-2])
        expected = np.full_like(memory, np.nan)
        expected[..., ::2, ::-2] = reference.max_pool2d(x, 2)
        np.testing.assert_array_equal(memory, expected)

    def test_must_fit(self):
        x = np.ones((1, 2, 6, 6), np.float32)
        y, mask = max_pool2d(x, 2, return_mask=True)
        with pytest.raises(ValueError, match=r"out must have shape \(1, 2, 3, 3\)"):
            max_pool2d(x, 2, out=np.ones((1, 2, 6, 6), np.float32))
        with pytest.raises(TypeError, match="out must be float32, but got float64"):
            max_pool2d(x, 2, out=np.ones((1, 2, 3, 3)))
        with pytest.raises(ValueError, match=r"out must have shape \(1, 2, 6, 6\)"):
            max_pool2d_grad(y, mask, x.shape, 2, out=y)


def digests() -> dict[str, str]:
    """One digest per result, of poolings large enough to be shared among threads."""
    found = {}
    for dtype in ("float32", "float64"):
        x = np.random.default_rng(4).standard_normal((4, 9, 70, 70)).astype(dtype)
        case = PoolCase(4, 9, 70, 70, 3, 1, 1, 1, False)
        for entry in IMPLEMENTATIONS["max_pool2d"]:
            if plan_for(case, "max_pool2d", entry.name, dtype):
                options = case.options | {"algorithm": entry.name}
                y, mask = max_pool2d(x, **options, return_mask=True)
                key = f"{entry.name} {dtype}"
                found[key] = hashlib.sha256(y.tobytes() + mask.tobytes()).hexdigest()
        for entry in IMPLEMENTATIONS["max_pool2d_grad"]:
            if plan_for(case, "max_pool2d_grad", entry.name, dtype):
                options = case.options | {"algorithm": entry.name}
                dx = max_pool2d_grad(y, mask, x.shape, **options)
                found[f"grad {entry.name} {dtype}"] = hashlib.sha256(dx.tobytes()).hexdigest()
    return found


def test_same_bits_on_one_two_and_four_threads():
    """Four threads need a process whose pool has them, whatever this machine's cores."""
    program = (
        "import json, fastcnn\n"
        "from tests.functional.test_pool_arguments import digests\n"
        "found = []\n"
        "for n in (1, 2, 4):\n"
        "    fastcnn.set_num_threads(n)\n"
        "    found.append(digests())\n"
        "print(json.dumps(found))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two, four = json.loads(done.stdout)
    assert len(one) >= 4
    assert one == two == four


class TestErrors:
    x = np.ones((1, 2, 6, 6))

    @pytest.mark.parametrize(
        ("shape", "arguments", "message"),
        [
            ((6, 6), (2,), r"Expected 3D \(unbatched\) or 4D \(batched\) input to max_pool2d"),
            ((1, 2, 6, 6), (3, 1, 3), "pad should be smaller than the effective window"),
            ((1, 2, 6, 6), (3, 1, (0, 3, 0, 0)), "pad should be smaller than the effective"),
            ((1, 2, 6, 6), (7,), "output size is too small"),
            ((1, 2, 6, 0), (1,), "output size is too small"),
            ((1, 1, 1, 1), (2, 1, 1, 2), "window 0 along height lies wholly in padding"),
            ((1, 2, 6, 6), (2, 2, "foo"), "Invalid padding string: 'foo'"),
            ((1, 2, 6, 6), (2, 2, "same"), "padding='same' is not supported for strided"),
            ((1, 2, 6, 6), (2, None, "same"), "padding='same' is not supported for strided"),
            ((1, 2, 6, 6), (0,), "kernel_size must be at least 1"),
            ((1, 2, 6, 6), (2, 0), "stride must be at least 1"),
            ((1, 2, 6, 6), (2, 2, -1), "padding must be at least 0"),
            ((1, 2, 6, 6), (2, 2, 0, 0), "dilation must be at least 1"),
            ((1, 2, 6, 6), ((1, 2, 3),), "kernel_size must be an int or 2 ints"),
        ],
    )
    def test_geometries(self, shape, arguments, message):
        with pytest.raises(ValueError, match=message):
            max_pool2d(np.ones(shape), *arguments)
        if len(shape) == 4:
            mask = np.zeros((1, 1, 1, 1), np.uint8)
            for view in (mask_to_indices, mask_to_input):
                with pytest.raises(ValueError, match=message):
                    view(mask, shape, *arguments)

    @pytest.mark.parametrize("value", [1.0, "2", True, (1, 2.0), np.ones(2)])
    @pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
    def test_options_that_are_no_ints(self, name, value):
        with pytest.raises(TypeError, match=f"{name} must be an int or 2 ints"):
            max_pool2d(self.x, **({"kernel_size": 1} | {name: value}))

    def test_types(self):
        with pytest.raises(TypeError, match=r"x must be float32 .*x\.astype\(np\.float32\)"):
            max_pool2d(self.x.astype(np.uint8), 2)
        for value in (None, 3, ["portable"]):
            with pytest.raises(TypeError, match="algorithm must be a string"):
                max_pool2d(self.x, 2, algorithm=value)
        with pytest.raises(ValueError, match="max_pool2d has no algorithm 'fastest'; it has"):
            max_pool2d(self.x, 2, algorithm="fastest")
