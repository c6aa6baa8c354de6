"""Output sizes by brute force and against PyTorch; numbers as callers write them; error texts."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastcnn import functional, reference
from fastcnn import geometry as geometry_module
from fastcnn.arguments import Remembered
from fastcnn.geometry import (
    Conv2dGeometry,
    DenseGeometry,
    Extent,
    conv2d_geometry,
    pool2d_geometry,
)
from tests.geometries import conv_cases, pool_cases, window_starts


def batched(shape):
    return shape if len(shape) == 4 else (1, *shape)


@settings(deadline=None, max_examples=150)
@given(case=conv_cases(max_length=14))
def test_convolutions_counted_window_by_window(case):
    g = conv2d_geometry(batched(case.input_shape), case.weight_shape, **case.options)
    assert g.input_shape == batched(case.input_shape)
    assert g.weight_shape == case.weight_shape
    assert g.output_shape == batched(case.output_shape)
    assert g.padding == (*case.sides[0], *case.sides[1])


@settings(deadline=None, max_examples=150)
@given(case=pool_cases(max_length=14))
def test_poolings_counted_window_by_window(case):
    g = pool2d_geometry(batched(case.input_shape), **case.options)
    assert g.input_shape == batched(case.input_shape)
    assert g.output_shape == batched(case.output_shape)
    assert g.padding == (*case.sides[0], *case.sides[1])
    assert g.mask_dtype == "uint8"


small = st.integers(1, 4)
lengths = st.integers(0, 9)


@settings(deadline=None, max_examples=300)
@given(
    size=st.tuples(lengths, lengths),
    kernel=st.tuples(small, small),
    stride=st.tuples(small, small),
    padding=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    dilation=st.tuples(small, small),
    ceil_mode=st.booleans(),
)
def test_sizes_are_pytorchs(size, kernel, stride, padding, dilation, ceil_mode):
    """Also where it refuses, less what is meant to differ."""
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra `peers`")
    F = torch.nn.functional
    x = torch.empty((1, 1, *size), device="meta")
    w = torch.empty((1, 1, *kernel), device="meta")
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    shape = (1, 1, *size)

    theirs = shape_or_error(lambda: tuple(F.conv2d(x, w, **options).shape))
    ours = shape_or_error(lambda: conv2d_geometry(shape, (1, 1, *kernel), **options).output_shape)
    if 0 in size:
        # An input without rows is refused there and has windows of padding here, if it is wide
        # enough; what PyTorch says of it has changed with its versions.
        assert ours is None or min(ours) >= 1
    else:
        assert ours == theirs

    def pool():
        return tuple(F.max_pool2d(x, kernel, **options, ceil_mode=ceil_mode).shape)

    theirs = shape_or_error(pool)
    ours = shape_or_error(
        lambda: pool2d_geometry(shape, kernel, **options, ceil_mode=ceil_mode).output_shape
    )
    if ours == theirs:
        return
    if theirs is None:
        # PyTorch's bound on padding is half of the undilated window; ours is the dilated window.
        assert any(2 * p > k for p, k in zip(padding, kernel, strict=True))
    else:
        # A dilated window can step over a small input: PyTorch returns -inf, and an index that is
        # not in the window, which nothing can be sent back along.
        sides = [(p, p) for p in padding]
        assert any(
            not any(0 <= start + r * d < length for r in range(k))
            for length, side, k, s, d in zip(size, sides, kernel, stride, dilation, strict=True)
            for start in window_starts(length, side, k, s, d, ceil_mode)
        )


def shape_or_error(function):
    """The shape that a call returns, None where it refuses."""
    try:
        return function()
    except (TypeError, ValueError, RuntimeError):
        return None


odd = st.integers(-1, 3) | st.sampled_from([1.0, True, None, "2", "same", "valid", "foo"])
odd |= st.tuples(odd, odd) | st.lists(st.integers(0, 3), max_size=5)


@settings(deadline=None, max_examples=200)
@given(
    stride=odd,
    padding=odd,
    dilation=odd,
    groups=odd,
    kernel=st.integers(1, 4),
    ceil_mode=st.booleans(),
)
def test_reference_and_functional_refuse_the_same(
    stride, padding, dilation, groups, kernel, ceil_mode
):
    x, w = np.zeros((1, 2, 3, 4), np.float32), np.zeros((2, 1, kernel, 2), np.float32)
    for call in (
        lambda m: m.conv2d(x, w, stride=stride, padding=padding, dilation=dilation).shape,
        lambda m: m.conv2d(x, w, stride=stride, padding=padding, groups=groups).shape,
        lambda m: m.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode).shape,
    ):
        ours, theirs = (shape_or_error(lambda m=m, c=call: c(m)) for m in (functional, reference))
        assert ours == theirs


class TestNumbers:
    @pytest.mark.parametrize(
        ("padding", "sides"),
        [
            (2, (2, 2, 2, 2)),
            (np.int64(2), (2, 2, 2, 2)),
            ((1, 2), (1, 1, 2, 2)),
            ([1, 2], (1, 1, 2, 2)),
            ((1, 2, 0, 2), (1, 2, 0, 2)),
            ("valid", (0, 0, 0, 0)),
            # kernel 4 x 3 on 7 x 6
            ("same", (1, 2, 1, 1)),
            ("same_upper", (1, 2, 1, 1)),
            ("same_lower", (2, 1, 1, 1)),
        ],
    )
    def test_forms_of_padding(self, padding, sides):
        assert conv2d_geometry((1, 1, 7, 6), (1, 1, 4, 3), padding=padding).padding == sides
        assert pool2d_geometry((1, 1, 7, 6), (4, 3), 1, padding).padding == sides

    def test_same_at_a_stride_depends_on_the_size(self):
        for height, total in ((8, 1), (7, 2), (6, 1)):
            upper = conv2d_geometry((1, 1, height, 7), (1, 1, 3, 3), 2, "same_upper")
            lower = conv2d_geometry((1, 1, height, 7), (1, 1, 3, 3), 2, "same_lower")
            assert upper.P == lower.P == -(-height // 2)
            assert upper.padding == (total // 2, total - total // 2, 1, 1)
            assert lower.padding == (total - total // 2, total // 2, 1, 1)

    @pytest.mark.parametrize("wrong", [1.0, True, np.float64(1), (1, 1.0), (True, 1), "1", {1}])
    @pytest.mark.parametrize("name", ["stride", "dilation", "padding", "groups"])
    def test_no_call_before_makes_a_float_or_a_bool_pass(self, name, wrong):
        """1.0 and True are equal to 1 and have its hash: a cache would take them for it."""
        conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), 1, 1, 1, 1)
        kind = ValueError if (name, wrong) == ("padding", "1") else TypeError
        with pytest.raises(kind, match=name if kind is TypeError else "Invalid padding string"):
            conv2d_geometry((1, 1, 4, 4), (1, 1, 2, 2), **{name: wrong})

    def test_numpys_ints_and_lists_are_the_same_geometry(self):
        plain = conv2d_geometry((1, 2, 4, 4), (2, 1, 2, 2), (1, 2), 1, 1, 2)
        assert plain is conv2d_geometry(
            (1, 2, 4, 4), (2, 1, 2, 2), [np.int8(1), 2], np.uint64(1), (1, 1), np.int32(2)
        )
        assert all(type(n) is int for n in (*plain.stride, *plain.padding, plain.groups))


class TestCounts:
    def test_flops_and_bytes_of_a_convolution(self):
        g = conv2d_geometry((2, 6, 5, 4), (9, 2, 3, 2), 1, 0, 1, 3)
        assert g.output_shape == (2, 9, 3, 3)
        # each of 2*9*3*3 outputs takes 2*3*2 multiplications and as many additions
        assert g.flops == 2 * (2 * 9 * 3 * 3) * (2 * 3 * 2)
        assert g.bytes(4) == 4 * (2 * 6 * 5 * 4 + 9 * 2 * 3 * 2 + 2 * 9 * 3 * 3)

    def test_bytes_of_a_pooling(self):
        g = pool2d_geometry((2, 3, 8, 6), 2)
        assert g.bytes(8) == 8 * (2 * 3 * 8 * 6 + 2 * 3 * 4 * 3) + 2 * 3 * 4 * 3
        wide = pool2d_geometry((1, 1, 17, 17), 17)
        assert wide.bytes(4) == 4 * (17 * 17 + 1) + 4

    def test_dense_and_extent(self):
        assert DenseGeometry(3, 4, 5).flops == 2 * 3 * 4 * 5
        assert DenseGeometry(3, 4, 5).bytes(4) == 4 * (12 + 15 + 20)
        assert Extent((3, 4)).flops == 12
        assert Extent((3, 4)).bytes(8) == 2 * 8 * 12

    def test_full_padding_makes_the_input_gradient(self):
        """dX = conv(pad dY, rot180 W) with the padding that the geometry names, crops included."""
        rng = np.random.default_rng(1)
        for padding in ((0, 0, 0, 0), (1, 2, 0, 3), (4, 0, 1, 5)):
            x, w = rng.standard_normal((1, 1, 5, 6)), rng.standard_normal((1, 1, 3, 2))
            g = conv2d_geometry(x.shape, w.shape, 1, padding, (2, 1))
            dy = rng.standard_normal(g.output_shape)
            top, bottom, left, right = g.full_padding
            grown = np.pad(dy[0, 0], [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))])
            grown = grown[max(-top, 0) : grown.shape[0] - max(-bottom, 0)]
            grown = grown[:, max(-left, 0) : grown.shape[1] - max(-right, 0)]
            full = reference.conv2d(grown[None, None], w[..., ::-1, ::-1], dilation=(2, 1))
            expected = reference.conv2d_input_grad(dy, w, x.shape, padding=padding, dilation=(2, 1))
            np.testing.assert_allclose(full, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        (
            (2, 3, 5, 5),
            (6, 4, 3, 3),
            {},
            "Given groups=1, weight of size [6, 4, 3, 3], expected input[2, 3, 5, 5] to have 4 "
            "channels, but got 3 channels instead",
        ),
        (
            (2, 4, 5, 5),
            (3, 2, 3, 3),
            {"groups": 2},
            "Given groups=2, expected weight to be divisible by 2 at dimension 0, but got weight "
            "of size [3, 2, 3, 3] instead",
        ),
        (
            (1, 1, 2, 5),
            (1, 1, 2, 3),
            {"padding": (1, 0), "dilation": 4},
            "Calculated padded input size per channel: (4 x 5). Kernel size: (5 x 9). Kernel size "
            "can't be greater than actual input size",
        ),
        ((1, 1, 5, 5), (1, 1, 3, 3), {"padding": "foo"}, "Invalid padding string: 'foo'"),
        (
            (1, 1, 5, 5),
            (1, 1, 3, 3),
            {"padding": "same", "stride": (1, 2)},
            "padding='same' is not supported for strided convolutions",
        ),
        ((1, 0, 5, 5), (1, 0, 3, 3), {}, "weight of size [1, 0, 3, 3] must not have a zero size"),
    ],
)
def test_texts_that_people_search_for(x, w, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        conv2d_geometry(x, w, **options)


def test_geometries_are_frozen():
    g = Conv2dGeometry(1, 1, 4, 4, 1, 2, 2)
    with pytest.raises(AttributeError, match="cannot assign"):
        g.N = 2


@pytest.mark.parametrize("wrong", [1.0, True, (1.0, 1), (True, 1)])
def test_a_repeated_call_does_not_let_a_wrong_type_pass(wrong):
    right = conv2d_geometry((1, 1, 6, 6), (1, 1, 3, 3), 1)
    assert conv2d_geometry((1, 1, 6, 6), (1, 1, 3, 3), 1) is right
    assert conv2d_geometry((1, 1, 6, 6), (1, 1, 3, 3), np.int64(1)) == right
    with pytest.raises(TypeError, match="stride"):
        conv2d_geometry((1, 1, 6, 6), (1, 1, 3, 3), wrong)


def test_what_is_remembered_is_bounded():
    for size in range(Remembered._MOST + 10):
        conv2d_geometry((size, 1, 6, 6), (1, 1, 3, 3))
    assert len(geometry_module._KNOWN._made) <= Remembered._MOST
