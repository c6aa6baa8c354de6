"""Implicit GEMM's tile kernels on simulated device arrays against the reference.

Arguments: the problems, as `fastcnn.verification.compare` takes them.
"""

import sys

from fastcnn.verification import compare

# The simulator's threads are Python's, and wait for each other by polling.
sys.setswitchinterval(1e-5)

report = compare(
    device="cuda",
    operations=["conv2d", "conv2d_input_grad", "conv2d_weight_grad"],
    implementations=["implicit_gemm"],
    dtypes=["float32"],
    problems=sys.argv[1:],
)
for row in report.rows:
    print(row.operation, "right" if row.passed else f"{row.case} {row.message}")
