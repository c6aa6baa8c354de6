"""Where results are, and what is said of arrays in two places."""

import numpy as np

import fastcnn
from fastcnn import functional as F
from fastcnn.functional.devices import is_on_device

x, w = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 2, 2), np.float32)
x_there, w_there = fastcnn.to_device(x), fastcnn.to_device(w)
y = F.conv2d(x_there, w_there)
assert type(y) is type(x_there)
assert fastcnn.to_device(y) is y
assert np.array_equal(fastcnn.to_host(y), F.conv2d(x, w))
out = fastcnn.to_device(np.zeros((1, 1, 2, 2), np.float32))
assert F.conv2d(x_there, w_there, out=out) is out
assert np.array_equal(fastcnn.to_host(out), F.conv2d(x, w))
print("device array" if is_on_device(y) else "host array")


def refused(call, *args):
    try:
        call(*args)
    except (TypeError, ValueError) as error:
        print(error)
    else:
        print("no error")


refused(F.conv2d, x_there, w)
refused(F.conv2d, x, w_there)
refused(F.max_pool2d_grad, x_there, np.zeros(x.shape, np.uint8), (1, 1, 6, 6), 2)
refused(F.relu, x_there.transpose((0, 1, 3, 2))[:, :, 1:])
refused(F.momentum_step, w_there, fastcnn.to_device(w), w_there, 0.1)
