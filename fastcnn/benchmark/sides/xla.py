"""JAX on the CPU, compiled by XLA; gradients are transposes of the forward functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported
from fastcnn.verification.kinds import ConvProblem, PoolProblem

jax.config.update("jax_enable_x64", True)

_LAYOUT = ("NCHW", "OIHW", "NCHW")


def _conv(p: ConvProblem) -> Callable[[Any, Any], Any]:
    top, bottom, left, right = p.geometry.padding

    def conv(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x, w, p.stride, ((top, bottom), (left, right)), rhs_dilation=p.dilation,
            dimension_numbers=_LAYOUT, feature_group_count=p.groups,
        )  # fmt: skip

    return conv


def _conv2d(p: ConvProblem, t: Any) -> Any:
    return {"y": _conv(p)(t["x"], t["w"]) + t["b"][:, None, None]}


def _conv2d_input_grad(p: ConvProblem, t: Any) -> Any:
    x = jax.ShapeDtypeStruct(p.geometry.input_shape, t["dy"].dtype)
    transpose = jax.linear_transpose(lambda x: _conv(p)(x, t["w"]), x)
    return {"dx": transpose(t["dy"])[0]}


def _conv2d_weight_grad(p: ConvProblem, t: Any) -> Any:
    w = jax.ShapeDtypeStruct(p.geometry.weight_shape, t["dy"].dtype)
    transpose = jax.linear_transpose(lambda w: _conv(p)(t["x"], w), w)
    return {"dw": transpose(t["dy"])[0], "db": t["dy"].sum((0, 2, 3))}


def _pool(p: PoolProblem, x: Any) -> Any:
    g, (top, _, left, _) = p.geometry, p.geometry.padding
    # as far as the last window reaches, which is what ceil mode means
    bottom = (g.P - 1) * p.stride[0] + g.window[0] - p.H - top
    right = (g.Q - 1) * p.stride[1] + g.window[1] - p.W - left
    return lax.reduce_window(
        x, np.array(-np.inf, x.dtype), lax.max, (1, 1, p.R, p.S), (1, 1, *p.stride),
        ((0, 0), (0, 0), (top, bottom), (left, right)), window_dilation=(1, 1, *p.dilation),
    )  # fmt: skip


def _max_pool2d_grad(p: PoolProblem, t: Any) -> Any:
    _, backward = jax.vjp(lambda x: _pool(p, x), t["x"])
    return {"dx": backward(t["dy"])[0]}


CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "conv2d": _conv2d,
    "conv2d_frozen": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "conv2d_weight_grad": _conv2d_weight_grad,
    # without a mask: XLA's pooling has none, and its gradient looks for the maxima again
    "max_pool2d": lambda p, t: {"y": _pool(p, t["x"])},
    "max_pool2d_grad": _max_pool2d_grad,
    "dense": lambda p, t: {"y": t["x"] @ t["w"].T + t["b"]},
    "dense_input_grad": lambda p, t: {"dx": t["dy"] @ t["w"]},
    "dense_weight_grad": lambda p, t: {"dw": t["dy"].T @ t["x"], "db": t["dy"].sum(0)},
    "relu": lambda p, t: {"y": jax.nn.relu(t["x"])},
    "sigmoid": lambda p, t: {"y": jax.nn.sigmoid(t["x"])},
    "tanh": lambda p, t: {"y": jnp.tanh(t["x"])},
    "softmax": lambda p, t: {"y": jax.nn.softmax(t["x"], -1)},
}


def variants(case: Case) -> list[str]:
    return ["jax"] if case.operation in CALLS else []


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int) -> Prepared:
    """JAX's side. Its threads follow from the cores that the process may use.

    Frozen weights are constants of the compiled function; others are arguments, and are replaced
    where they change, since JAX's arrays cannot be written to.
    """
    if not variants(case):
        raise Unsupported("not written for JAX")
    call, problem = CALLS[case.operation], case.problem
    tensors = [{n: jnp.array(a) for n, a in arrays.items() if n != "mask"} for arrays in sets]
    constants = {}
    if case.operation == "conv2d_frozen":
        constants = {name: tensors[0][name] for name in ("w", "b")}
        tensors = [{"x": t["x"]} for t in tensors]
    function = jax.jit(lambda t: call(problem, {**constants, **t}))

    def run(number: int) -> Any:
        return jax.block_until_ready(function(tensors[number]))

    def answer(number: int) -> Arrays:
        return {name: np.asarray(result) for name, result in run(number).items()}

    def change() -> None:
        for name in case.measured.weights:
            opposite = jax.block_until_ready(-tensors[0][name])
            for t in tensors:
                t[name] = opposite

    return Prepared(run, answer, change)
