"""Programs run with the vectors of an older processor than this one."""

import os
import subprocess
import sys

import pytest

from fastcnn.kernels.cpu.units import vector_unit

needs_longer_vectors = pytest.mark.skipif(
    vector_unit() is None or vector_unit().name != "AVX-512", reason="a shorter vector is this one"
)


def run_on_avx2(program):
    """Run a program that prints its vector unit's name last; it must end well, on AVX2."""
    features = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma",
        "FASTCNN_CACHE": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | features,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "AVX2\n"
