"""What all layers have in common: state, building, assignment, errors, repr."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from fastcnn import functional, reference
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh


def images(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def test_parameters_exist_from_build_or_the_first_forward():
    built, lazy = Conv2D(4, 3, seed=1), Conv2D(4, 3, seed=1)
    assert not built.built
    assert dict(built.parameters) == {}
    built.build((None, 2, 8, 8))
    lazy.forward(images(1, 2, 8, 8))
    assert {n: p.shape for n, p in built.parameters.items()} == {
        "weight": (4, 2, 3, 3),
        "bias": (4,),
    }
    for name in built.parameters:
        np.testing.assert_array_equal(built.parameters[name], lazy.parameters[name])
        assert built.parameters[name].dtype == np.float32
        assert not built.gradients[name].any()
    assert built.count_params() == 76


@pytest.mark.parametrize(
    ("layer", "shape", "count"),
    [
        (Conv2D(32, 3), (None, 1, 28, 28), 320),
        (Conv2D(64, 3), (None, 32, 26, 26), 18496),
        (Conv2D(5, 3, bias="per_pixel"), (None, 2, 6, 6), 5 * 2 * 9 + 5 * 4 * 4),
        (Conv2D(6, 3, groups=2, use_bias=False), (None, 4, 6, 6), 6 * 2 * 9),
        (Dense(3, bias="shared"), (None, 7), 22),
        (MaxPool2D(), (None, 1, 4, 4), 0),
    ],
)
def test_parameter_counts(layer, shape, count):
    layer.build(shape)
    assert layer.count_params() == count


def test_five_filters_give_five_maps():
    assert Conv2D(5, 3, backend="reference").forward(images(2, 1, 6, 6)).shape == (2, 5, 4, 4)


def test_forward_of_one_image_and_of_a_batch_agree():
    layer = Conv2D(3, 3, seed=0)
    x = images(2, 1, 6, 6)
    one = layer.forward(x[0])
    np.testing.assert_array_equal(one, layer.forward(x)[0])


def test_keras_same_is_ceil_of_size_over_stride():
    x = images(1, 1, 6, 6)
    layer = Conv2D(1, 3, strides=2, padding="same", seed=0)
    y = layer.forward(x)
    w = layer.parameters["weight"]
    assert y.shape == (1, 1, 3, 3)
    np.testing.assert_array_equal(y, functional.conv2d(x, w, stride=2, padding=(0, 1, 0, 1)))
    pooled = MaxPool2D(2, padding="same").forward(images(1, 1, 5, 5))
    assert pooled.shape == (1, 1, 3, 3)


def test_backward_overwrites_and_leaves_earlier_gradients_alone():
    layer = Dense(2, seed=0)
    x = images(3, 4)
    dy = np.ones_like(layer.forward(x))
    layer.backward(dy)
    first = layer.gradients["weight"]
    kept = first.copy()
    layer.backward(2 * dy)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(layer.gradients["weight"], 2 * kept)


@pytest.mark.parametrize("layer", [Conv2D(1, 2), MaxPool2D(), Dense(2), Flatten(), ReLU(), Tanh()])
def test_backward_needs_a_forward_that_kept(layer):
    x = images(2, 3) if isinstance(layer, Dense) else images(2, 1, 4, 4)
    with pytest.raises(RuntimeError, match="call forward"):
        layer.backward(x)
    y = layer.forward(x)
    layer.backward(y)
    layer.forward(x, training=False)
    with pytest.raises(RuntimeError, match="training=False"):
        layer.backward(y)


def test_a_failed_forward_keeps_nothing():
    layer = Conv2D(1, 3, seed=0)
    y = layer.forward(images(1, 1, 5, 5))
    with pytest.raises(ValueError, match="to have 1 channels, but got 2"):
        layer.forward(images(1, 2, 5, 5))
    with pytest.raises(RuntimeError, match="forward pass"):
        layer.backward(y)


def test_activation_argument_is_the_activation_layer():
    x = images(2, 5)
    for name, layer in [("relu", ReLU()), ("sigmoid", Sigmoid()), ("tanh", Tanh())]:
        both, plain = Dense(3, activation=name, seed=0), Dense(3, seed=0)
        y = both.forward(x)
        np.testing.assert_array_equal(y, layer.forward(plain.forward(x)))
        np.testing.assert_array_equal(both.backward(y), plain.backward(layer.backward(y)))
    linear = Dense(3, activation="linear", seed=0)
    np.testing.assert_array_equal(linear.forward(x), Dense(3, seed=0).forward(x))
    with pytest.raises(ValueError, match="'relu', 'sigmoid', 'softmax', 'tanh', 'linear'"):
        Dense(3, activation="swish")


def test_softmax_of_a_convolution_goes_across_channels():
    layer = Conv2D(4, 1, activation="softmax", seed=0)
    np.testing.assert_allclose(layer.forward(images(2, 3, 2, 2)).sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(layer.forward(images(3, 2, 2)).sum(axis=0), 1, rtol=1e-6)


def test_float64_fed_to_a_float32_layer_says_the_fix():
    x = np.zeros((1, 1, 4, 4))
    fix = r"float32, but x is float64: pass x.astype\('float32'\), or make it with dtype='float64'"
    with pytest.raises(TypeError, match=fix):
        Conv2D(1, 3).forward(x)
    with pytest.raises(TypeError, match="x is uint8"):
        Conv2D(1, 3).forward(x.astype(np.uint8))
    with pytest.raises(TypeError, match="x is float64"):
        Dense(1).forward([[1.0, 2.0]])
    assert Conv2D(1, 3, dtype="float64").forward(x).dtype == np.float64
    layer = ReLU()
    layer.forward(x.astype(np.float32))
    with pytest.raises(TypeError, match="dy is float64"):
        layer.backward(x)


def test_byte_swapped_input_is_taken():
    x = images(2, 1, 5, 5)
    layer = Conv2D(2, 3, seed=0)
    np.testing.assert_array_equal(layer.forward(x.astype(">f4")), layer.forward(x))


def test_edits_and_assignment_take_effect():
    layer = Dense(2, seed=0)
    x = images(3, 4)
    y = layer.forward(x)
    live = layer.parameters["weight"]
    layer.parameters["weight"] *= 2
    np.testing.assert_allclose(layer.forward(x), 2 * y, rtol=1e-6)
    layer.parameters["weight"] = np.zeros((2, 4), np.float32)
    assert layer.parameters["weight"] is live
    assert not layer.forward(x).any()
    layer.parameters.update(bias=np.ones(2, np.float32))
    np.testing.assert_array_equal(layer.forward(x), np.ones((3, 2)))


def test_assignment_is_checked():
    layer = Dense(2, seed=0)
    with pytest.raises(KeyError, match="from build"):
        layer.parameters["weight"]
    layer.build((None, 4))
    with pytest.raises(ValueError, match=r"expected shape \(2, 4\), but got \(4, 2\)"):
        layer.parameters["weight"] = np.zeros((4, 2), np.float32)
    with pytest.raises(TypeError, match=r"float64; convert it: .astype\('float32'\)"):
        layer.parameters["weight"] = np.zeros((2, 4))
    with pytest.raises(KeyError, match="Dense has weight, bias"):
        layer.parameters["w"] = np.zeros((2, 4), np.float32)
    with pytest.raises(TypeError, match="cannot be deleted"):
        del layer.parameters["weight"]


def test_backends_are_chosen_by_name():
    assert Conv2D(1, 3).ops is functional
    assert Conv2D(1, 3, backend="cpu").ops is functional
    assert Conv2D(1, 3, backend="reference").ops is reference
    with pytest.raises(ValueError, match="'auto', 'cpu', 'cuda', 'reference', but got 'gpu'"):
        Dense(1, backend="gpu")
    with pytest.raises(TypeError, match="dtype must be 'float32' or 'float64'"):
        Dense(1, dtype="int32")


def test_building_twice():
    layer = Conv2D(1, 3, bias="per_pixel", seed=0)
    layer.build((None, 1, 6, 6))
    before = layer.parameters["weight"].copy()
    layer.build((7, 1, 6, 6))
    np.testing.assert_array_equal(layer.parameters["weight"], before)
    with pytest.raises(ValueError, match=r"built with a bias of shape \(1, 4, 4\)"):
        layer.build((None, 1, 8, 8))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((None, 6, 6), r"takes inputs of shape \(N, C, H, W\)"),
        ((None, None, 6, 6), "only the batch"),
    ],
)
def test_shapes_that_no_convolution_takes(shape, message):
    with pytest.raises(ValueError, match=message):
        Conv2D(1, 3).build(shape)


def test_dense_on_images_says_flatten():
    with pytest.raises(ValueError, match="put Flatten"):
        Dense(1).forward(images(2, 1, 4, 4))


@pytest.mark.parametrize("layer", [Conv2D, MaxPool2D])
def test_channels_last_says_how_to_transpose(layer):
    arguments = (1, 3) if layer is Conv2D else ()
    with pytest.raises(ValueError, match=r"x.transpose\(0, 3, 1, 2\)"):
        layer(*arguments, data_format="channels_last")
    with pytest.raises(ValueError, match="but got 'NHWC'"):
        layer(*arguments, data_format="NHWC")
    assert layer(*arguments, data_format="channels_first").data_format is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Conv2D(0, 3), ValueError, "filters must be at least 1"),
        (lambda: Conv2D(1.5, 3), TypeError, "filters must be an int"),
        (lambda: Conv2D(True, 3), TypeError, "filters must be an int"),
        (lambda: Conv2D(1, 3, padding="foo"), ValueError, "Invalid padding string: 'foo'"),
        (lambda: Conv2D(1, 3, strides=0), ValueError, "strides must be at least 1"),
        (lambda: Conv2D(1, 3, bias="per_image"), ValueError, "'per_filter', 'per_pixel'"),
        (lambda: Dense(1, bias="per_image"), ValueError, "'per_unit', 'shared'"),
        (lambda: MaxPool2D(2, padding=-1), ValueError, "padding must be at least 0"),
        (lambda: Dense(1, kernel_initializer="xavier"), ValueError, "glorot_uniform"),
        (lambda: Dense(1, bias_initializer=0), TypeError, "bias_initializer must be a name"),
    ],
)
def test_arguments_are_checked_where_the_layer_is_made(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (
            Conv2D(32, 3, padding="same"),
            "Conv2D(32, kernel_size=(3, 3), padding='same')",
        ),
        (
            Conv2D(8, (3, 1), 2, activation="relu", use_bias=False, seed=4),
            "Conv2D(8, kernel_size=(3, 1), strides=(2, 2), activation='relu', use_bias=False, "
            "seed=4)",
        ),
        (MaxPool2D(), "MaxPool2D()"),
        (MaxPool2D(3, strides=2), "MaxPool2D(pool_size=(3, 3), strides=(2, 2))"),
        (Dense(10, "softmax", dtype="float64"), "Dense(10, activation='softmax', dtype='float64')"),
        (Flatten(name="row"), "Flatten(name='row')"),
        (ReLU(at_zero=0.0), "ReLU(at_zero=0.0)"),
        (Softmax(backend="reference"), "Softmax(backend='reference')"),
    ],
)
def test_repr_has_keras_s_terms_and_what_is_not_default(layer, text):
    assert repr(layer) == text


def test_mask_in_the_shape_of_the_input():
    layer = MaxPool2D()
    with pytest.raises(RuntimeError, match="forward"):
        layer.mask_to_input()
    layer.forward(np.array([[[[1, 2], [3, 0]]]], np.float32))
    np.testing.assert_array_equal(layer.mask_to_input(), [[[[0, 0], [1, 0]]]])


def test_relu_at_zero_is_the_document_s_unless_asked():
    x = np.zeros((1, 2), np.float32)
    for layer, slope in ((ReLU(), 1), (ReLU(at_zero=0.0), 0)):
        layer.forward(x)
        np.testing.assert_array_equal(layer.backward(np.ones_like(x)), np.full_like(x, slope))


def test_layers_can_be_copied_and_pickled():
    layer = Conv2D(2, 3, activation="tanh", backend="reference", seed=0)
    x = images(1, 1, 5, 5)
    y = layer.forward(x)
    twin = copy.deepcopy(layer)
    twin.parameters["weight"] *= 0
    np.testing.assert_array_equal(layer.forward(x), y)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer)).forward(x), y)


def test_type_cannot_change_under_parameters():
    layer = Dense(1, seed=0)
    layer.configure(dtype="float64")
    layer.build((None, 2))
    assert layer.parameters["weight"].dtype == np.float64
    with pytest.raises(ValueError, match="built in float64 and cannot become float32"):
        layer.configure(dtype="float32")
