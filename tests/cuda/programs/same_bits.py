"""Pooling, its masks and gradients, and activations of hostile numbers: the CPU's bits."""

import numpy as np

import fastcnn
from fastcnn import functional as F

rng = np.random.default_rng(0)
HOSTILE = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0, -1.0, 2.0], np.float32)
WINDOWS = [
    ((2, 2), None, 0, 1, False),
    ((3, 2), (2, 1), (1, 1, 0, 1), 1, False),
    ((2, 2), (3, 3), (1, 0, 1, 0), 1, True),
]
wrong = []


def expect_same(name, got, want):
    got = fastcnn.to_host(got)
    if got.dtype != want.dtype or got.tobytes() != want.tobytes():
        wrong.append(f"{name}: {got} instead of {want}")


for window in WINDOWS:
    x = rng.choice(HOSTILE, (1, 2, 5, 6))
    on_device = fastcnn.to_device(x)
    y, mask = F.max_pool2d(x, *window, return_mask=True)
    y_there, mask_there = F.max_pool2d(on_device, *window, return_mask=True)
    expect_same(f"y {window}", y_there, y)
    expect_same(f"mask {window}", mask_there, mask)
    dy = rng.standard_normal(y.shape).astype(np.float32)
    dy_there = fastcnn.to_device(dy)
    dx = F.max_pool2d_grad(dy, mask, x.shape, *window)
    expect_same(f"dx {window}", F.max_pool2d_grad(dy_there, mask_there, x.shape, *window), dx)
    for of_mask in (F.mask_to_input, F.mask_to_indices):
        want = of_mask(mask, x.shape, *window)
        expect_same(f"{of_mask.__name__} {window}", of_mask(mask_there, x.shape, *window), want)
    kept = F.relu_max_pool2d(x, *window, return_mask=True)
    kept_there = F.relu_max_pool2d(on_device, *window, return_mask=True)
    for name, there, here in zip(("y", "mask", "passes"), kept_there, kept, strict=True):
        expect_same(f"relu {name} {window}", there, here)
    dx = F.relu_max_pool2d_grad(dy, *kept[1:], x.shape, *window)
    dx_there = F.relu_max_pool2d_grad(dy_there, *kept_there[1:], x.shape, *window)
    expect_same(f"relu dx {window}", dx_there, dx)

a, b = (grid.reshape(-1) for grid in np.meshgrid(HOSTILE, HOSTILE))
a_there, b_there = fastcnn.to_device(a), fastcnn.to_device(b)
expect_same("relu", F.relu(a_there), F.relu(a))
for at_zero in (0.0, 1.0):
    expect_same("relu_grad", F.relu_grad(a_there, b_there, at_zero), F.relu_grad(a, b, at_zero))
print("\n".join(wrong) or "same")
