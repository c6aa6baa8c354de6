"""Which module computes: the Numba kernels or the NumPy reference."""

from __future__ import annotations

from types import ModuleType

from fastcnn import functional
from fastcnn.arguments import one_of

BACKENDS = ("auto", "cpu", "cuda", "reference")


def check_backend(backend: str) -> str:
    """Return `backend` if there is one of this name; ValueError otherwise."""
    return one_of(backend, "backend", BACKENDS)


def operations(backend: str) -> ModuleType:
    """The module whose functions a layer or an optimizer calls.

    Parameters
    ----------
    backend : {"auto", "cpu", "cuda", "reference"}
        "auto", "cpu" and "cuda" are `fastcnn.functional`, where arrays decide; "reference" is
        `fastcnn.reference`, which has the same names and is imported only here.

    Raises
    ------
    ValueError
        For any other name.
    """
    if check_backend(backend) == "reference":
        from fastcnn import reference

        return reference
    return functional
