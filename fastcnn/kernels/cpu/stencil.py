"""Where the taps of a small kernel find a plane's elements, along rows and along columns."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

# Rows by their length: longer than a vector, at most as long, at most half as long where
# they are parted into even and odd columns.
LONG, NARROW, SHORT = 0, 1, 2


@dataclass(frozen=True)
class Axis:
    """Taps along rows or columns.

    Attributes
    ----------
    phases, step : int
        Output element i*phases + phase reads source element i*step + offset + tap's own.
    terms : tuple of (phase, offset, tap)
        Offsets are at least 0.
    shift : int
        What to add to the caller's own offset, which is -padding forward, else padding // stride.
    """

    phases: int
    step: int
    terms: tuple[tuple[int, int, int], ...]
    shift: int

    @property
    def offsets(self) -> list[int]:
        return sorted({offset for _, offset, _ in self.terms})


def forward_axis(taps: int, stride: int, dilation: int) -> Axis:
    """Output i reads source i*stride + tap*dilation - padding."""
    return Axis(1, stride, tuple((0, tap * dilation, tap) for tap in range(taps)), 0)


def transposed_axis(taps: int, stride: int, dilation: int, residue: int) -> Axis:
    """Output i*stride + a reads source i + (a + padding - tap*dilation) / stride, where it divides.

    residue = padding % stride.
    """
    terms = [
        (a, (a + residue - tap * dilation) // stride, tap)
        for a in range(stride)
        for tap in range(taps)
        if (a + residue - tap * dilation) % stride == 0
    ]
    least = min(offset for _, offset, _ in terms)
    return Axis(stride, 1, tuple((a, offset - least, tap) for a, offset, tap in terms), least)


@dataclass(frozen=True)
class Stencil:
    """A kernel's taps along both axes, how many rows are done together, and whether rows are short.

    short: a row of source and output fits into one vector, even where they are parted into even and
    odd columns.
    """

    rows: Axis
    columns: Axis
    width: int  # columns of the kernel
    band: int
    short: bool = False

    @property
    def source_parts(self) -> int:
        """Vectors of the source that hold what a vector of each offset is picked from."""
        return 1 if self.short else self.columns.step

    @property
    def out_parts(self) -> int:
        """Vectors of the output that a vector of each phase makes together."""
        return 1 if self.short else self.columns.phases

    @cached_property
    def vectors(self) -> list[tuple[int, list[int]]]:
        """What is loaded of a source row: (first offset, offsets that it gives)."""
        offsets, found = self.columns.offsets, []
        while offsets:
            first = offsets[0]
            both = [v for v in offsets if v < first + self.columns.step]
            found.append((first, both))
            offsets = offsets[len(both) :]
        return found

    @property
    def reach(self) -> int:
        """Elements of a source row that the vectors of one lane reach over, beyond the first."""
        return self.vectors[-1][0]


def axes_of(
    R: int, S: int, sh: int, sw: int, dh: int, dw: int, transposed: bool, residues: int
) -> tuple[Axis, Axis]:
    """Rows and columns of a kernel; residues = (padding above % sh) * sw + (padding left % sw)."""
    if not transposed:
        return forward_axis(R, sh, dh), forward_axis(S, sw, dw)
    above, left = divmod(residues, sw)
    return transposed_axis(R, sh, dh, above), transposed_axis(S, sw, dw, left)


def length_of(columns: int, parting: int, lanes: int) -> tuple[int, int]:
    """LONG, NARROW or SHORT, and the lanes that rows of so many columns fill at least half."""
    if columns > lanes:
        return LONG, lanes
    while columns * parting <= lanes // 2 and lanes > 4:
        lanes //= 2
    return (SHORT if parting > 1 and columns * parting <= lanes else NARROW), lanes
