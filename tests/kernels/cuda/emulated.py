"""Operations of products.py on NumPy arrays: everything as on a GPU, kernels by the emulator."""

from __future__ import annotations

from contextlib import contextmanager
from math import prod
from types import SimpleNamespace
from unittest import mock

import numpy as np

from fastcnn.kernels.cuda import products
from fastcnn.kernels.cuda.target import Kernel
from tests.kernels.cuda import emulator


class HostArray:
    """What stands for a DeviceArray; new ones are filled with NaN."""

    stream, shared = 0, False

    def __init__(self, values: np.ndarray, pointer: int = 0) -> None:
        self.pointer = pointer
        self.shape, self.ndim, self.size = values.shape, values.ndim, values.size
        self.flat = values.reshape(-1)

    def empty(self, shape, dtype):
        return HostArray(np.full(prod(shape), np.nan, dtype))

    @property
    def values(self) -> np.ndarray:
        return self.flat.reshape(self.shape)


def _array(argument, kind: str):
    if not kind.endswith("*"):
        return argument
    if argument is None:
        return np.empty(0, np.float32)
    return argument.flat.view(kind[:-1])


@contextmanager
def emulation(copies: str = "late", without: tuple[str, ...] = ()):
    """Within a `with` block, launches run in the emulator; gives a list of (kernel, grid)."""
    launched = []

    def of(kernel, **meanings):
        def launch(stream, blocks, threads, *arguments):
            flat = [_array(a, k) for a, k in zip(arguments, kernel.kinds, strict=True)]
            launched.append((kernel, blocks))
            if 0 not in blocks:
                emulator.run(kernel, meanings, blocks, threads, flat, copies, without)

        return SimpleNamespace(launch=launch)

    caches = products._placed, products._placed_dots
    with (
        mock.patch.object(Kernel, "of", of),
        mock.patch.object(products, "_device", return_value=0),
        mock.patch.object(
            products, "_upload", lambda tables, stream: [HostArray(t) for t in tables]
        ),
    ):
        for cache in caches:
            cache.cache_clear()
        yield launched
    for cache in caches:
        cache.cache_clear()


def conv2d(way, g, x, w, b=None, relu=False):
    y = np.full(g.output_shape, np.nan, np.float32)
    bias = None if b is None else HostArray(b)
    way.conv2d(g, HostArray(x), HostArray(w), bias, HostArray(y), relu)
    return y


def conv2d_input_grad(way, g, dy, w):
    dx = np.full(g.input_shape, np.nan, np.float32)
    way.conv2d_input_grad(g, HostArray(dy), HostArray(w), HostArray(dx))
    return dx


def conv2d_weight_grad(way, g, x, dy):
    dw = np.full(g.weight_shape, np.nan, np.float32)
    way.conv2d_weight_grad(g, HostArray(x), HostArray(dy), HostArray(dw))
    return dw


def dense(way, g, x, w, b=None, pointer=0, shared=False):
    y = np.full((g.N, g.O), np.nan, np.float32)
    bias = None if b is None else HostArray(b)
    if shared:
        bias.shared = True
    way.dense(g, HostArray(x, pointer), HostArray(w), bias, HostArray(y))
    return y


def dense_input_grad(way, g, dy, w):
    dx = np.full((g.N, g.I), np.nan, np.float32)
    way.dense_input_grad(g, HostArray(dy), HostArray(w), HostArray(dx))
    return dx


def dense_weight_grad(way, g, x, dy):
    dw = np.full((g.O, g.I), np.nan, np.float32)
    way.dense_weight_grad(g, HostArray(x), HostArray(dy), HostArray(dw))
    return dw
