"""The kernels held against the reference, and gradients against differences.

compare      every implementation of every operation against the float64 reference
gradcheck    a function's, layer's or network's gradients against central differences
problems     named layer shapes, and problem strings such as n8c64h56k64r3p1
"""

from fastcnn.verification import problems
from fastcnn.verification.compare import compare
from fastcnn.verification.fuzz import FuzzReport, fuzz
from fastcnn.verification.gradcheck import GradcheckError, GradcheckReport, gradcheck
from fastcnn.verification.report import Report, Row

__all__ = [
    "FuzzReport",
    "GradcheckError",
    "GradcheckReport",
    "Report",
    "Row",
    "compare",
    "fuzz",
    "gradcheck",
    "problems",
]
