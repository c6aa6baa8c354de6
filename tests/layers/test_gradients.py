"""Every layer's gradients against finite differences in float64, on both backends."""

from __future__ import annotations

import numpy as np
import pytest

from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh
from tests.finite_differences import numeric_gradient

IMAGES = (2, 4, 6, 5)
# A layer, made anew for each test, and the shape of its input.
CASES = {
    "Conv2D": (lambda: Conv2D(3, 3), IMAGES),
    "Conv2D strided same": (lambda: Conv2D(3, (3, 2), strides=(2, 1), padding="same"), IMAGES),
    "Conv2D four paddings": (lambda: Conv2D(2, 3, padding=(2, 0, 1, 3)), IMAGES),
    "Conv2D grouped dilated": (lambda: Conv2D(4, 2, dilation_rate=2, groups=2), IMAGES),
    "Conv2D one image": (lambda: Conv2D(3, 3, activation="softmax"), IMAGES[1:]),
    "Conv2D per pixel": (lambda: Conv2D(2, 3, bias="per_pixel", bias_initializer="ones"), IMAGES),
    "Conv2D no bias": (lambda: Conv2D(2, 3, use_bias=False), IMAGES),
    "Conv2D relu": (lambda: Conv2D(3, 3, activation="relu"), IMAGES),
    "Conv2D softmax": (lambda: Conv2D(3, 3, activation="softmax"), IMAGES),
    "MaxPool2D": (lambda: MaxPool2D(), IMAGES),
    "MaxPool2D overlapping": (lambda: MaxPool2D(3, strides=1, padding="same"), IMAGES),
    "MaxPool2D ceil dilated": (lambda: MaxPool2D(2, 3, dilation=2, ceil_mode=True), IMAGES),
    "Dense": (lambda: Dense(3), (4, 5)),
    "Dense one row": (lambda: Dense(3), (5,)),
    "Dense shared": (lambda: Dense(3, bias="shared", bias_initializer="ones"), (4, 5)),
    "Dense no bias": (lambda: Dense(3, use_bias=False), (4, 5)),
    "Dense tanh": (lambda: Dense(3, activation="tanh"), (4, 5)),
    "Dense softmax": (lambda: Dense(3, activation="softmax"), (4, 5)),
    "Dense sigmoid": (lambda: Dense(3, activation="sigmoid"), (4, 5)),
    "Flatten": (lambda: Flatten(), IMAGES),
    "ReLU": (lambda: ReLU(), IMAGES),
    "Sigmoid": (lambda: Sigmoid(), IMAGES),
    "Tanh": (lambda: Tanh(), IMAGES),
    "Softmax": (lambda: Softmax(), (4, 5)),
    "Softmax over channels": (lambda: Softmax(axis=1), IMAGES),
}


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("case", CASES)
def test_gradients(case, backend):
    make, shape = CASES[case]
    layer = make()
    layer.configure(dtype="float64", backend=backend)
    layer.seed = 3
    rng = np.random.default_rng(5)
    x = rng.standard_normal(shape)
    y = layer.forward(x)
    assert y.dtype == np.float64
    dy = rng.standard_normal(y.shape)

    def loss_of(x):
        return float(np.sum(dy * layer.forward(x, training=False)))

    dx = layer.backward(dy)
    gradients = {name: g.copy() for name, g in layer.gradients.items()}
    np.testing.assert_allclose(dx, numeric_gradient(loss_of, x), rtol=1e-6, atol=1e-8)
    assert set(gradients) == set(layer.parameters)
    for name, w in layer.parameters.items():
        start = w.copy()

        def loss_with(values, name=name):
            layer.parameters[name] = values
            return loss_of(x)

        numeric = numeric_gradient(loss_with, start)
        layer.parameters[name] = start
        np.testing.assert_allclose(
            gradients[name], numeric, rtol=1e-6, atol=1e-8, err_msg=f"{case}: {name}"
        )


@pytest.mark.parametrize("case", CASES)
def test_output_shape_is_the_output_s_shape(case):
    make, shape = CASES[case]
    layer = make()
    layer.configure(backend="reference")
    y = layer.forward(np.zeros(shape, np.float32))
    batched = layer.input_rank is None or len(shape) == layer.input_rank
    given = shape if batched else (1, *shape)
    assert layer.output_shape(given) == (y.shape if batched else (1, *y.shape))
    assert layer.output_shape((None, *given[1:]))[0] is None


@pytest.mark.parametrize("case", CASES)
def test_without_the_input_gradient(case):
    make, shape = CASES[case]
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    full, short = make(), make()
    for layer in (full, short):
        layer.configure(backend="reference")
        layer.seed = 0
        dy = layer.forward(x)
    assert full.backward(dy).shape == x.shape
    assert short.backward(dy, input_grad=False) is None
    for name in full.gradients:
        np.testing.assert_array_equal(full.gradients[name], short.gradients[name])
