"""The reference against PyTorch: everything that both have, in float64."""

import numpy as np
import pytest
from hypothesis import given, settings

from fastcnn import reference
from tests.geometries import conv_cases, pool_cases, pooling_data, seeds

torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
F = torch.nn.functional

CLOSE = {"rtol": 1e-11, "atol": 1e-11}


def tensor(array):
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


def padded(x, case, value=0.0):
    """x padded by hand, since torch has neither four-sided padding nor TensorFlow's "same"."""
    (top, bottom), (left, right) = case.sides
    return F.pad(x, (left, right, top, bottom), value=value)


@settings(deadline=None, max_examples=150)
@given(case=conv_cases(max_length=14, max_channels=6), seed=seeds())
def test_convolution(case, seed):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.standard_normal(shape) for shape in case.shapes)
    b = rng.standard_normal(case.K)
    tx, tw, tb = tensor(x), tensor(w), tensor(b)
    options = {"stride": case.stride, "dilation": case.dilation, "groups": case.groups}
    ty = F.conv2d(padded(tx, case), tw, tb, **options)
    dx, dw, db = torch.autograd.grad(ty, (tx, tw, tb), torch.tensor(dy))
    np.testing.assert_allclose(reference.conv2d(x, w, b, **case.options), ty.detach(), **CLOSE)
    ours = reference.conv2d_input_grad(dy, w, x.shape, **case.options)
    np.testing.assert_allclose(ours, dx, **CLOSE)
    ours = reference.conv2d_weight_grad(x, dy, w.shape, **case.options)
    np.testing.assert_allclose(ours, dw, **CLOSE)
    np.testing.assert_allclose(reference.conv2d_bias_grad(dy), db, **CLOSE)


@pytest.mark.parametrize("padding", [0, 2, (1, 0), "valid", "same"])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4)])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_torchs_own_paddings(padding, kernel):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 3, 8, 9)), rng.standard_normal((4, 3, *kernel))
    expected = F.conv2d(torch.tensor(x), torch.tensor(w), padding=padding, dilation=2)
    np.testing.assert_allclose(
        reference.conv2d(x, w, padding=padding, dilation=2), expected, **CLOSE
    )


def torch_can_pool(case):
    """torch pads pooling by the same amount on both sides, at most by half a window."""
    kernels = case.kernel_size if isinstance(case.kernel_size, tuple) else (case.kernel_size,) * 2
    return all(
        before == after and before <= kernel // 2
        for (before, after), kernel in zip(case.sides, kernels, strict=True)
    )


@settings(deadline=None, max_examples=150)
@given(case=pool_cases(max_length=14).filter(torch_can_pool), seed=seeds())
def test_pooling(case, seed):
    """Values and indices, with ties, NaN and infinities, and the gradient."""
    rng = np.random.default_rng(seed)
    x = pooling_data(rng, case.input_shape)
    (top, _), (left, _) = case.sides
    tx = tensor(x)
    ty, indices = F.max_pool2d(
        tx,
        case.kernel_size,
        case.stride,
        (top, left),
        case.dilation,
        case.ceil_mode,
        return_indices=True,
    )
    y, mask = reference.max_pool2d(x, **case.options, return_mask=True)
    np.testing.assert_array_equal(y, ty.detach())
    ours = reference.mask_to_indices(mask, x.shape, **case.options)
    np.testing.assert_array_equal(ours, indices)
    dy = rng.standard_normal(y.shape)
    dx = reference.max_pool2d_grad(dy, mask, x.shape, **case.options)
    np.testing.assert_allclose(dx, torch.autograd.grad(ty, tx, torch.tensor(dy))[0], **CLOSE)


@settings(deadline=None, max_examples=100)
@given(case=pool_cases(max_length=14), seed=seeds())
def test_pooling_with_padding_torch_does_not_have(case, seed):
    """Every padding, put on by hand as -inf; finite data, so that padding cannot win there."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, case.input_shape).astype(float)
    (top, _), (left, _) = case.sides
    plane = padded(torch.tensor(x), case, value=-np.inf)
    ty, indices = F.max_pool2d(
        plane,
        case.kernel_size,
        case.stride,
        0,
        case.dilation,
        case.ceil_mode,
        return_indices=True,
    )
    y, mask = reference.max_pool2d(x, **case.options, return_mask=True)
    # In ceil mode torch cannot know that a last window begins in the padding put on by hand.
    p, q = y.shape[-2:]
    np.testing.assert_array_equal(y, ty[..., :p, :q])
    h, w = np.divmod(indices[..., :p, :q].numpy(), plane.shape[-1])
    ours = reference.mask_to_indices(mask, x.shape, **case.options)
    np.testing.assert_array_equal(ours, (h - top) * case.W + w - left)


Z = np.concatenate([np.random.default_rng(1).normal(0, 3, 20), [-1e4, 1e4, 50.0, -50.0]])


@pytest.mark.parametrize(
    ("forward", "backward", "torchs"),
    [
        ("relu", lambda dy, x, y: reference.relu_grad(dy, x, at_zero=0.0), torch.relu),
        ("sigmoid", lambda dy, x, y: reference.sigmoid_grad(dy, y), torch.sigmoid),
        ("tanh", lambda dy, x, y: reference.tanh_grad(dy, y), torch.tanh),
        ("softmax", lambda dy, x, y: reference.softmax_grad(dy, y), lambda t: t.softmax(-1)),
    ],
    ids=["relu", "sigmoid", "tanh", "softmax"],
)
def test_activations(forward, backward, torchs):
    x = np.concatenate([Z, [0.0, -0.0]]).reshape(2, 13)
    dy = np.random.default_rng(2).standard_normal(x.shape)
    tx = tensor(x)
    ty = torchs(tx)
    y = getattr(reference, forward)(x)
    np.testing.assert_allclose(y, ty.detach(), rtol=1e-13, atol=0)
    dx = torch.autograd.grad(ty, tx, torch.tensor(dy))[0]
    np.testing.assert_allclose(backward(dy, x, y), dx, rtol=1e-11, atol=1e-14)


def test_nan_and_infinite_activations():
    x = np.array([np.nan, np.inf, -np.inf])
    for name in ("relu", "sigmoid", "tanh"):
        expected = getattr(torch, name)(torch.tensor(x))
        np.testing.assert_array_equal(getattr(reference, name)(x), expected)


def test_dense():
    rng = np.random.default_rng(3)
    x, w, b = rng.standard_normal((5, 4)), rng.standard_normal((3, 4)), rng.standard_normal(3)
    dy = rng.standard_normal((5, 3))
    tensors = [tensor(a) for a in (x, w, b)]
    ty = F.linear(*tensors)
    dx, dw, db = torch.autograd.grad(ty, tensors, torch.tensor(dy))
    np.testing.assert_allclose(reference.dense(x, w, b), ty.detach(), **CLOSE)
    np.testing.assert_allclose(reference.dense_input_grad(dy, w), dx, **CLOSE)
    np.testing.assert_allclose(reference.dense_weight_grad(x, dy), dw, **CLOSE)
    np.testing.assert_allclose(reference.dense_bias_grad(dy), db, **CLOSE)


def half_squared_error(p, y, reduction):
    total = 0.5 * F.mse_loss(p, y, reduction="none" if reduction == "none" else "sum")
    return total / len(p) if reduction == "mean" else total


def categorical_cross_entropy(p, y, reduction):
    log = torch.log(p).clamp(min=-100)
    if y.dtype == torch.int64:
        return F.nll_loss(log, y, reduction=reduction)
    each = -(y * log).sum(dim=1)
    return {"none": each, "sum": each.sum(), "mean": each.mean()}[reduction]


LABELS = np.array([2, 0, 1, 2])
CERTAIN = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
HARD = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(
    ("name", "torchs", "hard"),
    [
        (
            "binary_cross_entropy",
            lambda p, y, r: F.binary_cross_entropy(p, y, reduction=r),
            CERTAIN,
        ),
        (
            "binary_cross_entropy_with_logits",
            lambda z, y, r: F.binary_cross_entropy_with_logits(z, y, reduction=r),
            HARD,
        ),
        ("categorical_cross_entropy", categorical_cross_entropy, None),
        (
            "categorical_cross_entropy_with_logits",
            lambda z, y, r: F.cross_entropy(z, y, reduction=r),
            HARD,
        ),
        ("half_squared_error", half_squared_error, HARD),
    ],
)
def test_losses(name, torchs, hard, reduction):
    rng = np.random.default_rng(4)
    p = rng.standard_normal((4, 3)) if "logits" in name else rng.dirichlet(np.ones(3), 4)
    if hard is not None:
        p[2:] = hard
    targets = [rng.dirichlet(np.ones(3), 4)] + [LABELS] * name.startswith("categorical")
    for y in targets:
        tp = tensor(p)
        expected = torchs(tp, torch.tensor(y), reduction)
        dp = torch.autograd.grad(expected.sum(), tp)[0]
        loss, grad = getattr(reference, name), getattr(reference, f"{name}_grad")
        np.testing.assert_allclose(loss(p, y, reduction), expected.detach(), rtol=1e-13)
        # torch keeps the smallest divisor as the float32 nearest to 1e-12, 4e-9 below it
        np.testing.assert_allclose(grad(p, y, reduction), dp, rtol=1e-8, atol=1e-15)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum(nesterov):
    rng = np.random.default_rng(5)
    w, velocity = rng.standard_normal(4), np.zeros(4)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.SGD([parameter], lr=0.1, momentum=0.9, nesterov=nesterov)
    for _ in range(5):
        dw = rng.standard_normal(4)
        parameter.grad = torch.tensor(dw)
        optimizer.step()
        reference.momentum_step(w, dw, velocity, 0.1, 0.9, nesterov)
    np.testing.assert_allclose(w, parameter.detach(), rtol=1e-12)


def test_adam():
    rng = np.random.default_rng(6)
    w, m, v = rng.standard_normal(4), np.zeros(4), np.zeros(4)
    parameter = torch.nn.Parameter(torch.tensor(w))
    optimizer = torch.optim.Adam([parameter], lr=0.1, betas=(0.8, 0.95), eps=1e-6)
    for step in range(1, 6):
        dw = rng.standard_normal(4)
        parameter.grad = torch.tensor(dw)
        optimizer.step()
        reference.adam_step(w, dw, m, v, step, 0.1, 0.8, 0.95, 1e-6)
    np.testing.assert_allclose(w, parameter.detach(), rtol=1e-12)
