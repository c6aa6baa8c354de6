"""What is done to a sum before it is stored: bias, relu."""

from __future__ import annotations

from numba import float32

from fastcnn.kernels.cuda.target import helper

# What a kernel's `mode` says: a bias per filter, or per filter and pixel; relu; columns that can be
# stored by four, as the result's planes are dense and their sizes and address multiples of four.
BIAS, BIAS_PER_PIXEL, RELU, QUADS = 1, 2, 4, 8


@helper
def rectified(v, mode):
    """relu, if the mode says so; relu(NaN) is NaN."""
    return float32(0) if (mode & RELU) and v < float32(0) else v


@helper
def finished(v, b, channel, place, mode):
    """A sum with its bias, through relu, as the mode says."""
    if mode & BIAS:
        v = float32(v + b[channel])
    elif mode & BIAS_PER_PIXEL:
        v = float32(v + b[place])
    return rectified(v, mode)
