"""The exact text of every error of the public functions, one row each.

Where PyTorch has an error for the same mistake, the text begins with PyTorch's, which is what
people paste into a search engine. A text tells what was given, what is expected, and the fix where
there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn import reference
from fastcnn.kernels.cuda import target

X = np.zeros((2, 4, 8, 7), np.float32)
W = np.zeros((6, 4, 3, 3), np.float32)
DY = np.zeros((2, 6, 6, 5), np.float32)
MASK = np.zeros((2, 4, 4, 3), np.uint8)
ROWS = np.zeros((2, 5), np.float32)
PAIR = np.zeros((4, 1), np.float32)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


class Mistake(NamedTuple):
    """What is called, what it raises, and what the message says in full."""

    call: Callable[[], Any]
    error: type[Exception]
    text: str


TYPES = {
    "no array": Mistake(
        lambda: F.relu("x"),
        TypeError,
        "x must be a NumPy array of float32 or float64, but got str",
    ),
    "integers": Mistake(
        lambda: F.conv2d(X.astype(int), W),
        TypeError,
        "x must be float32 or float64, but got int64; convert it: x.astype(np.float32)",
    ),
    "half precision": Mistake(
        lambda: F.conv2d(X, W.astype(np.float16)),
        TypeError,
        "w must be float32 or float64, but got float16; convert it: w.astype(np.float32)",
    ),
    "complex": Mistake(
        lambda: F.sigmoid(X.astype(np.complex64)),
        TypeError,
        "x must be float32 or float64, but got complex64",
    ),
    "mixed types": Mistake(
        lambda: F.conv2d(X, W.astype(np.float64)),
        TypeError,
        "mixed types: w is float64, but the arrays before it are float32; "
        "convert one of them, for example w.astype(np.float32)",
    ),
    "masked array": Mistake(
        lambda: F.relu(np.ma.masked_array(X, X > 0)),
        TypeError,
        "x is a masked array, whose mask would be ignored; fill it first: x.filled(0)",
    ),
    "mask of another type": Mistake(
        lambda: F.max_pool2d_grad(zeros(2, 4, 4, 3), MASK.astype(int), X.shape, 2),
        TypeError,
        "mask must be uint8 or int32, but got int64",
    ),
    "mask of a large window": Mistake(
        lambda: F.max_pool2d_grad(zeros(2, 4, 4, 3), MASK.astype(np.int32), X.shape, 2),
        TypeError,
        "mask must be uint8 for a window of 2 x 2, but got int32",
    ),
}

CONVOLUTIONS = {
    "rank": Mistake(
        lambda: F.conv2d(X[0, 0], W),
        ValueError,
        "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [8, 7]",
    ),
    "rank of weights": Mistake(
        lambda: F.conv2d(X, W[0]),
        ValueError,
        "w must be 4-D, but got 3-D of shape (4, 3, 3)",
    ),
    "channels": Mistake(
        lambda: F.conv2d(zeros(2, 5, 8, 7), W),
        ValueError,
        "Given groups=1, weight of size [6, 4, 3, 3], expected input[2, 5, 8, 7] to have "
        "4 channels, but got 5 channels instead",
    ),
    "channels of groups": Mistake(
        lambda: F.conv2d(X, W, groups=2),
        ValueError,
        "Given groups=2, weight of size [6, 4, 3, 3], expected input[2, 4, 8, 7] to have "
        "8 channels, but got 4 channels instead",
    ),
    "groups and filters": Mistake(
        lambda: F.conv2d(X, W[:, :1], groups=4),
        ValueError,
        "Given groups=4, expected weight to be divisible by 4 at dimension 0, but got weight of "
        "size [6, 1, 3, 3] instead",
    ),
    "bias": Mistake(
        lambda: F.conv2d(X, W, zeros(5)),
        ValueError,
        "Given weight of size [6, 4, 3, 3], expected bias to be 1-dimensional with 6 elements, "
        "but got bias of size [5] instead; one bias per output pixel has size [6, 6, 5]",
    ),
    "kernel larger than the input": Mistake(
        lambda: F.conv2d(X, W, padding=(0, 1), dilation=(4, 1)),
        ValueError,
        "Calculated padded input size per channel: (8 x 9). Kernel size: (9 x 3). Kernel size "
        "can't be greater than actual input size",
    ),
    "empty kernel": Mistake(
        lambda: F.conv2d(X, zeros(6, 4, 0, 3)),
        ValueError,
        "weight of size [6, 4, 0, 3] must not have a zero size",
    ),
    "padding string": Mistake(
        lambda: F.conv2d(X, W, padding="foo"),
        ValueError,
        "Invalid padding string: 'foo', should be one of 'valid', 'same', 'same_upper', "
        "'same_lower'",
    ),
    "same padding with a stride": Mistake(
        lambda: F.conv2d(X, W, padding="same", stride=2),
        ValueError,
        "padding='same' is not supported for strided convolutions and pooling; 'same_upper' is "
        "TensorFlow's and Keras's rule for them",
    ),
    "negative padding": Mistake(
        lambda: F.conv2d(X, W, padding=(0, -1)),
        ValueError,
        "padding must be at least 0, but got (0, -1)",
    ),
    "three paddings": Mistake(
        lambda: F.conv2d(X, W, padding=(1, 1, 1)),
        ValueError,
        "padding must be an int or 2 ints or 4 ints, but got (1, 1, 1)",
    ),
    "fractional stride": Mistake(
        lambda: F.conv2d(X, W, stride=1.0),
        TypeError,
        "stride must be an int or 2 ints, but got 1.0",
    ),
    "boolean stride": Mistake(
        lambda: F.conv2d(X, W, stride=(True, 1)),
        TypeError,
        "stride must be an int or 2 ints, but got (True, 1)",
    ),
    "zero stride": Mistake(
        lambda: F.conv2d(X, W, stride=0),
        ValueError,
        "stride must be at least 1, but got 0",
    ),
    "zero dilation": Mistake(
        lambda: F.conv2d(X, W, dilation=(1, 0)),
        ValueError,
        "dilation must be at least 1, but got (1, 0)",
    ),
    "no groups": Mistake(
        lambda: F.conv2d(X, W, groups=0),
        ValueError,
        "groups must be at least 1, but got 0",
    ),
    "fractional groups": Mistake(
        lambda: F.conv2d(X, W, groups=1.0),
        TypeError,
        "groups must be an int, but got 1.0",
    ),
    "gradient of another shape": Mistake(
        lambda: F.conv2d_input_grad(DY, W, (2, 4, 9, 7)),
        ValueError,
        "dy must have shape (2, 6, 7, 5) (the output's shape of this convolution), but got "
        "(2, 6, 6, 5)",
    ),
    "gradient of another rank": Mistake(
        lambda: F.conv2d_weight_grad(X, DY[0], W.shape),
        ValueError,
        "dy must be 4-D, but got 3-D of shape (6, 6, 5)",
    ),
    "input shape of another rank": Mistake(
        lambda: F.conv2d_input_grad(DY, W, (4, 8, 7)),
        ValueError,
        "input_shape must have 4 dimensions, but got [4, 8, 7]",
    ),
    "input shape that is none": Mistake(
        lambda: F.conv2d_input_grad(DY, W, 7),
        TypeError,
        "input_shape must be a tuple of ints, but got 7",
    ),
    "negative input shape": Mistake(
        lambda: F.conv2d_input_grad(DY, W, (2, 4, -8, 7)),
        ValueError,
        "input_shape must not have negative sizes, but got [2, 4, -8, 7]",
    ),
    "weight shape of another rank": Mistake(
        lambda: F.conv2d_weight_grad(X, DY, (6, 4, 3)),
        ValueError,
        "weight_shape must have 4 dimensions, but got [6, 4, 3]",
    ),
    "algorithm that is no string": Mistake(
        lambda: F.conv2d(X, W, algorithm=None),
        TypeError,
        "algorithm must be a string, but got None",
    ),
}

POOLING = {
    "padding wider than the window": Mistake(
        lambda: F.max_pool2d(X, 2, padding=(2, 0)),
        ValueError,
        "pad should be smaller than the effective window, (2 x 2), but got padding (top, bottom, "
        "left, right) = (2, 2, 0, 0): a window would lie wholly in padding",
    ),
    "rank": Mistake(
        lambda: F.max_pool2d(X[0, 0], 2),
        ValueError,
        "Expected 3D (unbatched) or 4D (batched) input to max_pool2d, but got input of size: "
        "[8, 7]",
    ),
    "same padding with a stride": Mistake(
        lambda: F.max_pool2d(X, 2, padding="same"),
        ValueError,
        "padding='same' is not supported for strided convolutions and pooling; 'same_upper' is "
        "TensorFlow's and Keras's rule for them",
    ),
    "window larger than the input": Mistake(
        lambda: F.max_pool2d(X, 9),
        ValueError,
        "Given input size: (4x8x7). Window (9 x 9) with padding (0, 0, 0, 0): output size is too "
        "small",
    ),
    "window wholly in padding": Mistake(
        lambda: F.max_pool2d(zeros(1, 1, 1, 8), (2, 1), padding=(1, 1, 0, 0), dilation=(3, 1)),
        ValueError,
        "Given input size: (1x1x8). Window (4 x 1) with padding (1, 1, 0, 0): output size is too "
        "small",
    ),
    "dilated window that steps over the input": Mistake(
        lambda: F.max_pool2d(zeros(1, 1, 1, 8), (2, 1), padding=(1, 2, 0, 0), dilation=(3, 1)),
        ValueError,
        "Given input size: (1x1x8), kernel_size (2, 1), stride (2, 1), padding (1, 2, 0, 0), "
        "dilation (3, 1): window 0 along height lies wholly in padding",
    ),
    "window of more cells than a mask can number": Mistake(
        lambda: F.max_pool2d(X, 65536, padding=32768),
        ValueError,
        "kernel_size (65536, 65536) has more cells than an int32 mask can number",
    ),
    "three numbers for a window": Mistake(
        lambda: F.max_pool2d(X, (2, 2, 2)),
        ValueError,
        "kernel_size must be an int or 2 ints, but got (2, 2, 2)",
    ),
    "no window": Mistake(
        lambda: F.max_pool2d(X, None),
        TypeError,
        "kernel_size must be an int or 2 ints, but got None",
    ),
    "mask of another shape": Mistake(
        lambda: F.max_pool2d_grad(zeros(2, 4, 4, 3), MASK[:, :, :3], X.shape, 2),
        ValueError,
        "mask must have shape (2, 4, 4, 3) (the output's shape of this pooling), but got "
        "(2, 4, 3, 3)",
    ),
    "gradient of another shape": Mistake(
        lambda: F.max_pool2d_grad(zeros(2, 4, 4, 2), MASK, X.shape, 2),
        ValueError,
        "dy must have shape (2, 4, 4, 3) (the output's shape of this pooling), but got "
        "(2, 4, 4, 2)",
    ),
    "mask of other numbers": Mistake(
        lambda: F.max_pool2d_grad(zeros(2, 4, 4, 3), MASK + np.uint8(4), X.shape, 2),
        ValueError,
        "mask has 96 entries that name no cell of the input: each must be r*2 + s of a cell "
        "inside it, 0 to 3, as max_pool2d(..., return_mask=True) returns them for the same "
        "geometry",
    ),
    "mask of other numbers, drawn": Mistake(
        lambda: F.mask_to_input(MASK + np.uint8(9), X.shape, 2),
        ValueError,
        "mask has 96 entries that name no cell of the input: each must be r*2 + s of a cell "
        "inside it, 0 to 3, as max_pool2d(..., return_mask=True) returns them for the same "
        "geometry",
    ),
}

LAYERS = {
    "activation of another shape": Mistake(
        lambda: F.relu_grad(ROWS, ROWS[:1]),
        ValueError,
        "dy must have shape (1, 5) (the shape of x), but got (2, 5)",
    ),
    "derivative that is no number": Mistake(
        lambda: F.relu_grad(ROWS, ROWS, at_zero="0"),
        TypeError,
        "at_zero must be a number, but got '0'",
    ),
    "axes": Mistake(
        lambda: F.softmax(ROWS, axis=(0,)),
        TypeError,
        "axis must be an int, but got (0,)",
    ),
    "axis that is none": Mistake(
        lambda: F.softmax(ROWS, axis=2),
        np.exceptions.AxisError,
        "axis 2 is out of bounds for array of dimension 2",
    ),
    "flattening a number": Mistake(
        lambda: F.flatten(np.float32(1)),
        ValueError,
        "x must have a batch axis, (N, ...), but got a single number",
    ),
    "dense on images": Mistake(
        lambda: F.dense(X, zeros(3, 5)),
        ValueError,
        "x must be (N, features) or (features,), but got shape (2, 4, 8, 7); use flatten first",
    ),
    "features": Mistake(
        lambda: F.dense(ROWS, zeros(3, 4)),
        ValueError,
        "x must have 4 features for w (out, in) of shape (3, 4), but got shape (2, 5)",
    ),
    "dense bias": Mistake(
        lambda: F.dense(ROWS, zeros(3, 5), zeros(5)),
        ValueError,
        "b must have shape (3,) (one bias per output of w), but got (5,)",
    ),
    "images of a dense gradient": Mistake(
        lambda: F.dense_weight_grad(ROWS, zeros(3, 3)),
        ValueError,
        "x and dy must have equally many images, but got shapes (2, 5) and (3, 3)",
    ),
}

LOSSES = {
    "column against row": Mistake(
        lambda: F.binary_cross_entropy(PAIR, PAIR[:, 0]),
        ValueError,
        "p and y must have the same shape, but got (4, 1) against (4,): use y.reshape(4, 1) or "
        "y[:, None]",
    ),
    "row against column": Mistake(
        lambda: F.binary_cross_entropy_with_logits(PAIR[:, 0], PAIR),
        ValueError,
        "z and y must have the same shape, but got (4,) against (4, 1): use y.reshape(4)",
    ),
    "other shapes": Mistake(
        lambda: F.half_squared_error(zeros(4, 2), zeros(3, 2)),
        ValueError,
        "p and y must have the same shape, but got (4, 2) against (3, 2)",
    ),
    "reduction": Mistake(
        lambda: F.half_squared_error(PAIR, PAIR, "avg"),
        ValueError,
        "'avg' is not a valid value for reduction: must be 'mean', 'sum' or 'none'",
    ),
    "no batch": Mistake(
        lambda: F.half_squared_error(np.float32(1), np.float32(1)),
        ValueError,
        "p must have a batch axis, (N, ...), but got a single number",
    ),
    "label beyond the classes": Mistake(
        lambda: F.categorical_cross_entropy(zeros(3, 4), np.array([0, 4, 1])),
        ValueError,
        "labels must be in 0..3, but got 4 (y[1])",
    ),
    "labels of another shape": Mistake(
        lambda: F.categorical_cross_entropy_with_logits(zeros(3, 4), np.zeros((3, 4), int)),
        ValueError,
        "integer labels y must have shape (3,) for z of shape (3, 4), but got (3, 4); one-hot "
        "targets must be float32 like z",
    ),
    "no classes": Mistake(
        lambda: F.categorical_cross_entropy(zeros(3, 0), np.zeros(3, int)),
        ValueError,
        "p must have one class or more, but got shape (3, 0)",
    ),
    "rank": Mistake(
        lambda: F.categorical_cross_entropy(zeros(3), np.zeros(3, int)),
        ValueError,
        "p must be 2-D, but got 1-D of shape (3,)",
    ),
}

UPDATES = {
    "shape": Mistake(
        lambda: F.sgd_step(zeros(3), zeros(4), 0.1),
        ValueError,
        "dw must have shape (3,) (the shape of w), but got (4,)",
    ),
    "memory of another shape": Mistake(
        lambda: F.momentum_step(zeros(3), zeros(3), zeros(4), 0.1),
        ValueError,
        "velocity must have shape (3,) (the shape of w), but got (4,)",
    ),
    "list": Mistake(
        lambda: F.sgd_step([1.0], zeros(1), 0.1),
        TypeError,
        "w must be a NumPy array, but got list",
    ),
    "read-only": Mistake(
        lambda: F.sgd_step(np.broadcast_to(np.float32(1), 3), zeros(3), 0.1),
        ValueError,
        "w is read-only: pass a copy, w.copy()",
    ),
    "shared memory": Mistake(
        lambda: F.momentum_step(ROWS, zeros(2, 5), ROWS, 0.1),
        ValueError,
        "w and velocity share memory, and both are changed: pass a copy, velocity.copy()",
    ),
    "learning rate": Mistake(
        lambda: F.sgd_step(zeros(3), zeros(3), "0.1"),
        TypeError,
        "learning_rate must be a number, but got '0.1'",
    ),
    "step": Mistake(
        lambda: F.adam_step(zeros(3), zeros(3), zeros(3), zeros(3), 0),
        ValueError,
        "step must be at least 1, but got 0",
    ),
    "decay": Mistake(
        lambda: F.adam_step(zeros(3), zeros(3), zeros(3), zeros(3), 1, beta_2=1.0),
        ValueError,
        "beta_2 must be at least 0 and below 1, but got 1.0",
    ),
}

SETTINGS = {
    "no threads": Mistake(
        lambda: fastcnn.set_num_threads(0),
        ValueError,
        "the number of threads must be at least 1, but got 0",
    ),
    "half a thread": Mistake(
        lambda: fastcnn.set_num_threads(1.5),
        TypeError,
        "the number of threads must be an int, but got 1.5",
    ),
    "boolean threads": Mistake(
        lambda: fastcnn.set_num_threads(True),
        TypeError,
        "the number of threads must be an int, but got True",
    ),
    "precision": Mistake(
        lambda: fastcnn.precision("double").__enter__(),
        ValueError,
        "precision must be one of ieee, float32, tf32, f16, bf16, but got 'double'",
    ),
    "unknown name": Mistake(
        lambda: fastcnn.conv3d,
        AttributeError,
        "module 'fastcnn' has no attribute 'conv3d'",
    ),
}

ROOMS = {
    "types": TYPES,
    "convolutions": CONVOLUTIONS,
    "pooling": POOLING,
    "layers": LAYERS,
    "losses": LOSSES,
    "updates": UPDATES,
    "settings": SETTINGS,
}


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(mistake, id=f"{room}: {name}")
        for room, mistakes in ROOMS.items()
        for name, mistake in mistakes.items()
    ],
)
def test_text(mistake):
    with pytest.raises(mistake.error) as caught:
        mistake.call()
    assert type(caught.value) is mistake.error
    assert str(caught.value) == mistake.text


def test_unknown_algorithm_lists_those_that_exist():
    with pytest.raises(ValueError, match=r"^conv2d has no algorithm 'fastest'; it has 'auto' and "):
        F.conv2d(X, W, algorithm="fastest")


def test_ragged_list():
    with pytest.raises(TypeError, match=r"^x \(list\) cannot be read as a NumPy array: "):
        F.relu([[1.0], [1.0, 2.0]])


def test_tensor_that_requires_grad():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
    with pytest.raises(TypeError) as caught:
        F.relu(torch.zeros(3, requires_grad=True))
    assert str(caught.value) == (
        "x is a tensor that requires grad, and fastcnn records no graph: pass x.detach()"
    )


def test_tensor_of_a_type_that_numpy_lacks():
    torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
    with pytest.raises(TypeError, match=r"^x \(Tensor\) cannot be read as a NumPy array: "):
        F.relu(torch.zeros(3, dtype=torch.bfloat16))


def test_array_on_a_gpu():
    """Where there is none; tests/cuda has what is installed without a driver, and the rest."""

    class OnGpu:
        __cuda_array_interface__ = {"shape": (3,)}  # noqa: RUF012

    if target.missing_device() is None:
        pytest.skip("there is a GPU here")
    with pytest.raises(fastcnn.CudaUnavailable, match="CUDA"):
        F.relu(OnGpu())


@pytest.mark.parametrize("name", ["conv2d", "max_pool2d"])
def test_a_number_that_was_wrong_before_is_wrong_after_a_right_call(name):
    """Geometries are kept by their numbers, among which 1 == 1.0 == True."""
    arguments = (X, W) if name == "conv2d" else (X, 2)
    for module in (F, reference):
        function = getattr(module, name)
        function(*arguments, stride=1)
        for wrong in (1.0, True, np.float32(1), (1.0, 1), [True, 1], "1", {1}, {1: 1}):
            with pytest.raises(TypeError):
                function(*arguments, stride=wrong)
        for right in ((1, 1), [1, 1], np.int64(1), np.uint8(1), (np.int8(1), 1)):
            assert function(*arguments, stride=right).shape == function(*arguments, stride=1).shape
