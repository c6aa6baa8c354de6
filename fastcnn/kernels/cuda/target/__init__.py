"""The one room that knows the CUDA package (numba-cuda): what is there, compiling, launching.

A kernel file declares its kernels with `@kernel` and shares code between them with `@helper`:

    @kernel("real* x, real* y, int64 n")
    def relu(x, y, n):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        if i < n:
            y[i] = max(x[i], real(0))

    relu.of(real="float32").launch(stream, blocks, threads, x, y, n)
    relu.of(real="float32").facts((9, 0)).registers        # without any GPU

Arrays are bare pointers: an array with its shape and strides takes fifteen launch parameters and
several times the launching time of one. In the simulator (NUMBA_ENABLE_CUDASIM=1) they are flat
arrays, which are indexed in the same way.
"""

from __future__ import annotations

from fastcnn.kernels.cuda.target.compiled_facts import Facts
from fastcnn.kernels.cuda.target.declaring import Kernel, kernel
from fastcnn.kernels.cuda.target.devices import (
    CudaError,
    architecture,
    checked,
    current_device,
    multiprocessors,
)
from fastcnn.kernels.cuda.target.launching import Launch, Recorded
from fastcnn.kernels.cuda.target.ordering import follow
from fastcnn.kernels.cuda.target.package import (
    Arch,
    CudaUnavailable,
    cuda,
    driver,
    missing_device,
    missing_package,
    require_device,
    require_package,
    simulated,
    types,
)
from fastcnn.kernels.cuda.target.programs import Program
from fastcnn.kernels.cuda.target.recording import (
    NotRecordable,
    expect_not_recording,
    is_recording,
    nobody_records,
    writing_down,
)
from fastcnn.kernels.cuda.target.source import (
    Helper,
    Intrinsic,
    cell,
    helper,
    intrinsic,
    label,
    real,
)

__all__ = [
    "Arch", "CudaError", "CudaUnavailable", "Facts", "Helper", "Intrinsic", "Kernel", "Launch",
    "NotRecordable", "Program", "Recorded", "architecture", "cell", "checked", "cuda",
    "current_device", "driver", "expect_not_recording", "follow", "helper", "intrinsic",
    "is_recording", "kernel", "label", "missing_device", "missing_package", "multiprocessors",
    "nobody_records", "real", "require_device", "require_package", "simulated", "types",
    "writing_down",
]  # fmt: skip
