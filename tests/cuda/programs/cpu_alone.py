"""Training on the CPU, after which nothing of the CUDA packages is loaded."""

import sys

import numpy as np

import fastcnn
from fastcnn.layers import Dense

network = fastcnn.Sequential([Dense(1)], loss="half_squared_error", input_shape=(2,))
network.fit(np.zeros((3, 2), np.float32), np.zeros(3), verbose=0)
loaded = {name.split(".")[0] for name in sys.modules}
assert not loaded & {"numba_cuda", "cuda", "cupy", "torch"}, loaded
assert "numba.cuda.cudadrv.driver" not in sys.modules
print(float(network.evaluate(np.zeros((1, 2), np.float32), np.zeros(1))["loss"]))
