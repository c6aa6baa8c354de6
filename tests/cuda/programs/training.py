"""A tiny network on the simulated device and on the CPU: the same losses and parameters."""

import sys

import numpy as np

import fastcnn
from fastcnn.functional.devices import is_on_device
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU

sys.setswitchinterval(1e-5)


def network(backend):
    layers = [
        Conv2D(2, 2, activation="relu"),
        MaxPool2D(2),
        Conv2D(2, 1, bias="per_pixel"),
        ReLU(),
        Flatten(),
        Dense(3, activation="tanh", bias="shared"),
        Dense(2, activation="softmax"),
    ]
    return fastcnn.Sequential(
        layers, loss="categorical_cross_entropy", optimizer="adam", dtype="float64",
        backend=backend, input_shape=(1, 5, 5),
    )  # fmt: skip


x = np.random.default_rng(0).standard_normal((3, 1, 5, 5))
y = np.array([0, 1, 1])
here, there = network("cpu"), network("cuda")
assert all(is_on_device(array) for array in there.parameters().values())
found = [net.fit(x, y, epochs=1, batch_size=2, verbose=0).history for net in (here, there)]
assert np.allclose(found[0]["loss"], found[1]["loss"], rtol=1e-12, atol=0), found
assert found[0]["accuracy"] == found[1]["accuracy"], found
want = here.state_dict()
for name, values in there.state_dict().items():
    assert np.allclose(values, want[name], rtol=1e-9, atol=1e-12), name
p = there.predict(x, batch_size=2)
assert is_on_device(p)
assert np.allclose(fastcnn.to_host(p), here.predict(x), rtol=1e-9, atol=1e-12)
measured = there.evaluate(x, y), here.evaluate(x, y)
assert np.isclose(measured[0]["loss"], measured[1]["loss"], rtol=1e-9), measured
assert measured[0]["accuracy"] == measured[1]["accuracy"], measured
there.load_state_dict(want)
assert np.array_equal(there.state_dict()["0.weight"], want["0.weight"])
print("same")
