"""Dense layers whose sums are divided into spans: equal to the reference on small integers."""

import numpy as np

import fastcnn
from fastcnn import functional, reference
from fastcnn.kernels.cuda import dense

dense.SPAN = 4  # of 22: five spans of five, the last of two
assert dense._divided(1, 22) == (5, 5)

rng = np.random.default_rng(0)
x, w, b, dy = (rng.integers(-9, 10, s).astype(np.float32) for s in ((22, 22), (9, 22), 9, (22, 9)))
on_gpu = [fastcnn.to_device(array) for array in (x, w, b, dy)]
of_x, of_w, of_b, of_dy = on_gpu
with fastcnn.precision("ieee"):
    for got, expected in (
        (functional.dense(of_x, of_w, of_b), reference.dense(x, w, b)),
        (functional.dense_input_grad(of_dy, of_w), reference.dense_input_grad(dy, w)),
        (functional.dense_weight_grad(of_x, of_dy), reference.dense_weight_grad(x, dy)),
    ):
        np.testing.assert_array_equal(fastcnn.to_host(got), expected)
print("equal")
