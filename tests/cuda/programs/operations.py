"""Every operation on simulated device arrays against the reference, with `fastcnn compare`'s judge.

Arguments: the problems, as `fastcnn.verification.compare` takes them.
"""

import sys

from fastcnn.kernels.selection import IMPLEMENTATIONS
from fastcnn.verification import compare

# The simulator's threads are Python's, and wait for each other by polling.
sys.setswitchinterval(1e-5)

report = compare(device="cuda", implementations=["portable"], problems=sys.argv[1:])
wrong = [f"{r.operation} {r.dtype}: {r.case} {r.message}" for r in report.rows if not r.passed]
missing = set(IMPLEMENTATIONS) - {row.operation for row in report.rows}
print("\n".join(wrong) or "right")
print("not compared:", ", ".join(sorted(missing)) or "nothing")
