"""One valid call of every public operation, for tests that put every operation through the same.

`calls()` has a row for each name in `fastcnn.functional.__all__`; a test fails where one is not.
A row says which arguments are arrays, so that a test can hand in the same numbers in another form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

LOSSES = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "categorical_cross_entropy",
    "categorical_cross_entropy_with_logits",
    "half_squared_error",
)


@dataclass(frozen=True)
class Call:
    """A valid call of `function`, every argument by name.

    Attributes
    ----------
    floats : dict
        Arguments that are arrays of float32 or float64; float64 here.
    integers : dict
        Arguments that are arrays of integers.
    options : dict
        All other arguments.
    in_place : tuple of str
        Names of those arrays that the call changes.
    any_rank : bool
        The operation treats each element alike and takes arrays of any number of dimensions.
    misfits : dict
        For an array's name, shapes of the right number of dimensions that do not fit the others.
    """

    function: str
    floats: dict[str, np.ndarray]
    options: dict[str, Any] = field(default_factory=dict)
    integers: dict[str, np.ndarray] = field(default_factory=dict)
    in_place: tuple[str, ...] = ()
    any_rank: bool = False
    misfits: dict[str, list[tuple[int, ...]]] = field(default_factory=dict)

    def __str__(self) -> str:
        return "-".join([self.function, *self.integers])

    @property
    def arrays(self) -> list[str]:
        return [*self.floats, *self.integers]

    @property
    def constants(self) -> list[str]:
        """Arrays that the call leaves as they are."""
        return [name for name in self.arrays if name not in self.in_place]

    def arguments(self, dtype: Any = np.float32, **changed: Any) -> dict[str, Any]:
        """Fresh copies of all arguments, some of them replaced."""
        floats = {name: a.astype(dtype) for name, a in self.floats.items()}
        integers = {name: a.copy() for name, a in self.integers.items()}
        return floats | integers | self.options | changed

    def run(self, module: ModuleType, arguments: dict[str, Any]) -> tuple[np.ndarray, ...]:
        """All that the call computes: its results, and the arrays that it changed."""
        result = getattr(module, self.function)(**arguments)
        results = result if isinstance(result, tuple) else (result,)
        return (*map(np.asarray, results), *(np.asarray(arguments[a]) for a in self.in_place))


def calls(images: int = 2) -> list[Call]:
    """The table, for batches of this many images."""
    rng = np.random.default_rng(20)
    return [
        *_convolutions(rng, images),
        *_poolings(rng, images),
        *_activations(rng, images),
        *_dense(rng, images),
        *_losses(rng, images),
        *_updates(rng, images),
    ]


def _convolutions(rng: np.random.Generator, n: int) -> list[Call]:
    x, w, b, dy = (
        rng.standard_normal(shape) for shape in ((n, 4, 7, 6), (6, 2, 3, 2), (6,), (n, 6, 4, 4))
    )
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 2}
    bad_x = [(n, 5, 7, 6), (n, 4, 0, 6)]
    bad_w = [(5, 2, 3, 2), (6, 4, 3, 2), (6, 2, 0, 2)]
    bad_b = [(5,), (6, 1, 1), (6, 4, 5)]
    bad_dy = [(n, 6, 4, 5), (n, 5, 4, 4), (n + 1, 6, 4, 4)]
    return [
        Call("conv2d", {"x": x, "w": w, "b": b}, options,
             misfits={"x": bad_x, "w": bad_w, "b": bad_b}),
        Call("conv2d_input_grad", {"dy": dy, "w": w}, {"input_shape": x.shape, **options},
             misfits={"dy": bad_dy, "w": bad_w}),
        Call("conv2d_weight_grad", {"x": x, "dy": dy}, {"weight_shape": w.shape, **options},
             misfits={"x": bad_x, "dy": bad_dy}),
        Call("conv2d_bias_grad", {"dy": dy}),
        Call("conv2d_parameter_grads", {"x": x, "dy": dy}, {"weight_shape": w.shape, **options},
             misfits={"x": bad_x, "dy": bad_dy}),
    ]  # fmt: skip


def _poolings(rng: np.random.Generator, n: int) -> list[Call]:
    x, dy = rng.standard_normal((n, 4, 7, 6)), rng.standard_normal((n, 4, 4, 5))
    mask = np.full(dy.shape, 4, np.uint8)  # cell (1, 1) of each window lies inside the input,
    mask[:, :, -1] = 1  # but not of the last row's, which hangs over the end
    passes = rng.integers(0, 2, dy.shape).astype(np.uint8)
    window = {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 1, 1, 0), "ceil_mode": True}
    backward = {"input_shape": x.shape, **window}
    misfits = {name: [(n, 4, 5, 4), (n, 3, 4, 5)] for name in ("dy", "mask")}
    bad_mask = {"mask": misfits["mask"]}
    return [
        Call("max_pool2d", {"x": x}, {**window, "return_mask": True},
             misfits={"x": [(n, 4, 0, 6), (n, 4, 7, 0)]}),
        Call("max_pool2d_grad", {"dy": dy}, backward, {"mask": mask}, misfits=misfits),
        Call("relu_max_pool2d", {"x": x}, {**window, "return_mask": True},
             misfits={"x": [(n, 4, 0, 6), (n, 4, 7, 0)]}),
        Call("relu_max_pool2d_grad", {"dy": dy}, backward, {"mask": mask, "passes": passes},
             misfits=misfits | {"passes": misfits["mask"]}),
        Call("mask_to_indices", {}, backward, {"mask": mask}, misfits=bad_mask),
        Call("mask_to_input", {}, backward, {"mask": mask}, misfits=bad_mask),
    ]  # fmt: skip


def _activations(rng: np.random.Generator, n: int) -> list[Call]:
    x, dy = rng.standard_normal((2, n, 3, 5))
    table = [Call(name, {"x": x}, any_rank=True) for name in ("relu", "sigmoid", "tanh")]
    table += [Call("softmax", {"x": x}, {"axis": 1}), Call("flatten", {"x": x})]
    for name, kept in (("relu", "x"), ("sigmoid", "y"), ("tanh", "y"), ("softmax", "y")):
        bad = [(n, 3, 4), (n, 5, 3), (n + 1, 3, 5)]
        call = Call(f"{name}_grad", {"dy": dy, kept: x}, any_rank=name != "softmax",
                    misfits={"dy": bad, kept: bad})  # fmt: skip
        table.append(call)
    return table


def _dense(rng: np.random.Generator, n: int) -> list[Call]:
    x, dy, w, b = (rng.standard_normal(shape) for shape in ((n, 5), (n, 3), (3, 5), (3,)))
    return [
        Call("dense", {"x": x, "w": w, "b": b},
             misfits={"x": [(n, 4)], "w": [(3, 4), (4, 5)], "b": [(4,)]}),
        Call("dense_input_grad", {"dy": dy, "w": w}, misfits={"dy": [(n, 4)], "w": [(4, 5)]}),
        Call("dense_weight_grad", {"x": x, "dy": dy},
             misfits={"x": [(n + 1, 5)], "dy": [(n + 1, 3)]}),
        Call("dense_bias_grad", {"dy": dy}),
    ]  # fmt: skip


def _losses(rng: np.random.Generator, n: int) -> list[Call]:
    p, labels = rng.uniform(0.1, 0.9, (n, 3)), np.arange(n) % 3
    table = []
    for loss in LOSSES:
        name = "z" if loss.endswith("logits") else "p"
        bad = [(n, 4), (n + 1, 3), (n + 3, 1)]
        for function in (loss, f"{loss}_grad"):
            table.append(
                Call(function, {name: p, "y": np.eye(3)[labels]}, misfits={name: bad, "y": bad},
                     any_rank=loss.startswith("binary"))
            )  # fmt: skip
            if loss.startswith("categorical"):
                table.append(
                    Call(function, {name: p}, integers={"y": labels},
                         misfits={name: [(n + 1, 3)], "y": [(n + 1,)]})
                )  # fmt: skip
    return table


def _updates(rng: np.random.Generator, n: int) -> list[Call]:
    dw, w, m, v = rng.uniform(0.1, 2, (4, n, 3, 5))
    table = []
    for function, changed, options in (
        ("sgd_step", {"w": w}, {"learning_rate": 0.1}),
        ("momentum_step", {"w": w, "velocity": v}, {"learning_rate": 0.1, "nesterov": True}),
        ("adam_step", {"w": w, "m": m, "v": v}, {"step": 3}),
    ):
        arrays = {"dw": dw, **changed}
        table.append(
            Call(function, arrays, options, in_place=tuple(changed), any_rank=True,
                 misfits={name: [(n, 3, 4), (n, 5, 3)] for name in arrays})
        )  # fmt: skip
    return table
