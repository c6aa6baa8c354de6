"""The ONNX package's test vectors for Conv, MaxPool and ConvTranspose, and fastcnn put to them.

Cases of one and of three dimensions are done with the two-dimensional operations: one row for the
former, and for the latter sums and maxima over depth.
"""

from __future__ import annotations

import warnings
from functools import cache
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

STORED = Path(onnx.__file__).parent / "backend" / "test" / "data"
FOLDERS = ("pytorch-converted", "pytorch-operator")


class Vector(NamedTuple):
    """One node with its inputs and the outputs that it must have."""

    operation: str
    attributes: dict[str, Any]
    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def _attributes(node: Any) -> dict[str, Any]:
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


@cache
def node_cases(*operations: str) -> dict[str, Vector]:
    """The generated cases of one node of these types; all of ONNX's generators run for them."""
    from onnx.backend.test.case.node import collect_testcases

    found = {}
    with warnings.catch_warnings():
        # NumPy's, about the casts, logarithms and divisions of other operators' cases
        warnings.simplefilter("ignore", RuntimeWarning)
        cases = collect_testcases(None)
    for case in cases:
        nodes = case.model.graph.node if case.model is not None else []
        if len(nodes) == 1 and nodes[0].op_type in operations:
            ((inputs, outputs),) = case.data_sets
            attributes = _attributes(nodes[0])
            found[case.name] = Vector(nodes[0].op_type, attributes, list(inputs), list(outputs))
    return found


def _tensor(path: Path) -> np.ndarray:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


@cache
def stored_cases(*operations: str) -> dict[str, Vector]:
    """The cases on disk, converted from PyTorch's own tests, that are one node of these types."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((STORED / folder).glob("*/model.onnx")):
            graph = onnx.load(path).graph
            if len(graph.node) != 1 or graph.node[0].op_type not in operations:
                continue
            data = path.parent / "test_data_set_0"
            weights = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
            names = [i.name for i in graph.input if i.name not in weights]
            given = {n: _tensor(data / f"input_{i}.pb") for i, n in enumerate(names)}
            arrays = given | weights
            outputs = [_tensor(data / f"output_{i}.pb") for i in range(len(graph.output))]
            found[path.parent.name] = Vector(
                graph.node[0].op_type,
                _attributes(graph.node[0]),
                [arrays[name] for name in graph.node[0].input],
                outputs,
            )
    return found


class Window(NamedTuple):
    """A sliding window's attributes, axis by axis; `padding` may be fastcnn's name of one."""

    kernel: list[int]
    stride: list[int]
    dilation: list[int]
    padding: str | list[tuple[int, int]]

    def last_two(self) -> dict[str, Any]:
        """As keyword arguments of the two-dimensional operations."""
        sides: Any = self.padding
        if not isinstance(sides, str):
            sides = (*self.padding[-2], *self.padding[-1])
        return {
            "stride": tuple(self.stride[-2:]),
            "padding": sides,
            "dilation": tuple(self.dilation[-2:]),
        }


def window_of(attributes: dict[str, Any], kernel: list[int]) -> Window:
    """ONNX's defaults are 1, and its pads are all the beginnings, then all the ends."""
    rank = len(kernel)
    named = attributes.get("auto_pad", b"NOTSET").decode()
    pads = attributes.get("pads", [0] * 2 * rank)
    padding = list(zip(pads[:rank], pads[rank:], strict=True))
    window = Window(
        list(kernel),
        list(attributes.get("strides", [1] * rank)),
        list(attributes.get("dilations", [1] * rank)),
        padding if named == "NOTSET" else named.lower(),
    )
    if rank > 1:
        return window
    sides = window.padding if isinstance(window.padding, str) else [(0, 0), *window.padding]
    return Window([1, *window.kernel], [1, *window.stride], [1, *window.dilation], sides)


def conv(module: ModuleType, vector: Vector) -> np.ndarray:
    """ONNX's Conv; in three dimensions the sum over depth of two-dimensional convolutions."""
    x, w, *b = vector.inputs
    window = window_of(vector.attributes, w.shape[2:])
    options = window.last_two() | {"groups": vector.attributes.get("group", 1)}
    if x.ndim == 3:
        return module.conv2d(x[:, :, None], w[:, :, None], *b, **options)[:, :, 0]
    if x.ndim == 4:
        return module.conv2d(x, w, *b, **options)
    x = np.pad(x, [(0, 0), (0, 0), window.padding[0], (0, 0), (0, 0)])
    reach = window.dilation[0] * (window.kernel[0] - 1) + 1
    bias = b[0][:, None, None] if b else 0
    planes = [
        bias
        + sum(
            module.conv2d(x[:, :, start + r * window.dilation[0]], w[:, :, r], **options)
            for r in range(window.kernel[0])
        )
        for start in range(0, x.shape[2] - reach + 1, window.stride[0])
    ]
    return np.stack(planes, axis=2)


def conv_transpose(module: ModuleType, vector: Vector) -> np.ndarray:
    """ONNX's ConvTranspose, which is a convolution's input gradient."""
    x, w, *b = vector.inputs
    window = window_of(vector.attributes, w.shape[2:])
    options = window.last_two() | {"groups": vector.attributes.get("group", 1)}
    y = module.conv2d_input_grad(x, w, vector.outputs[0].shape, **options)
    return y + b[0][:, None, None] if b else y


def max_pool(module: ModuleType, vector: Vector) -> list[np.ndarray]:
    """ONNX's MaxPool: values, and where it asks for them indices into the flattened input."""
    (x,) = vector.inputs
    window = window_of(vector.attributes, vector.attributes["kernel_shape"])
    options = window.last_two() | {
        "kernel_size": tuple(window.kernel[-2:]),
        "ceil_mode": bool(vector.attributes.get("ceil_mode", 0)),
    }
    planes = x.astype(np.float32) if x.dtype == np.uint8 else x
    planes = planes.reshape(x.shape[0], -1, *x.shape[-2:]) if x.ndim > 3 else planes[:, :, None]
    y, mask = module.max_pool2d(planes, **options, return_mask=True)
    if x.ndim == 5:
        # maxima over depth of the maxima over height and width
        n, c, depth = x.shape[:3]
        down = options | {
            "kernel_size": (window.kernel[0], 1),
            "stride": (window.stride[0], 1),
            "dilation": (window.dilation[0], 1),
            "padding": (*window.padding[0], 0, 0),
        }
        columns = module.max_pool2d(y.reshape(n, c, depth, -1), **down)
        y = columns.reshape(n, c, columns.shape[2], *y.shape[2:])
    results = [(y[:, :, 0] if x.ndim == 3 else y).astype(x.dtype)]
    if len(vector.outputs) > 1:
        indices = module.mask_to_indices(mask, planes.shape, **options)
        height, width = planes.shape[2:]
        if vector.attributes.get("storage_order", 0):
            indices = indices % width * height + indices // width
        firsts = np.arange(prod(planes.shape[:2])).reshape(*planes.shape[:2], 1, 1)
        results.append(indices + firsts * height * width)
    return results
