"""The networks of the lectures, each with its lecture's loss; SEEDS.md has their equations.

Every function returns a `Sequential`. Without `input_shape` (of one image, channels first) the
parameters are made for the images of the first forward pass or `fit`, or, if they are asked for
before that, for the lecture's own size. The same seed gives the same initial parameters on every
backend and, up to rounding, in both types.

All take `seed`, `dtype` and `backend` as `Sequential` does. `fastcnn.recipes` trains them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh
from fastcnn.training import Sequential

__all__ = [
    "dense_network",
    "fifteen_parameter",
    "keras_counts",
    "multichannel",
    "sigmoid_cnn",
    "small_ann",
    "two_block",
]

Shape = tuple[int, ...]
Seed = int | np.random.Generator | None


def fifteen_parameter(
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Documents 000 and 001 (S0, S1): one filter, one pooling, one output.

    conv 3x3 -> ReLU -> max pool 2x2 -> flatten -> dense -> sigmoid, binary cross-entropy.

    Parameters
    ----------
    input_shape : (C, H, W), optional
        The lecture's is (1, 6, 6), which makes 9 + 1 + 4 + 1 = 15 parameters.
    """
    return Sequential(
        [Conv2D(1, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(1), Sigmoid()],
        loss="binary_cross_entropy",
        name="fifteen_parameter",
        default_input_shape=(1, 6, 6),
        **_options(input_shape, seed, dtype, backend),
    )


def small_ann(
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 000's plain network (S0): 2 -> 2 -> 1, w1..w6 and one bias per layer, b1 and b2.

    Sigmoids behind both layers, binary cross-entropy.

    Parameters
    ----------
    input_shape : (features,), optional
        The lecture's is (2,): 4 + 1 + 2 + 1 = 8 parameters.
    """
    return Sequential(
        [Dense(2, bias="shared"), Sigmoid(), Dense(1, bias="shared"), Sigmoid()],
        loss="binary_cross_entropy",
        name="small_ann",
        default_input_shape=(2,),
        **_options(input_shape, seed, dtype, backend),
    )


def multichannel(
    filters: int = 4,
    hidden: int = 32,
    classes: int = 10,
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 002 (S2): every layer of its library, from several channels to several classes.

    conv 3x3 -> ReLU -> max pool 2x2 -> flatten -> dense -> tanh -> dense -> softmax, categorical
    cross-entropy (the log loss for more than two classes).

    Parameters
    ----------
    filters : int
        Of the convolution.
    hidden : int
        Units of the dense layer before the tanh.
    classes : int
    input_shape : (C, H, W), optional
        The lecture's is (3, 8, 8) here.
    """
    return Sequential(
        [
            Conv2D(filters, 3),
            ReLU(),
            MaxPool2D(2),
            Flatten(),
            Dense(hidden),
            Tanh(),
            Dense(classes),
            Softmax(),
        ],
        loss="categorical_cross_entropy",
        name="multichannel",
        default_input_shape=(3, 8, 8),
        **_options(input_shape, seed, dtype, backend),
    )


def sigmoid_cnn(
    filters: int = 1,
    kernel_size: int = 3,
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 003 (S3): a convolution without bias, sigmoids, half the squared error.

    conv -> sigmoid -> flatten -> dense -> sigmoid.

    Parameters
    ----------
    filters, kernel_size : int
        Of the convolution.
    input_shape : (C, H, W), optional
        The lecture's is (1, 8, 8) here.
    """
    return Sequential(
        [Conv2D(filters, kernel_size, use_bias=False), Sigmoid(), Flatten(), Dense(1), Sigmoid()],
        loss="half_squared_error",
        name="sigmoid_cnn",
        default_input_shape=(1, 8, 8),
        **_options(input_shape, seed, dtype, backend),
    )


def two_block(
    filters: int = 1,
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 004's CNN (S4): two blocks of convolution (padding same, linear) and pooling.

    Conv2D(1, (3,3), same) -> MaxPool -> Conv2D(1, (3,3), same) -> MaxPool -> Flatten ->
    Dense(1, sigmoid), binary cross-entropy.

    Parameters
    ----------
    filters : int
        Of each convolution; the lecture draws 1.
    input_shape : (C, H, W), optional
        The lecture's is (1, 28, 28) here.
    """
    return Sequential(
        [
            Conv2D(filters, (3, 3), padding="same"),
            MaxPool2D((2, 2)),
            Conv2D(filters, (3, 3), padding="same"),
            MaxPool2D((2, 2)),
            Flatten(),
            Dense(1, activation="sigmoid"),
        ],
        loss="binary_cross_entropy",
        name="two_block",
        default_input_shape=(1, 28, 28),
        **_options(input_shape, seed, dtype, backend),
    )


def dense_network(
    hidden: int = 16,
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 004's plain network (S4), Dense -> Dense, that the CNN is compared with.

    flatten -> Dense(hidden, sigmoid) -> Dense(1, sigmoid), binary cross-entropy.

    Parameters
    ----------
    hidden : int
        Units of the first dense layer.
    input_shape : (C, H, W), optional
        (1, 28, 28) as for `two_block`.
    """
    return Sequential(
        [Flatten(), Dense(hidden, activation="sigmoid"), Dense(1, activation="sigmoid")],
        loss="binary_cross_entropy",
        name="dense_network",
        default_input_shape=(1, 28, 28),
        **_options(input_shape, seed, dtype, backend),
    )


def keras_counts(
    classes: int = 10,
    *,
    input_shape: Shape | None = None,
    seed: Seed = 0,
    dtype: npt.DTypeLike = "float32",
    backend: str = "auto",
) -> Sequential:
    """Document 004's layers (S4) whose parameters it counts: 320 and 18,496.

    Conv2D(32, 3x3, relu) -> Conv2D(64, 3x3, relu) -> MaxPool -> Flatten ->
    Dense(classes, softmax), categorical cross-entropy. On one channel they have
    32*(3*3*1) + 32 = 320 and 64*32*3*3 + 64 = 18496 parameters.

    Parameters
    ----------
    classes : int
    input_shape : (C, H, W), optional
        The lecture's is (1, 28, 28) here.
    """
    return Sequential(
        [
            Conv2D(32, (3, 3), activation="relu"),
            Conv2D(64, (3, 3), activation="relu"),
            MaxPool2D((2, 2)),
            Flatten(),
            Dense(classes, activation="softmax"),
        ],
        loss="categorical_cross_entropy",
        name="keras_counts",
        default_input_shape=(1, 28, 28),
        **_options(input_shape, seed, dtype, backend),
    )


def _options(
    input_shape: Shape | None, seed: Seed, dtype: npt.DTypeLike, backend: str
) -> dict[str, Any]:
    return {"input_shape": input_shape, "seed": seed, "dtype": dtype, "backend": backend}
