"""Stateless operations on Numba kernels; the same names and signatures as `fastcnn.reference`."""

from fastcnn.functional.activation import (
    flatten,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_grad,
    tanh,
    tanh_grad,
)
from fastcnn.functional.conv import conv2d, conv2d_input_grad
from fastcnn.functional.conv_parameters import (
    conv2d_bias_grad,
    conv2d_parameter_grads,
    conv2d_weight_grad,
)
from fastcnn.functional.dense import (
    dense,
    dense_bias_grad,
    dense_input_grad,
    dense_weight_grad,
)
from fastcnn.functional.loss import (
    binary_cross_entropy,
    binary_cross_entropy_grad,
    binary_cross_entropy_with_logits,
    binary_cross_entropy_with_logits_grad,
    categorical_cross_entropy,
    categorical_cross_entropy_grad,
    categorical_cross_entropy_with_logits,
    categorical_cross_entropy_with_logits_grad,
    half_squared_error,
    half_squared_error_grad,
)
from fastcnn.functional.pool import (
    mask_to_indices,
    mask_to_input,
    max_pool2d,
    max_pool2d_grad,
)
from fastcnn.functional.relu_pool import (
    relu_max_pool2d,
    relu_max_pool2d_grad,
)
from fastcnn.functional.update import (
    adam_step,
    momentum_step,
    sgd_step,
)

__all__ = [
    "adam_step",
    "binary_cross_entropy",
    "binary_cross_entropy_grad",
    "binary_cross_entropy_with_logits",
    "binary_cross_entropy_with_logits_grad",
    "categorical_cross_entropy",
    "categorical_cross_entropy_grad",
    "categorical_cross_entropy_with_logits",
    "categorical_cross_entropy_with_logits_grad",
    "conv2d",
    "conv2d_bias_grad",
    "conv2d_input_grad",
    "conv2d_parameter_grads",
    "conv2d_weight_grad",
    "dense",
    "dense_bias_grad",
    "dense_input_grad",
    "dense_weight_grad",
    "flatten",
    "half_squared_error",
    "half_squared_error_grad",
    "mask_to_indices",
    "mask_to_input",
    "max_pool2d",
    "max_pool2d_grad",
    "momentum_step",
    "relu",
    "relu_grad",
    "relu_max_pool2d",
    "relu_max_pool2d_grad",
    "sgd_step",
    "sigmoid",
    "sigmoid_grad",
    "softmax",
    "softmax_grad",
    "tanh",
    "tanh_grad",
]
