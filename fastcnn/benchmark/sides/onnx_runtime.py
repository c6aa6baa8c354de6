"""ONNX Runtime: one-node models. It has no gradients."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from fastcnn.benchmark.cases import Case
from fastcnn.benchmark.operations import Arrays
from fastcnn.benchmark.sides.prepared import Prepared, Unsupported
from fastcnn.verification.kinds import ConvProblem, PoolProblem

# ONNX 1.16's; every version of ONNX Runtime that the peers extra allows reads it.
_OPSET, _IR_VERSION = 19, 9
_ACTIVATIONS = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softmax": "Softmax"}
_FORWARD = ("conv2d", "conv2d_frozen", "max_pool2d", "dense", *_ACTIVATIONS)

_pool_cores: list[int] = []


def bind(cores: list[int]) -> None:
    """Keep the calling thread on the first core, and a pool's others on one of the rest each."""
    os.sched_setaffinity(0, cores[:1])
    _pool_cores[:] = cores[1:]


def variants(case: Case) -> list[str]:
    return ["ort"] if case.operation in _FORWARD else []


def _pads(p: ConvProblem | PoolProblem) -> list[int]:
    top, bottom, left, right = p.geometry.padding
    return [top, left, bottom, right]


def _node(case: Case) -> tuple[Any, list[str], list[str]]:
    """The node, and the names of its inputs and outputs."""
    p = case.problem
    if isinstance(p, ConvProblem):
        inputs, outputs = ["x", "w", "b"], ["y"]
        node = helper.make_node(
            "Conv", inputs, outputs, kernel_shape=[p.R, p.S], strides=list(p.stride),
            pads=_pads(p), dilations=list(p.dilation), group=p.groups,
        )  # fmt: skip
    elif isinstance(p, PoolProblem):
        inputs, outputs = ["x"], ["y", "indices"]
        node = helper.make_node(
            "MaxPool", inputs, outputs, kernel_shape=[p.R, p.S], strides=list(p.stride),
            pads=_pads(p), dilations=list(p.dilation), ceil_mode=int(p.ceil_mode),
        )  # fmt: skip
    elif case.operation == "dense":
        inputs, outputs = ["x", "w", "b"], ["y"]
        node = helper.make_node("Gemm", inputs, outputs, transB=1)
    else:
        inputs, outputs = ["x"], ["y"]
        node = helper.make_node(_ACTIVATIONS[case.operation], inputs, outputs)
    return node, inputs, outputs


def _session(case: Case, arrays: Arrays, threads: int) -> tuple[Any, list[str]]:
    """A session, and the inputs that it takes: not the weights, where they are frozen."""
    node, inputs, outputs = _node(case)
    kind = TensorProto.FLOAT if case.dtype == "float32" else TensorProto.DOUBLE
    frozen = [] if case.operation != "conv2d_frozen" else inputs[1:]
    fed = [name for name in inputs if name not in frozen]
    graph = helper.make_graph(
        [node],
        "case",
        [helper.make_tensor_value_info(name, kind, arrays[name].shape) for name in fed],
        [
            helper.make_tensor_value_info(
                name, TensorProto.INT64 if name == "indices" else kind, None
            )
            for name in outputs
        ],
        [onnx.numpy_helper.from_array(arrays[name], name) for name in frozen],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if _pool_cores and threads == 1 + len(_pool_cores):
        pool = ";".join(str(core + 1) for core in _pool_cores)  # it counts cores from one
        options.add_session_config_entry("session.intra_op_thread_affinities", pool)
    try:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # its exceptions have no common class
        raise Unsupported(str(error).splitlines()[0]) from error
    return session, fed


def prepare(variant: str, case: Case, sets: list[Arrays], threads: int) -> Prepared:
    """ONNX Runtime's side: weights are inputs, but for frozen ones, which it packs beforehand."""
    if not variants(case):
        raise Unsupported("no gradients and no losses")
    session, fed = _session(case, sets[0], threads)
    feeds = [{name: arrays[name] for name in fed} for arrays in sets]

    def run(number: int) -> Any:
        return session.run(None, feeds[number])

    def answer(number: int) -> Arrays:
        results = run(number)
        if len(results) == 1:
            return {"y": results[0]}
        # its indices count through the whole tensor, the reference's through one plane
        p = case.problem
        plane = p.H * p.W if isinstance(p, PoolProblem) else 1
        return {"y": results[0], "indices": results[1] % plane}

    def change() -> None:
        for name in case.measured.weights:
            np.negative(sets[0][name], out=sets[0][name])

    return Prepared(run, answer, change)
