"""The kinds of problems, each a frozen dataclass that says its own problem string."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar

from fastcnn.arguments import PADDING_STRINGS, pair
from fastcnn.geometry import (
    Conv2dGeometry,
    DenseGeometry,
    Extent,
    Pool2dGeometry,
    conv2d_geometry,
    pool2d_geometry,
)
from fastcnn.verification.strings import ProblemError, Value, need, part

Pair = tuple[int, int]
Padding = tuple[int, int, int, int] | str


def _padding(padding: Any) -> Padding:
    """Any way to write a padding, as four numbers or a word."""
    if isinstance(padding, str):
        if padding not in PADDING_STRINGS:
            raise ProblemError(f"padding must be numbers or one of {', '.join(PADDING_STRINGS)}")
        return padding
    sides = (padding,) if isinstance(padding, int) else tuple(padding)
    if len(sides) not in (1, 2, 4):
        raise ProblemError(f"padding must be 1, 2 or 4 numbers, but got {padding!r}")
    if len(sides) == 4:
        return sides
    return (sides[0], sides[0], sides[-1], sides[-1])


def _numbers(values: dict[str, Value], **defaults: int | str) -> list[int]:
    """One number for each key; a default may name another key, whose number then counts."""
    found: dict[str, int] = {}
    for key, default in defaults.items():
        other = found[default] if isinstance(default, str) else default
        found[key] = int(values[key][0]) if key in values else other
    return list(found.values())


def _both(values: dict[str, Value], key: str, default: Pair) -> Pair:
    numbers = values.get(key, default)
    return int(numbers[0]), int(numbers[-1])


@dataclass(frozen=True)
class ConvProblem:
    """A convolution's shapes. `str()` gives the problem string, `name` where it comes from.

    Attributes
    ----------
    N, C, H, W, K, R, S : int
        Images, channels, height, width; filters, kernel height and width.
    stride, dilation : (int, int)
        Vertical and horizontal; one int may be given for both.
    padding : (int, int, int, int) or str
        Top, bottom, left, right, or one of the words of `fastcnn.functional.conv2d`; one or two
        ints may be given.
    groups : int
    name : str
        Such as "vgg16.conv3_2"; empty for a problem made from a string.

    Raises
    ------
    ValueError
        The geometry is not possible, in the words of `fastcnn.functional.conv2d`.
    """

    N: int
    C: int
    H: int
    W: int
    K: int
    R: int
    S: int
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    name: str = field(default="", compare=False)

    kind: ClassVar[str] = "convolution"
    keys: ClassVar[tuple[str, ...]] = ("n", "c", "h", "w", "k", "r", "s", "st", "p", "d", "g")

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", pair(self.stride, "stride"))
        object.__setattr__(self, "dilation", pair(self.dilation, "dilation"))
        object.__setattr__(self, "padding", _padding(self.padding))
        _ = self.geometry

    @classmethod
    def of(cls, text: str, values: dict[str, Value], name: str) -> ConvProblem:
        """From the parts of a problem string."""
        need(text, values, {"c": "channels", "h": "height", "k": "filters", "r": "kernel height"})
        n, c, h, w, k, r, s, g = _numbers(values, n=1, c=1, h=1, w="h", k=1, r=1, s="r", g=1)
        stride, dilation = _both(values, "st", (1, 1)), _both(values, "d", (1, 1))
        padding = _padding(values.get("p", (0,)))
        return cls(n, c, h, w, k, r, s, stride, padding, dilation, g, name)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of conv2d and its gradients."""
        return {
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "groups": self.groups,
        }

    @cached_property
    def geometry(self) -> Conv2dGeometry:
        c_group = self.C // self.groups if self.groups > 0 else self.C
        shapes = (self.N, self.C, self.H, self.W), (self.K, c_group, self.R, self.S)
        return conv2d_geometry(*shapes, **self.options)

    def scaled(self, batch: int | None = None, channels: int | None = None) -> ConvProblem:
        """The same layer with at most so many images, and channels and filters.

        Groups are kept where they can be: a depthwise layer stays depthwise.
        """
        n = self.N if batch is None else min(self.N, batch)
        if channels is None or channels >= max(self.C, self.K):
            return replace(self, N=n)
        groups = min(self.groups, channels)
        c, k = (
            groups * max(1, min(size // self.groups, channels // groups))
            for size in (self.C, self.K)
        )
        return replace(self, N=n, C=c, K=k, groups=groups)

    def __str__(self) -> str:
        text = f"n{self.N}c{self.C}h{self.H}{part('w', (self.W,), (self.H,))}k{self.K}r{self.R}"
        text += part("s", (self.S,), (self.R,)) + part("st", self.stride, (1, 1))
        text += part("p", self.padding, (0, 0, 0, 0)) + part("d", self.dilation, (1, 1))
        return text + part("g", (self.groups,), (1,))


@dataclass(frozen=True)
class PoolProblem:
    """A max pooling's shapes; attributes as in `ConvProblem`."""

    N: int
    C: int
    H: int
    W: int
    R: int
    S: int
    stride: Pair
    padding: Padding = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    ceil_mode: bool = False
    name: str = field(default="", compare=False)

    kind: ClassVar[str] = "pooling"
    keys: ClassVar[tuple[str, ...]] = ("n", "c", "h", "w", "r", "s", "st", "p", "d", "ceil")

    def __post_init__(self) -> None:
        object.__setattr__(self, "stride", pair(self.stride, "stride"))
        object.__setattr__(self, "dilation", pair(self.dilation, "dilation"))
        object.__setattr__(self, "padding", _padding(self.padding))
        _ = self.geometry

    @classmethod
    def of(cls, text: str, values: dict[str, Value], name: str) -> PoolProblem:
        """From the parts of a problem string."""
        need(text, values, {"c": "channels", "h": "height", "r": "window height"})
        n, c, h, w, r, s = _numbers(values, n=1, c=1, h=1, w="h", r=1, s="r")
        stride, dilation = _both(values, "st", (r, s)), _both(values, "d", (1, 1))
        padding = _padding(values.get("p", (0,)))
        return cls(n, c, h, w, r, s, stride, padding, dilation, "ceil" in values, name)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of max_pool2d, its gradient and the views of its mask."""
        return {
            "kernel_size": (self.R, self.S),
            "stride": self.stride,
            "padding": self.padding,
            "dilation": self.dilation,
            "ceil_mode": self.ceil_mode,
        }

    @cached_property
    def geometry(self) -> Pool2dGeometry:
        return pool2d_geometry((self.N, self.C, self.H, self.W), **self.options)

    def scaled(self, batch: int | None = None, channels: int | None = None) -> PoolProblem:
        """The same pooling with at most so many images, and channels."""
        n = self.N if batch is None else min(self.N, batch)
        return replace(self, N=n, C=self.C if channels is None else min(self.C, channels))

    def __str__(self) -> str:
        text = f"n{self.N}c{self.C}h{self.H}{part('w', (self.W,), (self.H,))}r{self.R}"
        text += part("s", (self.S,), (self.R,)) + part("st", self.stride, (self.R, self.S))
        text += part("p", self.padding, (0, 0, 0, 0)) + part("d", self.dilation, (1, 1))
        return text + ("ceil" if self.ceil_mode else "")


@dataclass(frozen=True)
class DenseProblem:
    """A dense layer's sizes: N rows of I inputs to O outputs."""

    N: int
    I: int
    O: int
    name: str = field(default="", compare=False)

    kind: ClassVar[str] = "dense layer"
    keys: ClassVar[tuple[str, ...]] = ("n", "i", "o")

    @classmethod
    def of(cls, text: str, values: dict[str, Value], name: str) -> DenseProblem:
        """From the parts of a problem string."""
        need(text, values, {"i": "inputs", "o": "outputs"})
        n, i, o = _numbers(values, n=1, i=1, o=1)
        return cls(n, i, o, name)

    @cached_property
    def geometry(self) -> DenseGeometry:
        return DenseGeometry(self.N, self.I, self.O)

    def scaled(self, batch: int | None = None, channels: int | None = None) -> DenseProblem:
        """The same layer with at most so many rows, and inputs and outputs."""
        sizes = self.I, self.O
        i, o = sizes if channels is None else (min(size, channels) for size in sizes)
        return replace(self, N=self.N if batch is None else min(self.N, batch), I=i, O=o)

    def __str__(self) -> str:
        return f"n{self.N}i{self.I}o{self.O}"


@dataclass(frozen=True)
class ShapeProblem:
    """The shape of an array that an operation passes over, images first."""

    shape: tuple[int, ...]
    name: str = field(default="", compare=False)

    kind: ClassVar[str] = "shape"

    @cached_property
    def geometry(self) -> Extent:
        return Extent(self.shape)

    def scaled(self, batch: int | None = None, channels: int | None = None) -> ShapeProblem:
        """The same shape with a first axis of at most `batch`, and a second of `channels`."""
        most = (batch, channels, *[None] * len(self.shape))
        sizes = zip(self.shape, most, strict=False)
        return replace(self, shape=tuple(n if m is None else min(n, m) for n, m in sizes))

    def __str__(self) -> str:
        return "x".join(str(n) for n in self.shape)


Problem = ConvProblem | PoolProblem | DenseProblem | ShapeProblem
