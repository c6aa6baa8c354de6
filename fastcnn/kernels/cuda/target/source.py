"""The code of kernels: what they may call, and how their global names are settled."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from types import FunctionType
from typing import Any

import numpy as np

from fastcnn.kernels.cuda.target.package import cuda, load_cuda

# Placeholders: `Kernel.of` puts types in their place. `real` is what the arrays hold, `cell` what
# a pooling mask does, `label` what class numbers are.
real: Any = np.float32
cell: Any = np.uint8
label: Any = np.int64


class Helper:
    """A function that kernels call; it becomes part of each of them.

    Inlined by Numba itself: a device function of its own needs a driver even to be compiled.
    """

    def __init__(self, function: Any) -> None:
        self.function = function


def helper(function: Callable[..., Any]) -> Any:
    """Declare a function that kernels and other helpers may call, placeholders included."""
    return Helper(function)


class Intrinsic:
    """A function of inline PTX, as numba.cuda.extending.intrinsic takes it."""

    def __init__(self, function: Any) -> None:
        self.function = function

    @cached_property
    def made(self) -> Any:
        load_cuda()
        from numba.cuda.extending import intrinsic

        return intrinsic(self.function)


def intrinsic(function: Callable[..., Any]) -> Any:
    """Declare a function of inline PTX that kernels and helpers may call; none are simulated."""
    return Intrinsic(function)


def settled(function: Any, known: dict[str, Any]) -> Any:
    """The same code with other globals: what `known` says, and helpers settled likewise."""
    names = dict(function.__globals__)
    names |= {name: value for name, value in known.items() if name in function.__code__.co_names}
    for name in function.__code__.co_names:
        called = names.get(name)
        if called is cuda:
            names[name] = load_cuda()
        elif isinstance(called, Intrinsic):
            names[name] = called.made
        elif isinstance(called, Helper):
            inner = settled(called.function, known)
            names[name] = load_cuda().jit(device=True, inline="always")(inner)
    made = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def names_type(value: Any) -> bool:
    """Whether a meaning such as "float32" stands for a NumPy type."""
    return isinstance(value, str) and isinstance(getattr(np, value, None), type)


def resolved(kind: str, meanings: dict[str, Any]) -> str:
    """A parameter's type with placeholders replaced: "real*" becomes "float32*"."""
    base = kind.rstrip("*")
    return meanings.get(base, base) + kind[len(base) :]
