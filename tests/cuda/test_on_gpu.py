"""What needs a GPU: arrays of torch, streams, and the same results as on the CPU."""

import numpy as np
import pytest

import fastcnn
from fastcnn import functional as F
from fastcnn.kernels.cuda import target
from fastcnn.layers import Conv2D, Dense, Flatten, MaxPool2D
from fastcnn.verification import compare

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        target.missing_device() is not None or target.simulated(), reason="there is no GPU here"
    ),
]


def test_every_implementation_is_the_references():
    report = compare(device="cuda", suites=["seeds", "odd", "pooling"], cases=20)
    assert report.passed, str(report)


def test_torch_in_torch_out_on_its_stream():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(s, np.float32) for s in ((2, 3, 8, 8), (4, 3, 3, 3)))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        y = F.conv2d(torch.as_tensor(x, device="cuda"), torch.as_tensor(w, device="cuda"))
    stream.synchronize()
    assert isinstance(y, torch.Tensor)
    assert np.allclose(y.cpu().numpy(), F.conv2d(x, w), rtol=1e-4, atol=1e-5)


def test_memory_is_used_again_without_waiting():
    x = fastcnn.to_device(np.ones(1 << 20, np.float32))
    for _ in range(50):
        x = F.relu(x)
    assert np.array_equal(fastcnn.to_host(x), np.ones(1 << 20, np.float32))


def test_captured_steps_are_the_plain_ones():
    def trained(captured):
        layers = [
            Conv2D(4, 3, activation="relu"), MaxPool2D(2), Flatten(), Dense(3, activation="softmax")
        ]  # fmt: skip
        network = fastcnn.Sequential(
            layers, loss="categorical_cross_entropy", optimizer="adam", backend="cuda",
            input_shape=(1, 8, 8),
        )  # fmt: skip
        if not captured:
            network._graphs.step = lambda *_: None
        losses = network.fit(x, y, epochs=5, batch_size=8, verbose=0).history["loss"]
        assert network.captured == captured
        return losses, network.state_dict()

    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((28, 1, 8, 8), np.float32), rng.integers(0, 3, 28)
    (losses, state), (want, state_want) = trained(True), trained(False)
    assert losses == want
    for name, values in state.items():
        assert np.array_equal(values, state_want[name]), name
