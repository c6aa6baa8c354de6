"""PyTorch, eager: the operators that `torch.nn.functional` and autograd call.

Gradients go straight to the backward operators, so that no forward pass is timed with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported
from fastcnn.verification.kinds import ConvProblem, PoolProblem

torch.set_grad_enabled(False)
aten = torch.ops.aten

Tensors = dict[str, Any]
# (problem, tensors) -> results by the reference's names
Call = Callable[[Any, Tensors], Tensors]


def variants(case: Case) -> list[str]:
    """NCHW always; channels_last for what has channels."""
    images = isinstance(case.problem, ConvProblem | PoolProblem)
    return ["torch", "torch_cl"] if images else ["torch"]


def _symmetric(p: ConvProblem, x: Any) -> tuple[Any, tuple[int, int]]:
    """x and the padding that the operators take; unequal sides are padded beforehand."""
    top, bottom, left, right = p.geometry.padding
    if top == bottom and left == right:
        return x, (top, left)
    return F.pad(x, (left, right, top, bottom)), (0, 0)


def _conv2d(p: ConvProblem, t: Tensors) -> Tensors:
    x, padding = _symmetric(p, t["x"])
    return {"y": F.conv2d(x, t["w"], t["b"], p.stride, padding, p.dilation, p.groups)}


def _backward(p: ConvProblem, dy: Any, x: Any, w: Any, padding: Any, mask: list[bool]) -> Any:
    return aten.convolution_backward(
        dy, x, w, [p.K], p.stride, padding, p.dilation, False, [0, 0], p.groups, mask
    )


def _conv2d_input_grad(p: ConvProblem, t: Tensors) -> Tensors:
    # x gives its shape alone
    x, padding = _symmetric(p, t["x"])
    dx = _backward(p, t["dy"], x, t["w"], padding, [True, False, False])[0]
    if x is not t["x"]:
        top, _, left, _ = p.geometry.padding
        dx = dx[:, :, top : top + p.H, left : left + p.W]
    return {"dx": dx}


def _conv2d_weight_grad(p: ConvProblem, t: Tensors) -> Tensors:
    x, padding = _symmetric(p, t["x"])
    _, dw, db = _backward(p, t["dy"], x, t["w"], padding, [False, True, True])
    return {"dw": dw, "db": db}


def _window(p: PoolProblem) -> list[Any]:
    top, bottom, left, right = p.geometry.padding
    if top != bottom or left != right or 2 * top > p.R or 2 * left > p.S:
        raise Unsupported("padding must be the same on both sides, and at most half the window")
    return [[p.R, p.S], list(p.stride), [top, left], list(p.dilation), p.ceil_mode]


def _max_pool2d(p: PoolProblem, t: Tensors) -> Tensors:
    y, indices = aten.max_pool2d_with_indices(t["x"], *_window(p))
    return {"y": y, "indices": indices}


def _max_pool2d_grad(p: PoolProblem, t: Tensors) -> Tensors:
    window, indices = _window(p), t["indices"]
    dx = aten.max_pool2d_with_indices_backward(t["dy"], t["x"], *window, indices)
    return {"dx": dx}


def _labels_grad(p: Any, t: Tensors) -> Tensors:
    dz = torch.softmax(t["p"], 1)
    rows = torch.arange(len(dz), device=dz.device)
    dz[rows, t["y"]] -= 1
    return {"dp": dz.div_(len(dz))}


def _labels_probability_grad(p: Any, t: Tensors) -> Tensors:
    dp = torch.zeros_like(t["p"])
    rows = torch.arange(len(dp), device=dp.device)
    dp[rows, t["y"]] = -1 / t["p"][rows, t["y"]]
    return {"dp": dp.div_(len(dp))}


def _relu_max_pool2d(p: PoolProblem, t: Tensors) -> Tensors:
    return _max_pool2d(p, {"x": torch.relu(t["x"])})


def _relu_max_pool2d_grad(p: PoolProblem, t: Tensors) -> Tensors:
    dx = _max_pool2d_grad(p, {**t, "x": t["rectified"]})["dx"]
    return {"dx": aten.threshold_backward(dx, t["rectified"], 0)}


CALLS: dict[str, Call] = {
    "conv2d": _conv2d,
    "conv2d_frozen": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "conv2d_weight_grad": _conv2d_weight_grad,
    "max_pool2d": _max_pool2d,
    "max_pool2d_grad": _max_pool2d_grad,
    "relu_max_pool2d": _relu_max_pool2d,
    "relu_max_pool2d_grad": _relu_max_pool2d_grad,
    "dense": lambda p, t: {"y": F.linear(t["x"], t["w"], t["b"])},
    "dense_input_grad": lambda p, t: {"dx": t["dy"] @ t["w"]},
    "dense_weight_grad": lambda p, t: {"dw": t["dy"].t() @ t["x"], "db": t["dy"].sum(0)},
    "relu": lambda p, t: {"y": torch.relu(t["x"])},
    "relu_grad": lambda p, t: {"dx": aten.threshold_backward(t["dy"], t["kept"], 0)},
    "sigmoid": lambda p, t: {"y": torch.sigmoid(t["x"])},
    "sigmoid_grad": lambda p, t: {"dx": aten.sigmoid_backward(t["dy"], t["kept"])},
    "tanh": lambda p, t: {"y": torch.tanh(t["x"])},
    "tanh_grad": lambda p, t: {"dx": aten.tanh_backward(t["dy"], t["kept"])},
    "softmax": lambda p, t: {"y": torch.softmax(t["x"], -1)},
    "softmax_grad": lambda p, t: {
        "dx": aten._softmax_backward_data(t["dy"], t["kept"], -1, t["dy"].dtype)
    },
    "binary_cross_entropy": lambda p, t: {"loss": F.binary_cross_entropy(t["p"], t["y"])},
    "binary_cross_entropy_grad": lambda p, t: {
        "dp": aten.binary_cross_entropy_backward(t["one"], t["p"], t["y"])
    },
    "binary_cross_entropy_with_logits": lambda p, t: {
        "loss": F.binary_cross_entropy_with_logits(t["p"], t["y"])
    },
    "binary_cross_entropy_with_logits_grad": lambda p, t: {
        "dp": torch.sigmoid(t["p"]).sub_(t["y"]).div_(t["p"].numel())
    },
    "categorical_cross_entropy": lambda p, t: {"loss": F.nll_loss(torch.log(t["p"]), t["y"])},
    "categorical_cross_entropy_grad": _labels_probability_grad,
    "categorical_cross_entropy_with_logits": lambda p, t: {"loss": F.cross_entropy(t["p"], t["y"])},
    "categorical_cross_entropy_with_logits_grad": _labels_grad,
    "half_squared_error": lambda p, t: {
        "loss": F.mse_loss(t["p"], t["y"], reduction="sum").div_(2 * len(t["p"]))
    },
    "half_squared_error_grad": lambda p, t: {"dp": (t["p"] - t["y"]).div_(len(t["p"]))},
}


def _tensors(case: Case, arrays: Arrays, channels_last: bool, device: str) -> Tensors:
    """Arrays as tensors of one memory format, and what the operators want besides."""
    p = case.problem
    ours = ("mask", "passes")
    tensors: Tensors = {
        n: torch.from_numpy(a).to(device) for n, a in arrays.items() if n not in ours
    }
    if isinstance(p, ConvProblem):
        kind: Any = {"dtype": getattr(torch, case.dtype), "device": device}
        shapes = {"x": p.geometry.input_shape, "w": p.geometry.weight_shape}
        for name, shape in shapes.items():
            tensors.setdefault(name, torch.zeros(shape, **kind))
    if channels_last:
        for name, tensor in tensors.items():
            if tensor.dim() == 4:
                tensors[name] = tensor.contiguous(memory_format=torch.channels_last)
    if case.operation == "max_pool2d_grad" and isinstance(p, PoolProblem):
        tensors["indices"] = aten.max_pool2d_with_indices(tensors["x"], *_window(p))[1]
    if case.operation == "relu_max_pool2d_grad" and isinstance(p, PoolProblem):
        tensors["rectified"] = torch.relu(tensors["x"])
        tensors["indices"] = aten.max_pool2d_with_indices(tensors["rectified"], *_window(p))[1]
    if case.operation == "binary_cross_entropy_grad":
        tensors["one"] = torch.ones((), dtype=getattr(torch, case.dtype), device=device)
    return tensors


def _array(tensor: Any) -> np.ndarray:
    """On the host; of halves, of which NumPy knows but one kind, as float32."""
    return np.asarray((tensor.float() if tensor.element_size() == 2 else tensor).cpu().numpy())


def _rounded(tensors: Tensors, dtype: Any) -> Tensors:
    return {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}


def prepare(
    variant: str,
    case: Case,
    sets: list[Arrays],
    threads: int,
    device: str = "cpu",
    half: Any = None,
) -> Prepared:
    """One of PyTorch's sides. Its eager mode packs weights at every call, frozen or not.

    With a dtype `half` the arrays of convolutions and dense layers are of that type beforehand, as
    in a network all of whose arrays are; whole networks run under autocast.
    """
    torch.set_num_threads(threads)
    if not case.measured.function:
        from fastcnn.benchmark.sides.pytorch_network import prepare_network

        return prepare_network(case, sets, device, half)
    call, problem = CALLS[case.operation], case.problem
    tensors = [_tensors(case, arrays, variant == "torch_cl", device) for arrays in sets]
    if half is not None and case.operation.startswith(("conv2d", "dense")):
        tensors = [_rounded(one, half) for one in tensors]
    weights = [tensors[0][name] for name in case.measured.weights]
    for others in tensors[1:]:  # one place for all sets, in either format
        others.update(zip(case.measured.weights, weights, strict=True))

    def run(number: int) -> Tensors:
        return call(problem, tensors[number])

    def answer(number: int) -> Arrays:
        return {name: _array(tensor) for name, tensor in run(number).items()}

    def change() -> None:
        for weight in weights:
            weight.neg_()

    return Prepared(run, answer, change, launch=run)
