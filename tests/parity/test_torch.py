"""The kernels against PyTorch, at layers of well-known networks and through a whole step.

Random geometries are compared with the reference, and that with PyTorch over as many.
"""

import numpy as np
import pytest

from fastcnn import functional
from tests.functional.operations import convolve, implementations, plan_for
from tests.geometries import ConvCase, pooling_data

torch = pytest.importorskip("torch", reason="PyTorch is in the extra 'peers'")
F = torch.nn.functional

# Channels and sizes of the networks, divided to be quick; kernels, strides and paddings theirs.
LAYERS = {
    "AlexNet conv1": ConvCase(2, 3, 63, 63, 16, 11, 11, 4, 2, 1, 1),
    "VGG conv": ConvCase(2, 16, 28, 28, 16, 3, 3, 1, 1, 1, 1),
    "ResNet stem": ConvCase(2, 3, 56, 56, 16, 7, 7, 2, 3, 1, 1),
    "ResNet downsampling": ConvCase(2, 32, 14, 14, 64, 1, 1, 2, 0, 1, 1),
    "Inception 1x7": ConvCase(2, 12, 17, 17, 16, 1, 7, 1, (0, 3), 1, 1),
    "MobileNet depthwise": ConvCase(2, 32, 28, 28, 32, 3, 3, 2, 1, 1, 32),
    "ResNeXt grouped": ConvCase(2, 32, 14, 14, 32, 3, 3, 1, 1, 1, 8),
    "DeepLab dilated": ConvCase(1, 16, 20, 20, 16, 3, 3, 1, 6, 6, 1),
    "LeNet conv": ConvCase(4, 1, 32, 32, 6, 5, 5, 1, "valid", 1, 1),
    "one image": ConvCase(None, 3, 16, 16, 8, 3, 3, 1, "same", 1, 1),
}
CLOSE = {"float32": 2e-5, "float64": 1e-13}


def relative(ours, theirs):
    """Norm of the difference over the norm of the result."""
    theirs = theirs.detach().numpy()
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAYERS)
def test_convolution(name, dtype):
    case = LAYERS[name]
    rng = np.random.default_rng(1)
    shapes = (*case.shapes[:2], (case.K,), case.output_shape)
    x, w, b, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    tx, tw, tb = (torch.tensor(a, requires_grad=True) for a in (x, w, b))
    ty = F.conv2d(tx, tw, tb, **case.options)
    dx, dw, db = torch.autograd.grad(ty, (tx, tw, tb), torch.tensor(dy))
    theirs = {"conv2d": ty, "conv2d_input_grad": dx, "conv2d_weight_grad": dw}
    for operation, algorithm in (p.values for p in implementations(*theirs)):
        if plan_for(case, operation, algorithm, dtype):
            extra = {"b": b} if operation == "conv2d" else {}
            ours = convolve(functional, operation, case, x, w, dy, algorithm=algorithm, **extra)
            assert relative(ours, theirs[operation]) <= CLOSE[dtype], (operation, algorithm)
    assert relative(functional.conv2d_bias_grad(dy), db) <= CLOSE[dtype]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("size", "window", "stride", "padding", "dilation", "ceil_mode"),
    [
        ((28, 28), 2, None, 0, 1, False),
        ((55, 55), 3, 2, 0, 1, False),
        ((56, 56), 3, 2, 1, 1, False),
        ((27, 28), 3, 2, 0, 1, True),
        ((13, 14), 3, 1, 1, 1, False),
        ((20, 33), (2, 3), (1, 4), (1, 1), (3, 2), True),
        ((40, 40), 17, 3, 8, 1, False),
    ],
    ids=str,
)
def test_pooling(size, window, stride, padding, dilation, ceil_mode, dtype):
    """Values, indices and gradient, with ties, NaN and infinities."""
    rng = np.random.default_rng(2)
    x = pooling_data(rng, (2, 3, *size), dtype)
    options = (window, stride, padding, dilation, ceil_mode)
    tx = torch.tensor(x, requires_grad=True)
    ty, indices = F.max_pool2d(tx, *options, return_indices=True)
    y, mask = functional.max_pool2d(x, *options, return_mask=True)
    np.testing.assert_array_equal(y, ty.detach())
    np.testing.assert_array_equal(functional.mask_to_indices(mask, x.shape, *options), indices)
    # whole numbers, so that overlapping windows add up to the same in any order
    dy = rng.integers(-9, 9, y.shape).astype(dtype)
    (dx,) = torch.autograd.grad(ty, tx, torch.tensor(dy))
    np.testing.assert_array_equal(functional.max_pool2d_grad(dy, mask, x.shape, *options), dx)


def test_a_whole_step():
    """conv -> ReLU -> pool -> conv -> loss, and every gradient back to the first layer."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((3, 2, 12, 12))
    w1, w2 = rng.standard_normal((4, 2, 3, 3)), rng.standard_normal((2, 4, 3, 3))
    b1, b2 = rng.standard_normal(4), rng.standard_normal(2)
    z1 = functional.conv2d(x, w1, b1, padding="same")
    a1 = functional.relu(z1)
    p1, mask = functional.max_pool2d(a1, 2, return_mask=True)
    y = functional.conv2d(p1, w2, b2)
    dy = y  # of the loss sum(y^2) / 2
    dp1 = functional.conv2d_input_grad(dy, w2, p1.shape)
    dz1 = functional.relu_grad(functional.max_pool2d_grad(dp1, mask, a1.shape, 2), z1, at_zero=0)
    ours = {
        "dx": functional.conv2d_input_grad(dz1, w1, x.shape, padding="same"),
        "dw1": functional.conv2d_weight_grad(x, dz1, w1.shape, padding="same"),
        "db1": functional.conv2d_bias_grad(dz1),
        "dw2": functional.conv2d_weight_grad(p1, dy, w2.shape),
        "db2": functional.conv2d_bias_grad(dy),
    }
    tensors = [torch.tensor(a, requires_grad=True) for a in (x, w1, b1, w2, b2)]
    tx, tw1, tb1, tw2, tb2 = tensors
    hidden = F.max_pool2d(F.relu(F.conv2d(tx, tw1, tb1, padding="same")), 2)
    loss = (F.conv2d(hidden, tw2, tb2) ** 2).sum() / 2
    for (name, gradient), theirs in zip(
        ours.items(), torch.autograd.grad(loss, tensors), strict=True
    ):
        assert relative(gradient, theirs) < 1e-12, name
