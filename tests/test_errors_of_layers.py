"""The exact text of every error of layers, networks and their training, one row each.

A row is read as a story: what the user wrote, and what the library answers: what was given, what
is expected, and the fix where there is one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fastcnn import networks
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Softmax
from fastcnn.layers.activations import activation_layer
from fastcnn.training import SGD, Adam, Sequential
from tests.test_errors import Mistake, zeros

X = zeros(4, 1, 6, 6)
Y = np.array([0, 1, 0, 1])
GRAY = zeros(4, 6, 6)


def network(**options: Any) -> Sequential:
    """The lecture's smallest CNN, built for images of 6x6, on the reference: nothing compiles."""
    return networks.fifteen_parameter(input_shape=(1, 6, 6), backend="reference", **options)


def classifier() -> Sequential:
    """Three classes from rows of four features."""
    return Sequential(
        [Dense(3, activation="softmax")],
        loss="categorical_cross_entropy",
        input_shape=(4,),
        backend="reference",
    )


def run(layer: Any) -> Any:
    """The layer, after a forward pass on X."""
    layer.configure(backend="reference")
    layer.forward(X)
    return layer


ARGUMENTS = {
    "type": Mistake(
        lambda: Dense(2, dtype="float16"),
        TypeError,
        "dtype must be 'float32' or 'float64', but got 'float16'",
    ),
    "no type": Mistake(
        lambda: Dense(2, dtype=None),
        TypeError,
        "dtype must be 'float32' or 'float64', but got None",
    ),
    "channels last": Mistake(
        lambda: Conv2D(2, 3, data_format="channels_last"),
        ValueError,
        "data_format='channels_last' is not supported: images are (N, C, H, W) here; "
        "transpose yours with x.transpose(0, 3, 1, 2) and leave data_format out",
    ),
    "data format": Mistake(
        lambda: MaxPool2D(2, data_format="NHWC"),
        ValueError,
        "data_format must be 'channels_first' or None, but got 'NHWC'",
    ),
    "padding": Mistake(
        lambda: Conv2D(2, 3, padding="SAME"),
        ValueError,
        "Invalid padding string: 'SAME', should be one of 'valid', 'same', 'same_upper', "
        "'same_lower'",
    ),
    "padding of a pooling": Mistake(
        lambda: MaxPool2D(2, padding=(1, 2, 3)),
        ValueError,
        "padding must be an int or 2 ints or 4 ints, but got (1, 2, 3)",
    ),
    "activation": Mistake(
        lambda: Conv2D(2, 3, activation="ReLu"),
        ValueError,
        "activation must be one of 'relu', 'sigmoid', 'softmax', 'tanh', 'linear', but got "
        "'ReLu'; did you mean 'relu'?",
    ),
    "activation that is a layer": Mistake(
        lambda: Dense(2, activation=3),
        ValueError,
        "activation must be one of 'relu', 'sigmoid', 'softmax', 'tanh', 'linear', but got 3",
    ),
    "activation by itself": Mistake(
        lambda: activation_layer("gelu", -1),
        ValueError,
        "activation must be one of 'relu', 'sigmoid', 'softmax', 'tanh', 'linear', but got 'gelu'",
    ),
    "initializer": Mistake(
        lambda: Dense(2, kernel_initializer="glorot"),
        ValueError,
        "kernel_initializer must be one of 'zeros', 'ones', 'glorot_uniform', "
        "'glorot_normal', 'he_uniform', 'he_normal', but got 'glorot'",
    ),
    "initializer of the bias": Mistake(
        lambda: Dense(2, bias_initializer=0),
        TypeError,
        "bias_initializer must be a name or a function of (shape, rng), but got 0",
    ),
    "initializer of another shape": Mistake(
        lambda: Dense(2, kernel_initializer=lambda shape, rng: [1.0]).build((None, 4)),
        ValueError,
        "an initializer returned shape (1,) instead of (2, 4)",
    ),
    "backend": Mistake(
        lambda: ReLU(backend="numpy"),
        ValueError,
        "backend must be one of 'auto', 'cpu', 'cuda', 'reference', but got 'numpy'",
    ),
    "backend misspelt": Mistake(
        lambda: ReLU(backend="references"),
        ValueError,
        "backend must be one of 'auto', 'cpu', 'cuda', 'reference', but got 'references'; did you "
        "mean 'reference'?",
    ),
    "bias of a convolution": Mistake(
        lambda: Conv2D(2, 3, bias="per_pixels"),
        ValueError,
        "bias must be one of 'per_filter', 'per_pixel', but got 'per_pixels'; did you mean "
        "'per_pixel'?",
    ),
    "bias of a dense layer": Mistake(
        lambda: Dense(2, bias=True),
        ValueError,
        "bias must be one of 'per_unit', 'shared', but got True",
    ),
    "filters": Mistake(lambda: Conv2D(0, 3), ValueError, "filters must be at least 1, but got 0"),
    "units": Mistake(lambda: Dense(2.5), TypeError, "units must be an int, but got 2.5"),
    "kernel size": Mistake(
        lambda: Conv2D(2, (3, 3, 3)),
        ValueError,
        "kernel_size must be an int or 2 ints, but got (3, 3, 3)",
    ),
    "pool size": Mistake(
        lambda: MaxPool2D("2"), TypeError, "pool_size must be an int or 2 ints, but got '2'"
    ),
    "strides": Mistake(
        lambda: Conv2D(2, 3, strides=0), ValueError, "strides must be at least 1, but got 0"
    ),
    "groups": Mistake(
        lambda: Conv2D(3, 3, groups=2).build((None, 4, 6, 6)),
        ValueError,
        "Given groups=2, expected weight to be divisible by 2 at dimension 0, but got weight "
        "of size [3, 2, 3, 3] instead",
    ),
}

PASSES = {
    "float64": Mistake(
        lambda: Conv2D(2, 3).forward(X.astype(np.float64)),
        TypeError,
        "Conv2D computes in float32, but x is float64: pass x.astype('float32'), or make it "
        "with dtype='float64'",
    ),
    "list of numbers": Mistake(
        lambda: Dense(2).forward([[1.0, 2.0]]),
        TypeError,
        "Dense computes in float32, but x is float64: pass np.asarray(x, 'float32'), or make "
        "it with dtype='float64'",
    ),
    "bytes": Mistake(
        lambda: Conv2D(2, 3).forward(X.astype(np.uint8)),
        TypeError,
        "Conv2D computes in float32, but x is uint8: pass x.astype('float32')",
    ),
    "image without channels": Mistake(
        lambda: Conv2D(2, 3).forward(GRAY[0]),
        ValueError,
        "Conv2D takes inputs of shape (N, C, H, W), but got (6, 6): C is 1 for grey images",
    ),
    "images for a dense layer": Mistake(
        lambda: Dense(2).forward(X),
        ValueError,
        "Dense takes inputs of shape (N, features), but got (4, 1, 6, 6): put Flatten() before it",
    ),
    "rows for a pooling": Mistake(
        lambda: MaxPool2D(2).forward(zeros(4, 6)),
        ValueError,
        "MaxPool2D takes inputs of shape (N, C, H, W), but got (4, 6): C is 1 for grey images",
    ),
    "number": Mistake(
        lambda: Flatten().forward(np.float32(1)),
        ValueError,
        "x must have a batch axis, (N, ...), but got a single number",
    ),
    "kernel larger than the image": Mistake(
        lambda: Conv2D(2, 7).forward(X),
        ValueError,
        "Calculated padded input size per channel: (6 x 6). Kernel size: (7 x 7). Kernel "
        "size can't be greater than actual input size",
    ),
    "other channels than built for": Mistake(
        lambda: run(Conv2D(2, 3)).forward(zeros(4, 3, 6, 6)),
        ValueError,
        "Given groups=1, weight of size [2, 1, 3, 3], expected input[4, 3, 6, 6] to have 1 "
        "channels, but got 3 channels instead",
    ),
    "built for others": Mistake(
        lambda: run(Conv2D(2, 3, bias="per_pixel")).build((None, 1, 8, 8)),
        ValueError,
        "Conv2D was built with a bias of shape (2, 4, 4); inputs of shape (None, 1, 8, 8) "
        "need (2, 6, 6): make a new layer for them",
    ),
    "unknown size": Mistake(
        lambda: Conv2D(2, 3).build((None, 1, None, 6)),
        ValueError,
        "only the batch axis may be None, but got (None, 1, None, 6)",
    ),
    "backward first": Mistake(
        lambda: Conv2D(2, 3).backward(X),
        RuntimeError,
        "Conv2D.backward needs a forward pass before it: call forward(x) first (predict and "
        "forward(x, training=False) keep nothing for backward)",
    ),
    "backward after inference": Mistake(
        lambda: _inferred().backward(X),
        RuntimeError,
        "Conv2D.backward needs a forward pass before it: call forward(x) first (predict and "
        "forward(x, training=False) keep nothing for backward)",
    ),
    "mask first": Mistake(
        lambda: MaxPool2D(2).mask_to_input(),
        RuntimeError,
        "MaxPool2D.backward needs a forward pass before it: call forward(x) first (predict "
        "and forward(x, training=False) keep nothing for backward)",
    ),
    "gradient of another shape": Mistake(
        lambda: run(Conv2D(2, 3)).backward(zeros(4, 2, 4, 5)),
        ValueError,
        "dy must have shape (4, 2, 4, 4) (for an input of shape (4, 1, 6, 6)), but got (4, "
        "2, 4, 5)",
    ),
    "gradient of another type": Mistake(
        lambda: run(ReLU()).backward(X.astype(np.float64)),
        TypeError,
        "ReLU computes in float32, but dy is float64: pass dy.astype('float32'), or make it "
        "with dtype='float64'",
    ),
    "gradient behind an activation": Mistake(
        lambda: run(Conv2D(2, 3, activation="relu")).backward(zeros(4, 2, 5, 4)),
        ValueError,
        "dy must have shape (4, 2, 4, 4) (like x), but got (4, 2, 5, 4)",
    ),
    "gradient of flat rows": Mistake(
        lambda: run(Flatten()).backward(zeros(4, 35)),
        ValueError,
        "dy must have shape (4, 36) (for an input of shape (4, 1, 6, 6)), but got (4, 35)",
    ),
    "gradient of a dense layer": Mistake(
        lambda: _dense().backward(zeros(4, 3)),
        ValueError,
        "expected dy to have 2 features, but got 3 (shape (4, 3))",
    ),
    "gradient of a shared bias": Mistake(
        lambda: _dense(bias="shared").backward(zeros(4, 3)),
        ValueError,
        "expected dy to have 2 features, but got 3 (shape (4, 3))",
    ),
    "gradient of a softmax": Mistake(
        lambda: run(Softmax()).backward(zeros(4, 1, 6, 5)),
        ValueError,
        "dy must have shape (4, 1, 6, 6) (like y), but got (4, 1, 6, 5)",
    ),
    "axis of a softmax": Mistake(
        lambda: run(Softmax(axis=4)),
        np.exceptions.AxisError,
        "axis 4 is out of bounds for array of dimension 4",
    ),
    "other type after building": Mistake(
        lambda: run(Conv2D(2, 3)).configure(dtype="float64"),
        ValueError,
        "Conv2D is built in float32 and cannot become float64",
    ),
    "parameter of another shape": Mistake(
        lambda: run(Conv2D(2, 3)).parameters.update(bias=zeros(3)),
        ValueError,
        "parameter 'bias' of Conv2D: expected shape (2,), but got (3,)",
    ),
    "parameter of another type": Mistake(
        lambda: run(Conv2D(2, 3)).parameters.update(bias=np.zeros(2)),
        TypeError,
        "parameter 'bias' of Conv2D: expected type float32, but got float64; convert it: "
        ".astype('float32')",
    ),
    "parameter of another name": Mistake(
        lambda: run(Conv2D(2, 3)).parameters["kernel"],
        KeyError,
        "\"no parameter 'kernel': Conv2D has weight, bias\"",
    ),
    "parameter before building": Mistake(
        lambda: Dense(2).parameters["weight"],
        KeyError,
        "\"no parameter 'weight': Dense has none (those that depend on the input exist from "
        'build(input_shape) or the first forward)"',
    ),
    "deleted parameter": Mistake(
        lambda: run(Conv2D(2, 3)).parameters.pop("bias"),
        TypeError,
        "a layer's parameters cannot be deleted",
    ),
}

NETWORKS = {
    "no layers": Mistake(lambda: Sequential([]), ValueError, "a network needs at least one layer"),
    "one layer": Mistake(
        lambda: Sequential(ReLU()),
        TypeError,
        "layers must be a list of Layer objects, but got ReLU()",
    ),
    "name of a layer": Mistake(
        lambda: Sequential(["relu"]), TypeError, "layers must be Layer objects, but got 'relu'"
    ),
    "class of a layer": Mistake(
        lambda: Sequential([ReLU]),
        TypeError,
        "layers must be Layer objects, but got <class 'fastcnn.layers.relu.ReLU'>: call it, ReLU()",
    ),
    "a layer twice": Mistake(
        lambda: Sequential([_RELU, Dense(2), _RELU]),
        ValueError,
        "layers 0 and 2 are the same object, which stands in the network twice (ReLU()): "
        "make a layer for each place",
    ),
    "layers of two types": Mistake(
        lambda: Sequential([Dense(2), Dense(2, dtype="float64")]),
        TypeError,
        "layers of different types (Dense float32, Dense float64): pass dtype= to Sequential",
    ),
    "loss": Mistake(
        lambda: Sequential([Dense(2)], loss="binary_crossentropy"),
        ValueError,
        "loss must be one of 'binary_cross_entropy', 'categorical_cross_entropy', "
        "'half_squared_error', but got 'binary_crossentropy'; did you mean "
        "'binary_cross_entropy'?",
    ),
    "loss unlike any": Mistake(
        lambda: Sequential([Dense(2)], loss="mse"),
        ValueError,
        "loss must be one of 'binary_cross_entropy', 'categorical_cross_entropy', "
        "'half_squared_error', but got 'mse'",
    ),
    "backend": Mistake(
        lambda: networks.two_block(backend="opencl"),
        ValueError,
        "backend must be one of 'auto', 'cpu', 'cuda', 'reference', but got 'opencl'",
    ),
    "type": Mistake(
        lambda: networks.two_block(dtype=int),
        TypeError,
        "dtype must be 'float32' or 'float64', but got <class 'int'>",
    ),
    "input shape": Mistake(
        lambda: networks.two_block(input_shape=784),
        TypeError,
        "input_shape must be a tuple of ints, but got 784",
    ),
    "input shape with a batch": Mistake(
        lambda: networks.two_block(input_shape=(None, 1, 28, 28)),
        TypeError,
        "input_shape must be a tuple of ints, but got (None, 1, 28, 28)",
    ),
    "input shape without channels": Mistake(
        lambda: networks.two_block(input_shape=(28, 28)),
        ValueError,
        "Conv2D takes inputs of shape (N, C, H, W), but got (None, 28, 28): C is 1 for grey images",
    ),
    "input smaller than a window": Mistake(
        lambda: networks.two_block(input_shape=(1, 1, 1)),
        ValueError,
        "Given input size: (1x1x1). Window (2 x 2) with padding (0, 0, 0, 0): output size is "
        "too small",
    ),
    "layer that does not fit": Mistake(
        lambda: Sequential([Conv2D(2, 3), Dense(2)], input_shape=(1, 6, 6)),
        ValueError,
        "Dense takes inputs of shape (N, features), but got (None, 2, 4, 4): put Flatten() "
        "before it",
    ),
    "not built": Mistake(
        lambda: Sequential([Dense(2)]).summary(),
        ValueError,
        "This model has not yet been built. Build the model first by calling `build()` or by "
        "calling the model on a batch of data, or pass input_shape= to Sequential",
    ),
    "float64": Mistake(
        lambda: network().predict(X.astype(np.float64)),
        TypeError,
        "fifteen_parameter computes in float32, but x is float64: pass x.astype('float32'), "
        "or make it with dtype='float64'",
    ),
    "float64 in a network without a name": Mistake(
        lambda: classifier().predict(np.zeros((4, 4))),
        TypeError,
        "Sequential computes in float32, but x is float64: pass x.astype('float32'), or make "
        "it with dtype='float64'",
    ),
    "three dimensions": Mistake(
        lambda: network().predict(GRAY),
        ValueError,
        "x of shape (4, 6, 6) is one image without a batch axis: pass x[None]; or grey "
        "images without a channel axis: pass x[:, None]",
    ),
    "one row": Mistake(
        lambda: classifier().predict(zeros(4)),
        ValueError,
        "x of shape (4,) has no batch axis: pass x[None] for one row",
    ),
    "two dimensions": Mistake(
        lambda: network().predict(GRAY[0]),
        ValueError,
        "x must have 4 dimensions, but has shape (6, 6)",
    ),
    "another size": Mistake(
        lambda: network().predict(zeros(4, 1, 8, 8)),
        ValueError,
        "the network was built for inputs of shape (1, 6, 6), but x has (1, 8, 8) (Dense was "
        "built with a weight of shape (1, 4); inputs of shape (None, 9) need (1, 9): make a "
        "new layer for them): pass input_shape=(1, 8, 8) when you make the network",
    ),
    "channels last": Mistake(
        lambda: network().predict(zeros(4, 6, 6, 1)),
        ValueError,
        "the network was built for inputs of shape (1, 6, 6), channels first, but x has (6, "
        "6, 1), channels last: pass x.transpose(0, 3, 1, 2)",
    ),
    "backward first": Mistake(
        lambda: network().backward(zeros(4, 1)),
        RuntimeError,
        "Sigmoid.backward needs a forward pass before it: call forward(x) first (predict and "
        "forward(x, training=False) keep nothing for backward)",
    ),
    "gradient of another shape": Mistake(
        lambda: _forwarded().backward(zeros(4)),
        ValueError,
        "dy must have shape (4, 1) (like y), but got (4,)",
    ),
    "states": Mistake(
        lambda: network().load_state_dict(
            {"0.weight": zeros(1, 1, 5, 5), "0.bias": np.zeros(1), "1.weight": zeros(1, 4)}
        ),
        ValueError,
        "the state does not fit this network: missing 4.weight; missing 4.bias; unexpected "
        "1.weight; 0.weight: expected shape (1, 1, 3, 3), but got (1, 1, 5, 5); 0.bias: "
        "expected type float32, but got float64; convert it: .astype('float32')",
    ),
}

TRAINING = {
    "no loss": Mistake(
        lambda: Sequential([Dense(1)], backend="reference").fit(zeros(4, 2), Y),
        ValueError,
        "the network has no loss: pass loss= to Sequential or to compile()",
    ),
    "optimizer": Mistake(
        lambda: network().fit(X, Y, optimizer="adm"),
        ValueError,
        "optimizer must be one of 'sgd', 'adam', but got 'adm'; did you mean 'adam'?",
    ),
    "optimizer that is a class": Mistake(
        lambda: network().compile(SGD),
        TypeError,
        "optimizer must be a name or an Optimizer, but got <class "
        "'fastcnn.training.optimizers.SGD'>: call it, SGD()",
    ),
    "loss": Mistake(
        lambda: network().compile(loss="hinge"),
        ValueError,
        "loss must be one of 'binary_cross_entropy', 'categorical_cross_entropy', "
        "'half_squared_error', but got 'hinge'",
    ),
    "learning rate": Mistake(
        lambda: SGD(-0.1), ValueError, "learning_rate must be from 0 to below inf, but got -0.1"
    ),
    "learning rate that is no number": Mistake(
        lambda: SGD("0.1"), TypeError, "learning_rate must be a number, but got '0.1'"
    ),
    "momentum": Mistake(
        lambda: SGD(momentum=1), ValueError, "momentum must be from 0 to below 1, but got 1"
    ),
    "nesterov": Mistake(
        lambda: SGD(nesterov=True), ValueError, "nesterov=True needs a momentum above 0"
    ),
    "beta": Mistake(
        lambda: Adam(beta_2=1.0), ValueError, "beta_2 must be from 0 to below 1, but got 1.0"
    ),
    "missing gradient": Mistake(
        lambda: SGD().step({"w": zeros(3), "b": zeros(1)}, {"w": zeros(3)}),
        ValueError,
        "no gradient for b; there are gradients for w",
    ),
    "parameters of another network": Mistake(
        lambda: _stepped().step({"w": zeros(4)}, {"w": zeros(4)}),
        ValueError,
        "this optimizer remembers 'w' as float32 of shape (3,), but now got float32 of shape "
        "(4,): make a new optimizer for other parameters",
    ),
    "backend of a step": Mistake(
        lambda: SGD().step({}, {}, backend="gpu"),
        ValueError,
        "backend must be one of 'auto', 'cpu', 'cuda', 'reference', but got 'gpu'",
    ),
    "lengths": Mistake(
        lambda: network().fit(X, Y[:3]),
        ValueError,
        "x and y must be equally long, but got shapes (4, 1, 6, 6) and (3,)",
    ),
    "no images": Mistake(
        lambda: network().fit(X[:0], Y[:0]), ValueError, "x holds no images: shape (0, 1, 6, 6)"
    ),
    "float64": Mistake(
        lambda: network().fit(X.astype(np.float64), Y),
        TypeError,
        "Sequential computes in float32, but x is float64: pass x.astype('float32'), or make "
        "it with dtype='float64'",
    ),
    "negative epochs": Mistake(
        lambda: network().fit(X, Y, epochs=-1), ValueError, "epochs must be at least 0, but got -1"
    ),
    "fractional epochs": Mistake(
        lambda: network().fit(X, Y, epochs=1.5), TypeError, "epochs must be an int, but got 1.5"
    ),
    "no batch": Mistake(
        lambda: network().fit(X, Y, batch_size=0),
        ValueError,
        "batch_size must be at least 1, but got 0",
    ),
    "fractional batch": Mistake(
        lambda: network().fit(X, Y, batch_size=0.5),
        TypeError,
        "batch_size must be an int or None, but got 0.5",
    ),
    "verbose": Mistake(
        lambda: network().fit(X, Y, verbose=3),
        ValueError,
        "verbose must be 'auto', 0, 1 or 2, but got 3",
    ),
    "validation fraction": Mistake(
        lambda: network().fit(X, Y, validation_data=0.2),
        TypeError,
        "validation_data must be a pair (x, y), but got float",
    ),
    "validation of three": Mistake(
        lambda: network().fit(X, Y, validation_data=(X, Y, Y)),
        TypeError,
        "validation_data must be a pair (x, y), but got tuple",
    ),
    "labels of other classes": Mistake(
        lambda: network().evaluate(X, [4, 9, 4, 9]),
        ValueError,
        "labels of the binary_cross_entropy must be from 0 to 1, but got 4; for two classes "
        "a and b use y == b",
    ),
    "labels that are words": Mistake(
        lambda: network().evaluate(X, ["a", "b", "a", "b"]),
        TypeError,
        "labels must be numbers or bools, but got <U1",
    ),
    "labels in pairs": Mistake(
        lambda: network().evaluate(X, zeros(4, 2)),
        ValueError,
        "expected z and y of one shape, but got (4, 1) against (4, 2)",
    ),
    "label beyond the classes": Mistake(
        lambda: classifier().evaluate(zeros(2, 4), [0, 3]),
        ValueError,
        "expected labels in 0..2, but got 3 (y[1])",
    ),
    "class numbers as floats": Mistake(
        lambda: classifier().evaluate(zeros(2, 4), [0.0, 1.0]),
        ValueError,
        "class numbers must be integers, but got float64: pass y.astype(int), or rows of one "
        "target per class",
    ),
    "targets of other classes": Mistake(
        lambda: classifier().evaluate(zeros(2, 4), np.eye(2)),
        ValueError,
        "expected z and y of one shape, but got (2, 3) against (2, 2)",
    ),
}

_RELU = ReLU()


def _inferred() -> Conv2D:
    layer = run(Conv2D(2, 3))
    layer.forward(X, training=False)
    return layer


def _dense(**options: Any) -> Dense:
    layer = Dense(2, backend="reference", **options)
    layer.forward(zeros(4, 5))
    return layer


def _forwarded() -> Sequential:
    built = network()
    built.forward(X)
    return built


def _stepped() -> Adam:
    optimizer = Adam()
    optimizer.step({"w": zeros(3)}, {"w": zeros(3)}, backend="reference")
    return optimizer


ROOMS = {"arguments": ARGUMENTS, "passes": PASSES, "networks": NETWORKS, "training": TRAINING}


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
