"""The systems of SEEDS.md on one image, worked out by hand: every intermediate, every gradient.

Numbers are chosen so that each logit is 0 and each sigmoid 1/2: all values below are exact, and can
be followed on paper. The same steps run on the reference, on the kernels, and as a network.
"""

from __future__ import annotations

import numpy as np
import pytest

import fastcnn
from fastcnn import functional, networks, reference
from tests.finite_differences import numeric_gradient

BACKENDS = pytest.mark.parametrize("ops", [reference, functional], ids=["reference", "functional"])
BOTH = pytest.mark.parametrize("backend", ["reference", "auto"])


def planes(*rows):
    """Rows of numbers as one image of one channel, float64."""
    return np.array(rows, float)[np.newaxis, np.newaxis]


def check(**pairs):
    for name, (got, want) in pairs.items():
        np.testing.assert_array_equal(got, want, err_msg=name)


# S0 and S1: X -> conv 3x3 + b1 -> ReLU -> max pool 2x2 -> flatten -> dense -> sigmoid.
X1 = planes(
    [3, 1, 2, 0, 1, 2],
    [0, 2, 1, 3, 0, 1],
    [1, 0, 1, 2, 3, 0],
    [2, 1, 0, 1, 2, 1],
    [0, 3, 2, 0, 2, 1],
    [1, 0, 1, 2, 0, 3],
)
W1 = planes([1, 0, 0], [0, 0, 0], [0, 0, -1])  # Z1[i, j] = X[i, j] - X[i+2, j+2] + b1
B1 = np.array([1.0])
W2, B2 = np.array([[1.0, -1, 2, -1]]), np.array([-2.0])
Z1 = planes([3, 0, 0, 1], [1, 2, 0, 3], [0, 1, 0, 2], [2, 0, 1, -1])
DA1 = planes([-0.5, 0, 0, 0], [0, 0, 0, 0.5], [0, 0, 0, 0.5], [-1, 0, 0, 0])
DW1 = planes([-1, 0, -0.5], [1.5, -1.5, -2], [-1, 2, -0.5])
DX1 = planes(
    [-0.5, 0, 0, 0, 0, 0],
    [0, 0, 0, 0.5, 0, 0],
    [0, 0, 0.5, 0.5, 0, 0],
    [-1, 0, 0, 0, 0, -0.5],
    [0, 0, 0, 0, 0, -0.5],
    [0, 0, 1, 0, 0, 0],
)


@BACKENDS
def test_fifteen_parameter_step_by_step(ops):
    y = np.array([[1.0]])
    z1 = ops.conv2d(X1, W1, B1)
    a1 = ops.relu(z1)
    p1, mask = ops.max_pool2d(a1, 2, return_mask=True)
    f = ops.flatten(p1)
    z2 = ops.dense(f, W2, B2)
    a2 = ops.sigmoid(z2)
    loss = ops.binary_cross_entropy(a2, y)
    check(
        z1=(z1, Z1),
        a1=(a1, np.maximum(Z1, 0)),
        p1=(p1, planes([3, 3], [2, 2])),
        mask=(mask, planes([0, 3], [2, 1])),
        f=(f, [[3, 3, 2, 2]]),
        z2=(z2, [[0]]),
        a2=(a2, [[0.5]]),
    )
    assert loss == pytest.approx(np.log(2), rel=1e-15)

    da2 = ops.binary_cross_entropy_grad(a2, y)
    dz2 = ops.sigmoid_grad(da2, a2)
    df = ops.dense_input_grad(dz2, W2)
    da1 = ops.max_pool2d_grad(df.reshape(p1.shape), mask, a1.shape, 2)
    dz1 = ops.relu_grad(da1, z1)
    check(
        da2=(da2, [[-2]]),
        dz2=(dz2, [[-0.5]]),
        dw2=(ops.dense_weight_grad(f, dz2), [[-1.5, -1.5, -1, -1]]),
        db2=(ops.dense_bias_grad(dz2), [-0.5]),
        df=(df, [[-0.5, 0.5, -1, 0.5]]),
        da1=(da1, DA1),
        dz1=(dz1, DA1),  # every chosen element is positive
        dw1=(ops.conv2d_weight_grad(X1, dz1, W1.shape), DW1),
        db1=(ops.conv2d_bias_grad(dz1), [-0.5]),
        dx=(ops.conv2d_input_grad(dz1, W1, X1.shape), DX1),
        drawn=(ops.mask_to_input(mask, a1.shape, 2), DA1 != 0),
        indices=(ops.mask_to_indices(mask, a1.shape, 2), planes([0, 7], [12, 11])),
    )
    w1 = W1.copy()
    ops.sgd_step(w1, DW1, 2.0)  # theta <- theta - eta dtheta
    check(w1=(w1, W1 - 2 * DW1))


@BOTH
def test_fifteen_parameter_network(backend):
    network = networks.fifteen_parameter(dtype="float64", backend=backend)
    assert sum(v.size for v in network.state_dict().values()) == 15
    network.load_state_dict({"0.weight": W1, "0.bias": B1, "4.weight": W2, "4.bias": B2})
    loss, gradients = network.loss_and_gradients(X1, np.array([[1.0]]))
    assert loss == pytest.approx(np.log(2), rel=1e-15)
    check(
        dw1=(gradients["0.weight"], DW1),
        db1=(gradients["0.bias"], [-0.5]),
        dw2=(gradients["4.weight"], [[-1.5, -1.5, -1, -1]]),
        db2=(gradients["4.bias"], [-0.5]),
    )


@BOTH
def test_m_images_share_the_gradient(backend):
    """With m images the documents' sums become means: dZ2 = (A2 - y)/m."""
    network = networks.fifteen_parameter(dtype="float64", backend=backend)
    network.load_state_dict({"0.weight": W1, "0.bias": B1, "4.weight": W2, "4.bias": B2})
    x, y = np.concatenate([X1, X1]), np.array([[1.0], [1.0]])
    loss, gradients = network.loss_and_gradients(x, y)
    assert loss == pytest.approx(np.log(2), rel=1e-15)
    check(dw1=(gradients["0.weight"], DW1), db2=(gradients["4.bias"], [-0.5]))
    _, gradients = network.loss_and_gradients(x, 1 - y)  # the wrong label turns every sign
    check(dw1=(gradients["0.weight"], -DW1), db2=(gradients["4.bias"], [0.5]))


# S0's plain network: 2 -> 2 -> 1, sigmoids, one bias per layer.
@BOTH
def test_small_ann(backend):
    network = networks.small_ann(dtype="float64", backend=backend)
    state = network.state_dict()
    assert sorted(v.size for v in state.values()) == [1, 1, 2, 4]
    w1, b1, w2, b2 = state
    network.load_state_dict({w1: np.array([[2.0, -1], [4, -2]]), b1: np.zeros(1),
                             w2: np.array([[4.0, -2]]), b2: np.array([-1.0])})  # fmt: skip
    loss, gradients = network.loss_and_gradients(np.array([[1.0, 2.0]]), np.array([[1.0]]))
    assert loss == pytest.approx(np.log(2), rel=1e-15)
    check(
        dw2=(gradients[w2], [[-0.25, -0.25]]),  # (A2 - y) h, h = 1/2
        db2=(gradients[b2], [-0.5]),
        dw1=(gradients[w1], [[-0.5, -1], [0.25, 0.5]]),  # dz1 = [-2, 1] / 4
        db1=(gradients[b1], [-0.25]),  # one bias for both units
    )


# S2: several channels and filters, and the layer library's other derivatives.
@BACKENDS
def test_multichannel_convolution(ops):
    x = np.array([[[1, 2, 0], [0, 1, 3], [2, 0, 1]], [[0, 1, 1], [2, 0, 0], [1, 1, 0]]], float)
    x = x[np.newaxis]
    # filter 0: X0's top left plus X1's bottom right; filter 1: twice X0's top right minus X1's
    # bottom left
    k = np.zeros((2, 2, 2, 2))
    k[0, 0, 0, 0] = k[0, 1, 1, 1] = 1
    k[1, 0, 0, 1], k[1, 1, 1, 0] = 2, -1
    b = np.array([1.0, -1])
    y = ops.conv2d(x, k, b)
    check(y=(y[0], [[[2, 3], [2, 2]], [[1, -1], [0, 4]]]))
    dy = np.array([[[1, 0], [0, 2]], [[0, -1], [1, 0]]], float)[np.newaxis]
    # dK_ij = conv(X_j, dY_i)
    dk = ops.conv2d_weight_grad(x, dy, k.shape)
    check(
        dk00=(dk[0, 0], [[1 + 2, 2 + 6], [0 + 0, 1 + 2]]),
        dk01=(dk[0, 1], [[0 + 0, 1 + 0], [2 + 2, 0 + 0]]),
        dk10=(dk[1, 0], [[-2 + 0, 0 + 1], [-1 + 2, -3 + 0]]),
        dk11=(dk[1, 1], [[-1 + 2, -1 + 0], [0 + 1, 0 + 1]]),
        db=(ops.conv2d_bias_grad(dy), [3, 0]),
        db_per_pixel=(ops.conv2d_bias_grad(dy, per_pixel=True), dy[0]),
    )
    # dX_j = sum_i conv(pad(dY_i), rot180(K_ij)): each dY scatters through its filter
    dx = ops.conv2d_input_grad(dy, k, x.shape)
    check(
        dx0=(dx[0, 0], [[1, 0, -2], [0, 2 + 2, 0], [0, 0, 0]]),
        dx1=(dx[0, 1], [[0, 0, 0], [0, 1 + 1, 0], [-1, 0, 2]]),
    )


@BACKENDS
def test_relu_of_the_document_has_slope_one_at_zero(ops):
    x, dy = np.array([-2.0, 0, 3]), np.array([5.0, 7, 11])
    check(y=(ops.relu(x), [0, 0, 3]), dx=(ops.relu_grad(dy, x), [0, 7, 11]))
    check(at_zero=(ops.relu_grad(dy, x, at_zero=0.0), [0, 0, 11]))


@BACKENDS
def test_softmax_jacobian_of_the_document(ops):
    z = np.log([[2.0, 1, 1]])  # so that e^z = 2, 1, 1
    s = ops.softmax(z)
    np.testing.assert_allclose(s, [[0.5, 0.25, 0.25]], rtol=1e-15)
    # ds1/dz1 = e^{x1} (e^{x2} + e^{x3}) / (sum)^2 = 2*2/16, ds1/dz2 = -s1 s2
    dz = ops.softmax_grad(np.array([[1.0, 0, 0]]), s)
    np.testing.assert_allclose(dz, [[0.25, -0.125, -0.125]], rtol=1e-15)


@BACKENDS
def test_tanh_and_log_loss_of_the_document(ops):
    t = ops.tanh(np.array([0.0, np.log(3.0)]))  # (3 - 1/3)/(3 + 1/3) = 4/5
    np.testing.assert_allclose(t, [0, 0.8], rtol=1e-15)
    np.testing.assert_allclose(ops.tanh_grad(np.ones(2), t), [1, 0.36], rtol=1e-14)
    p, y = np.array([0.5, 0.25]), np.array([1.0, 0.0])
    # H = -(ln 1/2 + ln 3/4)/2; dH/dp = ((1-y)/(1-p) - y/p)/N
    assert ops.binary_cross_entropy(p, y) == pytest.approx(np.log(8 / 3) / 2, rel=1e-15)
    np.testing.assert_allclose(ops.binary_cross_entropy_grad(p, y), [-1, 2 / 3], rtol=1e-15)


# S3: conv without bias -> sigmoid -> dense -> sigmoid -> half squared error.
@BOTH
def test_sigmoid_cnn(backend):
    x = planes([1, 1, 1], [2, 2, 2], [3, 5, 8])
    f = planes([1, -1], [0, 0])  # Z1 = 0 everywhere, H1 = 1/2
    ops = reference if backend == "reference" else functional
    h1 = ops.sigmoid(ops.conv2d(x, f))
    w, b = np.array([[2.0, -2, 4, 0]]), np.array([-2.0])
    o = ops.sigmoid(ops.dense(ops.flatten(h1), w, b))
    y = np.array([[1.0]])
    check(h1=(h1, np.full((1, 1, 2, 2), 0.5)), o=(o, [[0.5]]))
    check(error=(ops.half_squared_error(o, y), 0.125))
    do = ops.half_squared_error_grad(o, y)
    dz2 = ops.sigmoid_grad(do, o)
    dh1 = ops.dense_input_grad(dz2, w)
    dz1 = ops.sigmoid_grad(dh1.reshape(h1.shape), h1)
    df = ops.conv2d_weight_grad(x, dz1, f.shape)  # conv(X, delta): X comes first
    check(
        do=(do, [[-0.5]]),
        dz2=(dz2, [[-0.125]]),
        dw=(ops.dense_weight_grad(ops.flatten(h1), dz2), np.full((1, 4), -0.0625)),
        db=(ops.dense_bias_grad(dz2), [-0.125]),
        dz1=(dz1, planes([-0.0625, 0.0625], [-0.125, 0])),
        df=(df, planes([-0.25, -0.25], [-0.375, -0.625])),
    )
    network = networks.sigmoid_cnn(
        input_shape=(1, 3, 3), kernel_size=2, dtype="float64", backend=backend
    )
    keys = list(network.state_dict())
    assert len(keys) == 3  # the filter f has no bias
    network.load_state_dict(dict(zip(keys, (f, w, b), strict=True)))
    loss, gradients = network.loss_and_gradients(x, y)
    check(loss=(loss, 0.125), df=(gradients[keys[0]], df))
    check(dw=(gradients[keys[1]], np.full((1, 4), -0.0625)), db=(gradients[keys[2]], [-0.125]))


# S4: two blocks of convolution (same) and pooling; the gradient of K1 crosses both masks.
X4 = planes([1, 2, 0, 5], [0, 3, 1, 3], [2, 0, 1, 0], [4, 1, 0, 4])
K1 = planes([0, 0, 0], [0, 1, 0], [0, 0, 1])  # Y1[i, j] = X[i, j] + X[i+1, j+1]
K2 = planes([0, 1, 0], [1, -1, 0], [0, 0, 0])  # Y2[i, j] = P1[i-1, j] + P1[i, j-1] - P1[i, j]
DK1 = planes([-0.75, 0.25, -0.75], [0, 2, 0.25], [0, 0.75, -1])
DK2 = planes([1, 1.25, 0], [1, 1.25, 0], [0, 0, 0])


@BACKENDS
def test_two_block_step_by_step(ops):
    w, b, y = np.array([[0.5]]), np.array([-2.0]), np.array([[0.0]])
    y1 = ops.conv2d(X4, K1, padding="same")
    p1, m1 = ops.max_pool2d(y1, 2, return_mask=True)
    y2 = ops.conv2d(p1, K2, padding="same")
    p2, m2 = ops.max_pool2d(y2, 2, return_mask=True)
    o = ops.dense(ops.flatten(p2), w, b)
    check(
        y1=(y1, planes([4, 3, 3, 5], [0, 4, 1, 3], [3, 0, 5, 0], [4, 1, 0, 4])),
        p1=(p1, planes([4, 5], [4, 5])),
        m1=(m1, planes([0, 1], [2, 0])),  # the first of the two 4s
        y2=(y2, planes([-4, -1], [0, 4])),
        p2=(p2, planes([4])),
        m2=(m2, planes([3])),
        o=(o, [[0]]),
    )
    do = ops.binary_cross_entropy_with_logits_grad(o, y)
    dp2 = ops.dense_input_grad(do, w).reshape(p2.shape)
    dy2 = ops.max_pool2d_grad(dp2, m2, y2.shape, 2)
    dp1 = ops.conv2d_input_grad(dy2, K2, p1.shape, padding="same")
    dy1 = ops.max_pool2d_grad(dp1, m1, y1.shape, 2)
    check(
        do=(do, [[0.5]]),
        dw=(ops.dense_weight_grad(ops.flatten(p2), do), [[2]]),
        dp2=(dp2, planes([0.25])),
        dy2=(dy2, planes([0, 0], [0, 0.25])),
        dk2=(ops.conv2d_weight_grad(p1, dy2, K2.shape, padding="same"), DK2),
        dp1=(dp1, planes([0, 0.25], [0.25, -0.25])),
        dy1=(
            dy1,
            planes([0, 0, 0, 0.25], [0, 0, 0, 0], [0, 0, -0.25, 0], [0.25, 0, 0, 0]),
        ),
        dk1=(ops.conv2d_weight_grad(X4, dy1, K1.shape, padding="same"), DK1),
        db1=(ops.conv2d_bias_grad(dy1), [0.25]),
    )


@BOTH
def test_two_block_network(backend):
    network = networks.two_block(input_shape=(1, 4, 4), dtype="float64", backend=backend)
    values = {"0.weight": K1, "0.bias": np.zeros(1), "2.weight": K2, "2.bias": np.zeros(1)}
    values |= {"5.weight": np.array([[0.5]]), "5.bias": np.array([-2.0])}
    network.load_state_dict(values)
    _, gradients = network.loss_and_gradients(X4, np.array([[0.0]]))
    check(
        dk1=(gradients["0.weight"], DK1),
        db1=(gradients["0.bias"], [0.25]),
        dk2=(gradients["2.weight"], DK2),
        db2=(gradients["2.bias"], [0.25]),
        dw=(gradients["5.weight"], [[2]]),
        db=(gradients["5.bias"], [0.5]),
    )


@BACKENDS
def test_overlapping_windows_add_their_gradients(ops):
    """S4: stride < window; the 9 in the middle is the maximum of all four windows."""
    x = planes([1, 2, 3], [4, 9, 5], [6, 7, 8])
    y, mask = ops.max_pool2d(x, 2, 1, return_mask=True)
    check(y=(y, np.full((1, 1, 2, 2), 9)), mask=(mask, planes([3, 2], [1, 0])))
    dx = ops.max_pool2d_grad(planes([1, 2], [3, 4]), mask, x.shape, 2, 1)
    check(dx=(dx, planes([0, 0, 0], [0, 10, 0], [0, 0, 0])))


def test_parameter_counts_of_the_documents():
    network = networks.keras_counts()
    sizes = {name: array.size for name, array in network.state_dict().items()}
    assert sizes["0.weight"] + sizes["0.bias"] == 320 == 32 * (3 * 3 * 1) + 32
    second = [name for name in sizes if not name.startswith("0.")][:2]
    assert sum(sizes[name] for name in second) == 18496 == 64 * 32 * 3 * 3 + 64


@BACKENDS
def test_five_filters_give_five_feature_maps(ops):
    assert ops.conv2d(X1, np.ones((5, 1, 3, 3))).shape == (1, 5, 4, 4)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("logit", [1e4, -1e4])
def test_saturated_logits_still_learn(backend, dtype, logit):
    """S1: z = +-1e4 with the wrong label gives +-1/m from the logits; not 0, not nan."""
    network = networks.fifteen_parameter(dtype=dtype, backend=backend)
    state = {k: np.zeros_like(v) for k, v in network.state_dict().items()}
    network.load_state_dict({**state, "4.bias": np.array([logit], dtype)})
    wrong = np.full((4, 1), 0 if logit > 0 else 1, dtype)
    loss, gradients = network.loss_and_gradients(np.ones((4, 1, 6, 6), dtype), wrong)
    assert loss == 1e4
    assert gradients["4.bias"] == np.sign(logit)  # four images, 1/4 each
    right_loss, right = network.loss_and_gradients(np.ones((4, 1, 6, 6), dtype), 1 - wrong)
    assert right_loss == 0
    assert right["4.bias"] == 0


NETWORKS = ["fifteen_parameter", "small_ann", "multichannel", "sigmoid_cnn", "two_block"]
NETWORKS += ["dense_network", "keras_counts"]
# Smaller than the lectures' own sizes, so that differences of every parameter take no time.
SMALL = {
    "keras_counts": {"input_shape": (1, 6, 6), "classes": 3},
    "two_block": {"input_shape": (1, 8, 8)},
}


@BOTH
@pytest.mark.parametrize("name", NETWORKS)
def test_every_gradient_by_finite_differences(name, backend):
    network = getattr(networks, name)(
        seed=3, dtype="float64", backend=backend, **SMALL.get(name, {})
    )
    rng = np.random.default_rng(7)
    state = network.state_dict()
    shape = network.input_shape[1:] if len(network.input_shape) in (2, 4) else network.input_shape
    x = rng.standard_normal((3, *shape))
    outputs = network.predict(x).shape
    y = np.array([0, 1, 0]) if outputs == (3, 1) else np.array([0, 2, 1]) % outputs[1]
    _, gradients = network.loss_and_gradients(x, y)
    for key, value in state.items():
        # a few entries of each parameter, those of large ones drawn at random
        entries = rng.permutation(value.size)[:12]

        def loss(v, key=key, value=value, entries=entries):
            changed = value.copy()
            changed.flat[entries] = v
            network.load_state_dict({**state, key: changed})
            return network.loss_and_gradients(x, y)[0]

        numeric = numeric_gradient(loss, value.flat[entries].copy(), 1e-6)
        np.testing.assert_allclose(
            gradients[key].flat[entries], numeric, rtol=1e-5, atol=1e-8, err_msg=key
        )


def test_package_offers_what_the_documents_need():
    assert set(NETWORKS) <= set(dir(fastcnn.networks))
