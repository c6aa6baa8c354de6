"""Whose arrays there are on a GPU: Numba's, torch's, CuPy's, the simulator's; what each can do.

Each kind says on which stream its owner works, makes arrays like its own, and reshapes them.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from fastcnn.kernels.cuda import memory, target


class NumbaKind:
    """Numba device arrays, and whatever else offers the interface and nothing more."""

    name = "Numba device array"

    def stream(self, owner: Any) -> int:
        return int(owner.__cuda_array_interface__.get("stream") or 0)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        return memory.allocate(shape, dtype, stream)

    def contiguous(self, owner: Any, name: str) -> Any:
        raise ValueError(
            f"{name} is a strided array on the device; pass a contiguous copy of it "
            "(C order), which fastcnn does not make behind your back"
        )

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        made = owner.reshape(shape)
        made.stream = owner.stream  # which Numba forgets
        return made


class _SimulatedKind(NumbaKind):
    """The simulator's arrays, which wrap NumPy's and have no interface."""

    def stream(self, owner: Any) -> int:
        return 0

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return type(owner)(owner._ary.reshape(shape))


class _TorchKind(NumbaKind):
    """torch.cuda's tensors, on torch's current stream, from torch's allocator."""

    name = "torch tensor"

    def stream(self, owner: Any) -> int:
        return int(sys.modules["torch"].cuda.current_stream(owner.device).cuda_stream)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        torch = sys.modules["torch"]
        return torch.empty(shape, dtype=getattr(torch, dtype.name), device=like.device)

    def contiguous(self, owner: Any, name: str) -> Any:
        return owner.contiguous()

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return owner.reshape(shape)


class _CuPyKind(NumbaKind):
    """CuPy's arrays, on CuPy's current stream, from CuPy's pool."""

    name = "CuPy array"

    def stream(self, owner: Any) -> int:
        return int(sys.modules["cupy"].cuda.get_current_stream().ptr)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any], stream: int, like: Any) -> Any:
        return sys.modules["cupy"].empty(shape, dtype)

    def contiguous(self, owner: Any, name: str) -> Any:
        return sys.modules["cupy"].ascontiguousarray(owner)

    def reshaped(self, owner: Any, shape: tuple[int, ...]) -> Any:
        return owner.reshape(shape)


NUMBA, SIMULATED, TORCH, CUPY = NumbaKind(), _SimulatedKind(), _TorchKind(), _CuPyKind()


def kind_of(owner: Any) -> NumbaKind:
    """Who made an array."""
    # Whoever holds such an array has imported its package.
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(owner, torch.Tensor):
        return TORCH
    if cupy is not None and isinstance(owner, cupy.ndarray):
        return CUPY
    return SIMULATED if target.simulated() else NUMBA


def is_contiguous(value: Any) -> bool:
    """Whether its elements follow each other in C order, by its interface."""
    interface = value.__cuda_array_interface__
    step = np.dtype(interface["typestr"]).itemsize
    pairs = zip(interface["shape"], interface["strides"], strict=True)
    for size, stride in reversed(list(pairs)):
        if size == 0:
            return True
        if size > 1 and stride != step:
            return False
        step *= size
    return True


def expect_current(value: Any, kind: NumbaKind, name: str) -> None:
    """ValueError unless an array is on the device that its package has current."""
    if kind is TORCH:
        own, current = value.device.index, sys.modules["torch"].cuda.current_device()
    elif kind is CUPY:
        own, current = value.device.id, sys.modules["cupy"].cuda.Device().id
    else:
        return
    if own != current:
        raise ValueError(
            f"{name} is on device {own}, but device {current} is the current one: work within "
            f"`with torch.cuda.device({own})` (CuPy: `with cupy.cuda.Device({own})`)"
        )
