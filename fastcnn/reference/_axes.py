"""Geometry of a window sliding along an image: each of the two axes by itself.

Window p of an axis covers the cells r = 0 .. kernel-1, cell r lies on the input position

    i = p stride - before + r dilation

and positions outside 0 .. length-1 are padding.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ._numerics import Array, size

Ints = int | Sequence[int]
Padding = int | str | Sequence[int]


@dataclass(frozen=True)
class Axis:
    """One axis (rows or columns) of a convolution or a pooling; `out` windows fit on it."""

    length: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    out: int

    @property
    def reach(self) -> int:
        """Input positions from a window's first cell to its last: the dilated kernel's size."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def padded(self) -> int:
        """Length of the input with its padding."""
        return self.before + self.length + self.after

    def positions(self) -> Array:
        """Input position of every cell of every window, shape (out, kernel); see the formula."""
        p = np.arange(self.out)[:, None]
        r = np.arange(self.kernel)
        return p * self.stride - self.before + r * self.dilation

    def inside(self) -> Array:
        """Which cells of which windows lie on the input, not on padding: bool (out, kernel)."""
        i = self.positions()
        return (i >= 0) & (i < self.length)

    def cells(self, p: int) -> list[tuple[int, int]]:
        """The pairs (cell r, input position i) of window p that do not lie on padding."""
        start = p * self.stride - self.before
        pairs = ((r, start + r * self.dilation) for r in range(self.kernel))
        return [(r, i) for r, i in pairs if 0 <= i < self.length]


def integers(value: object, name: str, counts: tuple[int, ...], least: int) -> tuple[int, ...]:
    """Read an int, or a sequence of ints whose length is one of `counts`; none below `least`."""
    wanted = " or ".join("an int" if n == 1 else f"{n} ints" for n in counts)
    items = value if isinstance(value, tuple | list) else (value,)
    try:
        if any(isinstance(item, bool) for item in items):
            raise TypeError
        numbers = tuple(operator.index(item) for item in items)
    except TypeError:
        raise TypeError(f"{name} must be {wanted}, but got {value!r}") from None
    if len(numbers) not in counts or (len(numbers) == 1 and items is value):
        raise ValueError(f"{name} must be {wanted}, but got {value!r}")
    if min(numbers) < least:
        raise ValueError(f"{name} must be at least {least}, but got {value!r}")
    if max(numbers) >= 2**60:
        raise ValueError(f"{name} must be below 2**60, but got {value!r}")
    return numbers


def pair(value: object, name: str) -> tuple[int, int]:
    """Read one positive int for both directions, or (vertical, horizontal)."""
    numbers = integers(value, name, (1, 2), least=1)
    return numbers[0], numbers[-1]


def shape_of(value: object, name: str) -> tuple[int, ...]:
    """Read a shape argument: a sequence of three or four ints, none negative."""
    return integers(value, name, (3, 4), least=0)


def _same_total(length: int, kernel: int, stride: int, dilation: int, padding: str) -> int:
    # torch's "same":            total = dilation (kernel - 1)          (stride 1)
    # TensorFlow's and ONNX's:   out = ceil(length / stride)
    #     total = max((out - 1) stride + dilation (kernel - 1) + 1 - length, 0)
    # The two agree at stride 1.
    if padding == "same":
        return dilation * (kernel - 1)
    out = -(-length // stride)
    return max((out - 1) * stride + dilation * (kernel - 1) + 1 - length, 0)


def _named_padding(
    padding: str, length: int, kernel: int, stride: int, dilation: int
) -> tuple[int, int]:
    if padding == "valid":
        return 0, 0
    total = _same_total(length, kernel, stride, dilation, padding)
    less, more = total // 2, total - total // 2
    return (more, less) if padding == "same_lower" else (less, more)


def axes(
    lengths: Sequence[int],
    kernels: tuple[int, int],
    stride: object,
    padding: object,
    dilation: object,
    *,
    ceil_mode: bool = False,
) -> tuple[Axis, Axis]:
    """The two axes of a sliding window; `out` may come out below 1, which the caller refuses.

    Output size, from torch.nn.functional:

        out = floor((length + before + after - reach [+ stride - 1 in ceil mode]) / stride) + 1

    and in ceil mode the last window goes if it begins behind the input:
    (out - 1) stride >= length + before.

    Raises
    ------
    TypeError, ValueError
        For a stride, padding or dilation that cannot be read, and for "same" with a stride.
    """
    strides = pair(stride, "stride")
    dilations = pair(dilation, "dilation")
    if isinstance(padding, str):
        if padding not in ("valid", "same", "same_upper", "same_lower"):
            raise ValueError(
                f"Invalid padding string: {padding!r}, expected 'valid', 'same', 'same_upper' or "
                "'same_lower'"
            )
        if padding == "same" and strides != (1, 1):
            raise ValueError(
                "padding='same' is not supported for strided convolutions and pooling; "
                "'same_upper' is TensorFlow's and Keras's rule for them"
            )
        pads = [
            _named_padding(padding, *each)
            for each in zip(lengths, kernels, strides, dilations, strict=True)
        ]
    else:
        numbers = integers(padding, "padding", (1, 2, 4), least=0)
        if len(numbers) == 4:
            pads = [(numbers[0], numbers[1]), (numbers[2], numbers[3])]
        else:
            pads = [(numbers[0], numbers[0]), (numbers[-1], numbers[-1])]

    def axis(n: int) -> Axis:
        length, kernel, step, spread = lengths[n], kernels[n], strides[n], dilations[n]
        before, after = pads[n]
        room = length + before + after - (spread * (kernel - 1) + 1)
        out = (room + (step - 1 if ceil_mode else 0)) // step + 1
        if ceil_mode and (out - 1) * step >= length + before:
            out -= 1
        return Axis(length, kernel, step, spread, before, after, out)

    return axis(0), axis(1)


def check_image(shape: Sequence[int], operation: str) -> None:
    """Raise ValueError unless `shape` is (N, C, H, W) or (C, H, W)."""
    if len(shape) not in (3, 4):
        raise ValueError(
            f"Expected 3D (unbatched) or 4D (batched) input to {operation}, "
            f"but got input of size: {size(shape)}"
        )


def conv_axes(
    input_shape: Sequence[int],
    weight_shape: Sequence[int],
    stride: object,
    padding: object,
    dilation: object,
    groups: object,
) -> tuple[Axis, Axis, int]:
    """Check the shapes of a convolution against each other; its two axes and its groups."""
    check_image(input_shape, "conv2d")
    (n_groups,) = integers(groups, "groups", (1,), least=1)
    if len(weight_shape) != 4 or min(weight_shape) == 0:
        raise ValueError(
            "expected a weight of shape (K, C/groups, R, S) without zero sizes, "
            f"but got weight of size {size(weight_shape)}"
        )
    given = f"Given groups={n_groups}"
    if weight_shape[0] % n_groups:
        raise ValueError(
            f"{given}, expected weight to be divisible by {n_groups} at dimension 0, "
            f"but got weight of size {size(weight_shape)} instead"
        )
    channels = weight_shape[1] * n_groups
    if input_shape[-3] != channels:
        raise ValueError(
            f"{given}, weight of size {size(weight_shape)}, expected input{size(input_shape)} "
            f"to have {channels} channels, but got {input_shape[-3]} channels instead"
        )
    kernels = (weight_shape[2], weight_shape[3])
    rows, cols = axes(input_shape[-2:], kernels, stride, padding, dilation)
    if min(rows.out, cols.out) < 1:
        raise ValueError(
            f"Calculated padded input size per channel: ({rows.padded} x {cols.padded}). "
            f"Kernel size: ({rows.reach} x {cols.reach}). "
            "Kernel size can't be greater than actual input size"
        )
    return rows, cols, n_groups


def check_bias(b: Array | None, w: Array, rows: Axis, cols: Axis) -> None:
    """Raise ValueError unless b is None, (K,) or (K, P, Q)."""
    filters = len(w)
    if b is not None and b.shape not in ((filters,), (filters, rows.out, cols.out)):
        raise ValueError(
            f"Given weight of size {size(w.shape)}, expected bias to be 1-dimensional with "
            f"{filters} elements, but got bias of size {size(b.shape)} instead "
            f"(one bias per output pixel has shape {(filters, rows.out, cols.out)})"
        )


def pool_axes(
    input_shape: Sequence[int],
    kernel_size: object,
    stride: object,
    padding: object,
    dilation: object,
    ceil_mode: bool,
) -> tuple[Axis, Axis]:
    """Check a pooling's geometry; its two axes."""
    check_image(input_shape, "max_pool2d")
    kernels = pair(kernel_size, "kernel_size")
    stride = kernels if stride is None else stride
    both = axes(input_shape[-2:], kernels, stride, padding, dilation, ceil_mode=ceil_mode)
    for axis in both:
        if max(axis.before, axis.after) >= axis.reach:
            raise ValueError(
                "pad should be smaller than the effective window, dilation * (kernel_size - 1) + 1 "
                f"= {axis.reach}, but got {max(axis.before, axis.after)}"
            )
    rows, cols = both
    if min(rows.out, cols.out) < 1:
        channels = input_shape[-3]
        raise ValueError(
            f"Given input size: ({channels}x{rows.length}x{cols.length}). Calculated output size: "
            f"({channels}x{rows.out}x{cols.out}). Output size is too small"
        )
    for axis in both:
        # A window that begins before a small input can step over all of it when it is dilated.
        empty = np.flatnonzero(~axis.inside().any(axis=1))
        if len(empty):
            raise ValueError(
                f"window {empty[0]} of {axis.out} lies wholly in padding (input length "
                f"{axis.length}, kernel_size {axis.kernel}, stride {axis.stride}, dilation "
                f"{axis.dilation}, padding {axis.before} and {axis.after}): use less padding"
            )
    return rows, cols


def as_batch(x: Array) -> Array:
    """One image (C, H, W) as a batch of one; a batch as it is."""
    return x[None] if x.ndim == 3 else x


def pad_or_crop(
    x: Array, rows: tuple[int, int], cols: tuple[int, int], value: float = 0.0
) -> Array:
    """Pad the last two axes of a 4-D array with `value`; negative amounts crop."""
    if rows == cols == (0, 0):
        return x
    grow = [(max(n, 0), max(m, 0)) for n, m in (rows, cols)]
    padded = np.pad(x, [(0, 0), (0, 0), *grow], constant_values=value)
    # Padding comes first: a crop may reach beyond the elements there are and eat from the padding
    # of the other side.
    (top, bottom), (left, right) = ((max(-n, 0), max(-m, 0)) for n, m in (rows, cols))
    height, width = padded.shape[2:]
    return padded[:, :, top : height - bottom, left : width - right]
