"""The portable kernels in Numba's simulator: no GPU, tiny shapes, a process of their own."""

import json
import os
import signal
import sys

from fastcnn.verification import cuda_check
from tests.cuda.conftest import needs_extra, simulate

pytestmark = needs_extra

# Strides, dilations, groups and paddings that differ from side to side, and plain ones; windows
# that overlap, that leave cells out, and that hang over the end.
PROBLEMS = (
    "n2c2h5w4k3r3s2",
    "n1c4h5w4k6r2st2x1p1x0x1x2d1x2g2",
    "n1c1h6r2",
    "n1c2h5w6r3s2st2x1p1x1x0x1",
    "n1c1h7r3s2st2x3p1x1x0x0d2x1ceil",
    "n1c1h5r2st3p1x0x1x0",
    "n3i5o4",
    "3x5",
    "2x3x2",
)


def test_every_operation_is_the_references():
    """Of the whole table, in both types, with every kind of data, twice with the same bits."""
    assert simulate("operations", *PROBLEMS).splitlines() == ["right", "not compared: nothing"]


def test_convolutions_on_tiles_are_the_references():
    """Plain multiply-adds in tiles of shared memory; strides, groups, dilation, no whole tiles."""
    found = simulate("tiles", "n2c8h3k9r2p1", "n1c18h5w4k16r2st2x1p1x0x1x2d1x2g2")
    operations = "conv2d", "conv2d_input_grad", "conv2d_weight_grad"
    assert found.splitlines() == [f"{operation} right" for operation in operations]


def test_masks_gradients_and_hostile_numbers_are_the_cpus_to_the_bit():
    assert simulate("same_bits").split() == ["same"]


def test_arrays_decide_the_device():
    """What comes out is where the arrays are; host and device are never mixed or moved silently."""
    assert simulate("devices").splitlines() == [
        "device array",
        "mixed devices: w is a NumPy array, but the arrays before it are on a CUDA device "
        "(Numba device arrays); nothing is moved silently: use fastcnn.to_device(w)",
        "mixed devices: w is on a CUDA device (FakeCUDAArray), but the arrays before it are NumPy "
        "arrays; nothing is moved silently: use fastcnn.to_host(w)",
        "mixed devices: mask is a NumPy array, but the arrays before it are on a CUDA device "
        "(Numba device arrays); nothing is moved silently: use fastcnn.to_device(mask)",
        "x is a strided array on the device; pass a contiguous copy of it (C order), which fastcnn "
        "does not make behind your back",
        "w and velocity share memory, and both are changed: pass a copy, velocity.copy()",
    ]


def test_a_network_trains_as_on_the_cpu():
    """Two steps of Adam through every kind of layer: losses, accuracy and parameters."""
    assert simulate("training").split() == ["same"]


def test_divided_sums_of_dense_layers_add_up():
    assert simulate("dense_divided").split() == ["equal"]


def test_the_threads_of_a_block_share_their_arrays():
    assert simulate("shared_once").split() == ["one", "each"]


def test_the_check_for_a_gpu_is_rehearsed(tmp_path):
    """Every part of the one command runs, and says so in its JSON; the sanitizer is a mock."""
    sanitizer = tmp_path / "compute-sanitizer"
    sanitizer.write_text('#!/bin/sh\necho "$1 $2 $3 $4"\nshift 4\nexec "$@"\n')
    sanitizer.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    found = json.loads(simulate("rehearsal", tmp_path / "cuda.json", PATH=path))
    assert found["device"]["gpu"] == "Numba's simulator"
    assert found["device"]["multiply_add_flops"] > 0
    assert found["device"]["copied_bytes_per_second"] > 0
    assert found["compare"]["pass"]
    assert found["compare_rounded"]["tf32"]["pass"]
    assert found["tests"]["status"] == 0
    assert "skipped" in found["tests"]["output"]
    for tool, done in found["sanitizer"].items():
        assert (done["status"], done["output"]) == (0, f"--tool {tool} --error-exitcode 1\n")
    for content in found["bench"].values():
        assert {row["status"] for row in content["rows"]} == {"ok"}
        assert {row["label"] for row in content["rows"]} > {"conv fwd", "conv dx", "conv dw"}
    assert found["bench"]["tf32"]["settings"]["precision"] == "tf32"


def test_the_check_says_what_was_not_right():
    right = {
        "compare": {"pass": True},
        "compare_rounded": {"bf16": {"pass": True}},
        "tests": {"status": 0},
        "sanitizer": {},
        "bench": {},
    }
    assert list(cuda_check.failures(right)) == []
    row = {"library": "fastcnn", "operation": "conv2d", "problem": "p", "status": "wrong",
           "reason": "off"}  # fmt: skip
    wrong = {
        "device": {"failed": "it fell"},
        "compare": {"pass": False},
        "compare_rounded": {"tf32": {"pass": True}, "bf16": {"pass": False}},
        "tests": {"status": 1},
        "sanitizer": {"memcheck": {"status": 0}, "racecheck": {"status": 1}},
        "bench": {"tf32": {"rows": [row, row | {"library": "torch"}, row | {"status": "ok"}]}},
    }
    assert list(cuda_check.failures(wrong)) == [
        "device: it fell",
        "compare: an implementation differs from the reference",
        "compare, bf16: an implementation differs from the reference",
        "tests: status 1",
        "racecheck: status 1",
        "bench, tf32: conv2d p: off",
    ]
    assert list(cuda_check.failures(right | {"bench": {"bf16": {"failed": "it fell"}}})) == [
        "bench, bf16: it fell"
    ]


def test_a_part_that_breaks_off_or_hangs_ends_alone(monkeypatch):
    slow = cuda_check._run([sys.executable, "-c", "import time; time.sleep(600)"], 0.1)
    assert slow["status"] == -signal.SIGKILL
    assert slow["errors"].endswith("ended after 0 seconds")
    broken = {"status": 1, "errors": "Traceback\nCudaError: CUDA_ERROR_ILLEGAL_ADDRESS\n"}
    asked = []
    monkeypatch.setattr(cuda_check, "_run", lambda command: asked.append(command) or broken)
    assert cuda_check._apart("bench tf32", rehearse=True) == {
        "failed": "status 1: CudaError: CUDA_ERROR_ILLEGAL_ADDRESS"
    }
    assert asked[0][2:5] == ["fastcnn.verification.cuda_check", "--part", "bench tf32"]
