"""Activations, dense layers, losses and updates: the same bits on any number of threads."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from numba.core import config

from fastcnn import functional

SHAPE = (1003, 200)  # enough elements to be shared, and no multiple of a chunk


def digests() -> dict[str, str]:
    """One digest per operation and type, on arrays large enough for threads."""
    found = {}
    for dtype in ("float32", "float64"):
        rng = np.random.default_rng(0)
        x, dy = rng.standard_normal((2, *SHAPE)).astype(dtype)
        p, y = rng.random((2, *SHAPE)).astype(dtype)
        w, b = rng.standard_normal((61, SHAPE[1])).astype(dtype), np.ones(61, dtype)
        dz = np.ascontiguousarray(dy[:, :61])
        results = {
            "dense": functional.dense(x, w, b),
            "dense_input_grad": functional.dense_input_grad(dz, w),
            "dense_weight_grad": functional.dense_weight_grad(x, dz),
            "dense_bias_grad": functional.dense_bias_grad(dy),
        }
        for name in ("relu", "sigmoid", "tanh", "softmax"):
            results[name] = getattr(functional, name)(x)
            results[f"{name}_grad"] = getattr(functional, f"{name}_grad")(dy, p)
        for axis in (0, 1):
            results[f"softmax {axis}"] = functional.softmax(x, axis)
        for name in functional.__all__:
            if "cross_entropy" in name or "squared" in name:
                results[name] = getattr(functional, name)(x if "logits" in name else p, y)
        functional.sgd_step(x, dy, 0.1)
        functional.momentum_step(x, dy, p, 0.1)
        functional.adam_step(x, dy, p, y, 1)
        results |= {"w": x, "m": p, "v": y}
        for name, result in results.items():
            found[f"{name} {dtype}"] = hashlib.sha256(result.tobytes()).hexdigest()
    return found


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="plain Python has no threads here")
def test_same_bits_on_one_two_and_four_threads():
    """In a process of its own, whose pool has four threads whatever this machine's cores."""
    program = (
        "import json, fastcnn\n"
        "from tests.functional.test_thread_counts import digests\n"
        "found = []\n"
        "for n in (1, 2, 4):\n"
        "    fastcnn.set_num_threads(n)\n"
        "    found.append(digests())\n"
        "import numba\n"
        "print(json.dumps([found, numba.config.NUMBA_NUM_THREADS]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"NUMBA_NUM_THREADS": "4"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (one, two, four), pool = json.loads(done.stdout)
    assert pool == 4
    assert len(one) > 50
    assert one == two == four
