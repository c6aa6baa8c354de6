"""3 x 3 convolutions of stride 2, and their input gradients, by an algorithm of Winograd's kind.

25 products for 2 x 2 results where the direct form has 36, and as many for 4 x 4 pixels of dX
(winograd_forms.py): the filter's outer taps meet pixels of one parity, of which F(2, 2) needs three
products for two results; its middle taps meet the others. All factors are 1 and -1, so that errors
are those of the sums: as small as a direct convolution's. All else is as in winograd.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fastcnn.geometry import Conv2dGeometry
from fastcnn.kernels.cpu.microkernel import padded
from fastcnn.kernels.cpu.product_tables import blocks_of
from fastcnn.kernels.cpu.tiled_product import NO_UNIT
from fastcnn.kernels.cpu.units import known_unit, vector_unit
from fastcnn.kernels.cpu.winograd import too_few, too_short
from fastcnn.kernels.cpu.winograd_calls import forward, input_grad, transformed
from fastcnn.kernels.cpu.winograd_forms import STRIDED, STRIDED_GRAD, TAPS, Form
from fastcnn.kernels.cpu.winograd_sizes import Winograd, tabulate


def _form(operation: str) -> Form:
    return STRIDED if operation == "conv2d" else STRIDED_GRAD


def refusal(operation: str, g: Conv2dGeometry, itemsize: int) -> str | None:
    """Why it cannot serve a geometry; None if it can."""
    unit = vector_unit()
    if unit is None:
        return NO_UNIT
    reason = too_short(unit, itemsize)
    if reason:
        return reason
    if (g.R, g.S) != (TAPS, TAPS) or g.stride != (2, 2) or g.dilation != (1, 1):
        return f"it takes {TAPS} x {TAPS} filters of stride 2, dilation 1 alone"
    if operation == "conv2d_input_grad" and not g.padding[0] % 2 == g.padding[2] % 2 == 1:
        return "it takes odd padding before rows and columns alone"
    return too_few(operation, g, itemsize, _form(operation))


@lru_cache(maxsize=256)
def _tables(operation: str, g: Conv2dGeometry, itemsize: int) -> Winograd:
    channels, filters, plane = g.C // g.groups, g.K // g.groups, g.R * g.S
    group, places = filters * channels * plane, np.arange(plane).reshape(g.R, g.S)
    (top, _, left, _), source, result = g.padding, g.input_shape, g.output_shape
    steps = (channels * plane, plane, group)
    if operation == "conv2d_input_grad":
        # dX's first row is row `top` of the padded input, an odd one: the middle tap of dY's row
        # (top - 1)/2, which is the first that its tile reads
        top, left, source, result = -(top // 2), -(left // 2), g.output_shape, g.input_shape
        steps = (plane, channels * plane, group)
    form = _form(operation)
    return tabulate(form, source, result[1:], (top, left), g.groups, steps, places, itemsize)


def pack(operation: str, geometry: Conv2dGeometry, w: np.ndarray) -> np.ndarray:
    """w transformed for `operation`, as in `winograd.pack`."""
    return transformed(_tables(operation, geometry, w.itemsize), w)


def conv2d(
    geometry: Conv2dGeometry,
    x: np.ndarray,
    w: np.ndarray,
    b: np.ndarray | None,
    y: np.ndarray,
    packed: np.ndarray | None = None,
    relu: bool = False,
) -> str | None:
    """As `winograd.conv2d`."""
    return forward(_tables, geometry, x, w, b, y, packed, relu)


def conv2d_input_grad(
    geometry: Conv2dGeometry,
    dy: np.ndarray,
    w: np.ndarray,
    dx: np.ndarray,
    packed: np.ndarray | None = None,
) -> str | None:
    """As `winograd.conv2d_input_grad`."""
    return input_grad(_tables, geometry, dy, w, dx, packed)


@dataclass(frozen=True)
class _Rates:
    """FLOP/s of the products, seconds of a product of a register tile; channels of a tile
    transformed, and filters transformed back, per second; filters of one channel transformed per
    second."""

    flops: float
    begun: float
    inputs: float
    outputs: float
    weights: float


# Measured on one core of a Zen 5 machine, float32, over 25 layers, of which four of five take 0.85
# to 1.15 times what they say together. Output transforms do not show in the forward times: 9
# numbers of a tile are read and 4 written. Seconds of the smallest call.
_RATES = {
    "conv2d": _Rates(225e9, 47e-9, 270e6, 3e9, 380e6),
    "conv2d_input_grad": _Rates(215e9, 26e-9, 890e6, 260e6, 200e6),
}
CALL = 3.5e-6


def cost(operation: str, g: Conv2dGeometry, itemsize: int) -> float:
    """Seconds on one core: tiles transformed, multiplied, transformed back; weights transformed."""
    form, rates, unit = _form(operation), _RATES[operation], known_unit()
    channels, rows, P, Q = g.C, g.K, g.P, g.Q
    if operation == "conv2d_input_grad":
        channels, rows, P, Q = g.K, g.C, g.H, g.W
    lanes, products = unit.lanes(itemsize), len(form.table)
    columns = lanes * blocks_of(g.N * blocks_of(P, form.m) * blocks_of(Q, form.m), lanes)
    whole = padded(rows // g.groups) * g.groups
    tiles = blocks_of(columns, lanes * unit.vectors) * blocks_of(whole, unit.rows)
    product = 2 * products * columns * whole * (channels // g.groups) / rates.flops
    transforms = columns * (channels / rates.inputs + rows / rates.outputs)
    weights = g.K * (g.C // g.groups) / rates.weights
    begun = products * tiles * rates.begun
    return CALL + begun + itemsize / 4 * (product + transforms + weights)


def workspace(operation: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Bytes that one thread allocates at the most; as in `winograd.workspace`."""
    return _tables(operation, g, itemsize).scratch if g.N else 0
