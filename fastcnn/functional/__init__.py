"""Stateless operations on Numba kernels; the same names and signatures as `fastcnn.reference`."""

from fastcnn.functional.conv import (
    conv2d,
    conv2d_bias_grad,
    conv2d_input_grad,
    conv2d_weight_grad,
)
from fastcnn.functional.pool import mask_to_indices, mask_to_input, max_pool2d, max_pool2d_grad

__all__ = [
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "mask_to_indices",
    "mask_to_input",
    "max_pool2d",
    "max_pool2d_grad",
]
