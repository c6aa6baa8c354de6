"""The kernels held against the reference, on the machine at hand.

compare      every implementation of every operation against the float64 reference
problems     named layer shapes, and problem strings such as n8c64h56k64r3p1
"""

from fastcnn.verification import problems
from fastcnn.verification.compare import compare
from fastcnn.verification.report import Report, Row

__all__ = ["Report", "Row", "compare", "problems"]
