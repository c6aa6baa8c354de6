"""Random convolutions and poolings for hypothesis, and the data to run them on.

`conv_cases()` and `pool_cases()` draw valid geometries only, over everything the operations take:

- one 3-D image (N is None), an empty batch (N = 0), one and several images;
- rectangular kernels, strides and dilations, given as one int where the two directions agree;
- padding as an int, a pair, four numbers, "valid", "same" (stride 1), "same_upper" and
  "same_lower"; for convolutions also wider than the kernel, for pooling up to the window less one;
- groups of 1, several, and depthwise with one or more filters per channel;
- inputs smaller than the kernel, inputs whose last rows no window reaches, ceil mode.

Output sizes are counted window by window, not computed by the formula under test. A case knows its
shapes and the keyword arguments of the operations:

    @given(case=conv_cases(), seed=seeds())
    def test_something(case, seed):
        rng = np.random.default_rng(seed)
        x, w, dy = (small_integers(rng, shape) for shape in case.shapes)
        y = conv2d(x, w, **case.options)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st

Pair = tuple[int, int]
PADDING_FORMS = ("int", "pair", "four", "valid", "same", "same_upper", "same_lower")


def sides_of(padding: Any, lengths: Pair, kernels: Pair, strides: Pair, dilations: Pair):
    """Any form of padding as ((top, bottom), (left, right))."""
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    if not isinstance(padding, str):
        if len(padding) == 2:
            return (padding[0], padding[0]), (padding[1], padding[1])
        return (padding[0], padding[1]), (padding[2], padding[3])
    sides = []
    for length, kernel, stride, dilation in zip(lengths, kernels, strides, dilations, strict=True):
        reach = dilation * (kernel - 1) + 1
        total = 0
        if padding == "same":
            total = reach - 1
        elif padding != "valid":
            outputs = -(-length // stride)
            total = max((outputs - 1) * stride + reach - length, 0)
        small, large = total // 2, total - total // 2
        sides.append((large, small) if padding == "same_lower" else (small, large))
    return sides[0], sides[1]


def window_starts(
    length: int, sides: Pair, kernel: int, stride: int, dilation: int, ceil_mode: bool = False
) -> list[int]:
    """Input position at which each window of an axis begins (negative inside the padding)."""
    before, after = sides
    end = length + after
    reach = dilation * (kernel - 1) + 1
    starts = []
    start = -before
    if ceil_mode:
        # Windows until the padded input is covered, but none that begins behind the input. The
        # first would begin `stride` earlier, had it a predecessor.
        while start - stride + reach < end and start < length:
            starts.append(start)
            start += stride
    else:
        while start + reach <= end:
            starts.append(start)
            start += stride
    return starts


@dataclass(frozen=True)
class ConvCase:
    """A valid convolution. N is None for one 3-D image."""

    N: int | None
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: int | Pair
    padding: Any
    dilation: int | Pair
    groups: int

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of conv2d and its gradients."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*_batch(self.N), self.C, self.H, self.W)

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return (self.K, self.C // self.groups, self.R, self.S)

    @property
    def sides(self) -> tuple[Pair, Pair]:
        """The padding as ((top, bottom), (left, right))."""
        return sides_of(
            self.padding,
            (self.H, self.W),
            (self.R, self.S),
            _both(self.stride),
            _both(self.dilation),
        )

    @property
    def output_shape(self) -> tuple[int, ...]:
        axes = (self.H, self.W), self.sides, (self.R, self.S), _both(self.stride)
        counts = [len(window_starts(*a)) for a in zip(*axes, _both(self.dilation), strict=True)]
        return (*_batch(self.N), self.K, *counts)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shapes of x, w and dy."""
        return self.input_shape, self.weight_shape, self.output_shape


@dataclass(frozen=True)
class PoolCase:
    """A valid max pooling. N is None for one 3-D image, stride None for the window."""

    N: int | None
    C: int
    H: int
    W: int
    kernel_size: int | Pair
    stride: int | Pair | None
    padding: Any
    dilation: int | Pair
    ceil_mode: bool

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of max_pool2d, its gradient and the views of its mask."""
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }

    @property
    def strides(self) -> Pair:
        return _both(self.kernel_size if self.stride is None else self.stride)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return (*_batch(self.N), self.C, self.H, self.W)

    @property
    def sides(self) -> tuple[Pair, Pair]:
        """The padding as ((top, bottom), (left, right))."""
        return sides_of(
            self.padding,
            (self.H, self.W),
            _both(self.kernel_size),
            self.strides,
            _both(self.dilation),
        )

    @property
    def output_shape(self) -> tuple[int, ...]:
        axes = (self.H, self.W), self.sides, _both(self.kernel_size), self.strides
        counts = [
            len(window_starts(*a, self.ceil_mode))
            for a in zip(*axes, _both(self.dilation), strict=True)
        ]
        return (*_batch(self.N), self.C, *counts)


def _both(value: int | Pair) -> Pair:
    return (value, value) if isinstance(value, int) else value


def _batch(images: int | None) -> tuple[int, ...]:
    return () if images is None else (images,)


def seeds() -> st.SearchStrategy[int]:
    """Seeds of a numpy generator for the data of a case."""
    return st.integers(0, 2**32 - 1)


def small_integers(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64):
    """Whole numbers in -4..4: products and sums of them are exact even in float32."""
    return rng.integers(-4, 5, shape).astype(dtype)


def pooling_data(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float64):
    """Few distinct values, so that windows tie, with some -inf, inf and NaN among them."""
    x = rng.integers(-2, 2, shape).astype(dtype)
    fate = rng.random(shape)
    x[fate < 0.4] = -np.inf
    x[fate < 0.08] = np.nan
    x[fate < 0.03] = np.inf
    return x


@st.composite
def _pairs(draw: Any, low: int, high: int) -> int | Pair:
    """An int for both directions, or two different or equal ones."""
    one = st.integers(low, high)
    return draw(one | st.tuples(one, one))


@st.composite
def _paddings(draw: Any, strides: Pair, most: Pair) -> Any:
    """Padding in any form, at most `most` (vertical, horizontal) where it is given in numbers."""
    forms = [f for f in PADDING_FORMS if f != "same" or strides == (1, 1)]
    form = draw(st.sampled_from(forms))
    rows, cols = st.integers(0, most[0]), st.integers(0, most[1])
    if form == "int":
        return draw(st.integers(0, min(most)))
    if form == "pair":
        return draw(st.tuples(rows, cols))
    if form == "four":
        return draw(st.tuples(rows, rows, cols, cols))
    return form


def _batches() -> st.SearchStrategy[int | None]:
    return st.sampled_from([None, 0, 1, 1, 2, 3])


@st.composite
def conv_cases(draw: Any, max_length: int = 9, max_channels: int = 4) -> ConvCase:
    """Valid convolutions with inputs up to `max_length` (10 at the least: a kernel must fit).

    Kernels are at most 4 x 4, dilations and strides at most 3.
    """
    kernels = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride, dilation = draw(_pairs(1, 3)), draw(_pairs(1, 3))
    strides, dilations = _both(stride), _both(dilation)
    # One more than the widest kernel's full padding: the input gradient has to crop there.
    padding = draw(_paddings(strides, (4, 4)))

    lengths = []
    for axis in (0, 1):
        valid = [
            length
            for length in range(1, max(max_length, 10) + 1)
            if window_starts(
                length,
                sides_of(padding, (length, length), kernels, strides, dilations)[axis],
                kernels[axis],
                strides[axis],
                dilations[axis],
            )
        ]
        lengths.append(draw(st.sampled_from(valid)))

    kind = draw(st.sampled_from(["dense", "dense", "grouped", "depthwise"]))
    if kind == "dense":
        groups = 1
        channels, filters = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    elif kind == "grouped":
        groups = draw(st.integers(2, 3))
        channels, filters = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    else:
        groups = channels = draw(st.integers(1, max_channels))
        filters = channels * draw(st.integers(1, 2))
    return ConvCase(
        draw(_batches()), channels, *lengths, filters, *kernels, stride, padding, dilation, groups
    )


@st.composite
def pool_cases(draw: Any, max_length: int = 9, max_channels: int = 3) -> PoolCase:
    """Valid max poolings with inputs up to `max_length` (10 at the least: a window must fit).

    Windows are at most 4 x 4, dilations and strides at most 3, padding below the dilated window;
    every window has an element of the input.
    """
    kernel_size, dilation = draw(_pairs(1, 4)), draw(_pairs(1, 3))
    stride = draw(st.none() | _pairs(1, 3))
    kernels, dilations = _both(kernel_size), _both(dilation)
    strides = kernels if stride is None else _both(stride)
    reaches = [d * (k - 1) + 1 for k, d in zip(kernels, dilations, strict=True)]
    padding = draw(_paddings(strides, (reaches[0] - 1, reaches[1] - 1)))
    ceil_mode = draw(st.booleans())

    lengths = []
    for axis in (0, 1):
        valid = []
        for length in range(1, max(max_length, 10) + 1):
            sides = sides_of(padding, (length, length), kernels, strides, dilations)[axis]
            kernel, stride_, dilation_ = kernels[axis], strides[axis], dilations[axis]
            starts = window_starts(length, sides, kernel, stride_, dilation_, ceil_mode)
            touched = [
                any(0 <= start + r * dilation_ < length for r in range(kernel)) for start in starts
            ]
            if starts and all(touched):
                valid.append(length)
        lengths.append(draw(st.sampled_from(valid)))
    return PoolCase(
        draw(_batches()),
        draw(st.integers(1, max_channels)),
        *lengths,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
    )
