"""The forms of Winograd's algorithms that convolutions and input gradients take.

Along one axis each multiplies numbers V = B^T d, of a tile of the source, by numbers U = G g, of
the filter, and adds products up to numbers M, of which the result is A^T M:

    F(4, 3)    every V[i] by its own U[i], to its own M[i]: 6 products for 4 results; 12 directly
    stride 2   y0 = g0 d0 + g1 d1 + g2 d2,  y1 = g0 d2 + g1 d3 + g2 d4
               U = (g0, g1, g0 + g2, g2),  V = (d0 - d2, d1, d2, d3, d4 - d2)
               M = (V0 U0 + V1 U1, V2 U2, V3 U1 + V4 U3),  y = (M0 + M1, M1 + M2)
               5 products for 2 results; 6 directly. g0 and g2 meet the even pixels, which is
               F(2, 2); g1 meets the odd ones, whose products need no sums of their own.
    gradient   dx0 = g1 d0,  dx1 = g2 d0 + g0 d1,  dx2 = g1 d1,  dx3 = g2 d1 + g0 d2
    of it      V = (d0, d0 - d1, d1, d2 - d1),  M = (V0 U1, V1 U3, V2 U2, V2 U1, V3 U0)
               dx = (M0, M1 + M2, M3, M2 + M4): 5 products for 4 results; 6 directly

and on planes along both axes: 36 products in the place of 144, 25 of 36, 25 of 36.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from fastcnn.kernels.cpu.winograd_transforms import Matrix, transforms

# Filters are 3 x 3.
TAPS = 3


@dataclass(frozen=True)
class Form:
    """One axis of an algorithm; `kind` is the type by which compiled code is told which it is.

    step is how far apart in the source tiles begin, m how far apart in the result; products are
    triples of the places in V, in U and in M. A block of tiles takes `block` bytes in one row of M;
    `rows` filters are multiplied with it at a time, or up to `all_rows` if those are all there are.
    """

    kind: str
    step: int
    bt: Matrix
    g: Matrix
    at: Matrix
    products: tuple[tuple[int, int, int], ...]
    block: int
    rows: int
    all_rows: int

    @property
    def m(self) -> int:
        return len(self.at)

    @property
    def n(self) -> int:
        """Pixels of the source that a tile reads."""
        return len(self.bt[0])

    @property
    def points(self) -> tuple[int, int, int]:
        """Matrices V, U and M that there are, of both axes."""
        return len(self.bt) ** 2, len(self.g) ** 2, len(self.at[0]) ** 2

    @cached_property
    def tag(self) -> np.ndarray:
        """What kernels take: no elements, of the form's own type."""
        return np.empty(0, self.kind)

    @cached_property
    def table(self) -> np.ndarray:
        """The products of both axes: V, U, M, whether M has some already, and the V of the next."""
        sides = len(self.bt), len(self.g), len(self.at[0])
        found = sorted(
            tuple(i * side + j for i, j, side in zip(down, across, sides, strict=True))[::-1]
            for down, across in product(self.products, repeat=2)
        )
        before = [m for m, _, _ in found]
        return np.array(
            [
                (v, u, m, m in before[:i], found[min(i + 1, len(found) - 1)][2])
                for i, (m, u, v) in enumerate(found)
            ]
        )


def _matrix(*rows: tuple[int, ...]) -> Matrix:
    return tuple(tuple(map(Fraction, row)) for row in rows)


# Blocks and rows as M fits into L2. F(4, 3): 64 tiles in float32, four panels of 14 filters, up to
# 645 KB; 112 filters, 1.3 MB: 10 % slower.
_F43 = transforms(4, TAPS)
F43 = Form("int8", 4, _F43.bt, _F43.g, _F43.at, tuple((i, i, i) for i in range(6)), 256, 56, 70)

# 128 tiles: weights, which are fewer times smaller than the images than those of F(4, 3), are read
# half as often as with 64, which took 4 to 10 % longer; M takes 520 and 720 KB.
_STRIDED_G = _matrix((1, 0, 0), (0, 1, 0), (1, 0, 1), (0, 0, 1))
STRIDED = Form(
    "int16",
    4,
    _matrix((1, 0, -1, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, -1, 0, 1)),
    _STRIDED_G,
    _matrix((1, 1, 0), (0, 1, 1)),
    ((0, 0, 0), (1, 1, 0), (2, 2, 1), (3, 1, 2), (4, 3, 2)),
    512, 112, 140,
)  # fmt: skip
STRIDED_GRAD = Form(
    "int32",
    2,
    _matrix((1, 0, 0), (1, -1, 0), (0, 1, 0), (0, -1, 1)),
    _STRIDED_G,
    _matrix((1, 0, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 1, 0, 1)),
    ((0, 1, 0), (1, 3, 1), (2, 2, 2), (2, 1, 3), (3, 0, 4)),
    512, 56, 70,
)  # fmt: skip

_FORMS = {form.kind: form for form in (F43, STRIDED, STRIDED_GRAD)}


def form_of(tag_type: Any) -> Form:
    """The form whose tag has this Numba type."""
    return _FORMS[str(tag_type.dtype)]
