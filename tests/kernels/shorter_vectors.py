"""Programs run with the vectors of an older processor than this one."""

import os
import subprocess
import sys

import pytest

from fastcnn.kernels.cpu.units import vector_unit

needs_longer_vectors = pytest.mark.skipif(
    vector_unit() is None or vector_unit().name != "AVX-512", reason="a shorter vector is this one"
)


# What makes Numba compile for it; "generic" is x86 without AVX.
UNITS = {
    "AVX2": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
    "generic": {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": "+sse2"},
}


def run_on(unit, program):
    """Run a program that prints its vector unit's name last; it must end well, on this unit."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | UNITS[unit] | {"FASTCNN_CACHE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{unit}\n"
