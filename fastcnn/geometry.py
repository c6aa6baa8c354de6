"""Shapes of convolutions, poolings and the rest: output sizes, paddings, FLOPs and bytes.

One frozen object per geometry, made once per distinct call signature and kept, so that a repeated
call pays a dictionary look-up. Every error about sizes is raised here, in the words that people
already search for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod
from typing import Any

from fastcnn.arguments import Pair, Remembered, Sides, padding_of, pair, sides_of, whole


@dataclass(frozen=True)
class Conv2dGeometry:
    """Everything about a 2-D convolution but its numbers.

    Attributes
    ----------
    N, C, H, W : int
        Batch, input channels, input height and width.
    K, R, S : int
        Filters, kernel height and width.
    stride, dilation : (int, int)
        Vertical and horizontal.
    padding : (int, int, int, int)
        Top, bottom, left, right.
    groups : int
    P, Q : int
        Output height and width: floor((H + top + bottom - dilation*(R-1) - 1)/stride) + 1.
    """

    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: Pair = (1, 1)
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    P: int = field(init=False)
    Q: int = field(init=False)

    def __post_init__(self) -> None:
        top, bottom, left, right = self.padding
        height, width = self.H + top + bottom, self.W + left + right
        tall, wide = self.window
        if height < tall or width < wide:
            raise ValueError(
                f"Calculated padded input size per channel: ({height} x {width}). "
                f"Kernel size: ({tall} x {wide}). "
                "Kernel size can't be greater than actual input size"
            )
        object.__setattr__(self, "P", (height - tall) // self.stride[0] + 1)
        object.__setattr__(self, "Q", (width - wide) // self.stride[1] + 1)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        # Every call looks up plans and tables by geometry: adding 13 numbers up took 1 us a time.
        return hash((self.input_shape, self.weight_shape, self.stride, self.padding, self.dilation))

    @property
    def window(self) -> Pair:
        """Height and width of the dilated kernel."""
        return self.dilation[0] * (self.R - 1) + 1, self.dilation[1] * (self.S - 1) + 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        return self.K, self.C // self.groups, self.R, self.S

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.K, self.P, self.Q

    @property
    def full_padding(self) -> Sides:
        """Padding of dY that makes its convolution with the rotated kernel the input gradient.

        At stride 1: dilation*(k-1) - padding on every side; negative where the forward padding
        was wider than the full padding, and dY is cropped there.
        """
        tall, wide = self.window
        top, bottom, left, right = self.padding
        return tall - 1 - top, tall - 1 - bottom, wide - 1 - left, wide - 1 - right

    @property
    def flops(self) -> int:
        """Two per multiply-add of the direct convolution; the same for each of the gradients."""
        terms = self.C // self.groups * self.R * self.S
        return 2 * self.N * self.K * self.P * self.Q * terms

    def bytes(self, itemsize: int) -> int:
        """Bytes of input, weights and output together: what must move at the least."""
        elements = self.N * self.C * self.H * self.W + self.N * self.K * self.P * self.Q
        return itemsize * (elements + self.K * self.C // self.groups * self.R * self.S)


@dataclass(frozen=True)
class Pool2dGeometry:
    """Everything about a 2-D pooling but its numbers; attributes as in `Conv2dGeometry`.

    P and Q follow PyTorch: floor((L + before + after - d*(k-1) - 1 [+ s-1 in ceil mode])/s) + 1,
    and in ceil mode the last window is dropped if it would start beyond the input and the padding
    before it.
    """

    N: int
    C: int
    H: int
    W: int
    R: int
    S: int
    stride: Pair
    padding: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    P: int = field(init=False)
    Q: int = field(init=False)

    def __post_init__(self) -> None:
        top, bottom, left, right = self.padding
        tall, wide = self.window
        if max(top, bottom) >= tall or max(left, right) >= wide:
            raise ValueError(
                f"pad should be smaller than the effective window, ({tall} x {wide}), but got "
                f"padding (top, bottom, left, right) = {self.padding}: "
                "a window would lie wholly in padding"
            )
        if self.R * self.S > 2**31 - 1:
            raise ValueError(
                f"kernel_size {self.R, self.S} has more cells than an int32 mask can number"
            )
        object.__setattr__(self, "P", self._output(0, self.H, top, bottom, tall))
        object.__setattr__(self, "Q", self._output(1, self.W, left, right, wide))

    def _output(self, axis: int, size: int, before: int, after: int, window: int) -> int:
        s = self.stride[axis]
        room = size + before + after - window
        out = (room + (s - 1 if self.ceil_mode else 0)) // s + 1
        if out < 1 or size < 1:
            raise ValueError(
                f"Given input size: ({self.C}x{self.H}x{self.W}). Window ({self.window[0]} x "
                f"{self.window[1]}) with padding {self.padding}: output size is too small"
            )
        if self.ceil_mode and (out - 1) * s >= size + before:
            out -= 1
        # A dilated window that starts before a small input can step over all of it.
        for o in range(min(out, before // s + 1)):
            d, start = self.dilation[axis], o * s - before
            if start < 0 and start + d * -(start // d) >= size:
                raise ValueError(
                    f"Given input size: ({self.C}x{self.H}x{self.W}), kernel_size {self.R, self.S},"
                    f" stride {self.stride}, padding {self.padding}, dilation {self.dilation}: "
                    f"window {o} along {('height', 'width')[axis]} lies wholly in padding"
                )
        return out

    @property
    def window(self) -> Pair:
        """Height and width of the dilated window."""
        return self.dilation[0] * (self.R - 1) + 1, self.dilation[1] * (self.S - 1) + 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.H, self.W

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.N, self.C, self.P, self.Q

    @property
    def mask_dtype(self) -> str:
        """Smallest type that numbers the cells of a window."""
        return "uint8" if self.R * self.S <= 256 else "int32"

    def bytes(self, itemsize: int) -> int:
        """Bytes of input, output and mask together."""
        outputs = self.N * self.C * self.P * self.Q
        mask = 1 if self.mask_dtype == "uint8" else 4
        return itemsize * (self.N * self.C * self.H * self.W + outputs) + mask * outputs


@dataclass(frozen=True)
class DenseGeometry:
    """A dense layer's sizes: N rows of I inputs to O outputs."""

    N: int
    I: int
    O: int

    @property
    def flops(self) -> int:
        """Two per multiply-add; the same for each of the gradients."""
        return 2 * self.N * self.I * self.O

    def bytes(self, itemsize: int) -> int:
        """Bytes of input, weights and output together."""
        return itemsize * (self.N * (self.I + self.O) + self.I * self.O)


@dataclass(frozen=True)
class Extent:
    """The shape of an array that an operation passes over once, whatever its axes mean."""

    shape: tuple[int, ...]

    @property
    def flops(self) -> int:
        """One per element: such operations are bound by memory."""
        return prod(self.shape)

    def bytes(self, itemsize: int) -> int:
        """Bytes of one input and one output of this shape."""
        return 2 * itemsize * prod(self.shape)


_KNOWN = Remembered()


@lru_cache(maxsize=4096)
def _conv2d(
    x: tuple[int, ...],
    w: tuple[int, ...],
    stride: Pair,
    padding: str | Sides,
    dilation: Pair,
    groups: int,
) -> Conv2dGeometry:
    n, c, height, width = x
    k, c_group, r, s = w
    if min(k, c_group, r, s) < 1:
        raise ValueError(f"weight of size {list(w)} must not have a zero size")
    if k % groups:
        raise ValueError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size {list(w)} instead"
        )
    if c != c_group * groups:
        raise ValueError(
            f"Given groups={groups}, weight of size {list(w)}, expected input{list(x)} to have "
            f"{c_group * groups} channels, but got {c} channels instead"
        )
    sides = sides_of(padding, (height, width), (r, s), stride, dilation)
    return Conv2dGeometry(n, c, height, width, k, r, s, stride, sides, dilation, groups)


def conv2d_geometry(
    input_shape: tuple[int, ...],
    weight_shape: tuple[int, ...],
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Conv2dGeometry:
    """Geometry of a convolution from the shapes (N, C, H, W) and (K, C/groups, R, S).

    Parameters are those of `fastcnn.functional.conv2d`.

    Raises
    ------
    TypeError, ValueError
        In PyTorch's words where PyTorch has them, naming what was given and what is expected.
    """
    given = (input_shape, weight_shape, stride, padding, dilation, groups)
    known = _KNOWN.find(given)
    if known is not None:
        return known
    made = _conv2d(
        input_shape,
        weight_shape,
        # Read before the cache, in which 1.0 and True would pass for the 1 of an earlier call.
        pair(stride, "stride"),
        padding_of(padding),
        pair(dilation, "dilation"),
        whole(groups, "groups"),
    )
    return _KNOWN.keep(given, made)


@lru_cache(maxsize=4096)
def _pool2d(
    x: tuple[int, ...],
    window: Pair,
    stride: Pair,
    padding: str | Sides,
    dilation: Pair,
    ceil_mode: bool,
) -> Pool2dGeometry:
    n, c, height, width = x
    sides = sides_of(padding, (height, width), window, stride, dilation)
    return Pool2dGeometry(n, c, height, width, *window, stride, sides, dilation, ceil_mode)


def pool2d_geometry(
    input_shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> Pool2dGeometry:
    """Geometry of a max pooling from the input's shape (N, C, H, W).

    Parameters are those of `fastcnn.functional.max_pool2d`.

    Raises
    ------
    TypeError, ValueError
        Bad numbers, padding not below the effective window, or no room for one window.
    """
    given = (input_shape, kernel_size, stride, padding, dilation, ceil_mode)
    known = _KNOWN.find(given)
    if known is not None:
        return known
    window = pair(kernel_size, "kernel_size")
    made = _pool2d(
        input_shape,
        window,
        window if stride is None else pair(stride, "stride"),
        padding_of(padding),
        pair(dilation, "dilation"),
        bool(ceil_mode),
    )
    return _KNOWN.keep(given, made)
