"""Small ONNX classifiers, written node by node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

Save = Callable[..., Path]


def build(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, Any] | None = None,
    *,
    shape: Sequence[str | int] = ("N", 4, 6, 6),
    output: str = "logits",
    opset: int = 17,
    ir: int = 8,
) -> onnx.ModelProto:
    """A model from ``x`` to ``output``; where the nodes end in ``y``, that is flattened to ``logits``."""
    made = {name for node in nodes for name in node.output}
    if output == "logits" and "logits" not in made and "y" in made:
        nodes = [*nodes, helper.make_node("Flatten", ["y"], ["logits"], name="flatten")]
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    if ir < 4:  # weights are inputs as well
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    outputs = [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", "K"])]
    graph = helper.make_graph(list(nodes), "net", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """``save(nodes, weights, ...)`` or ``save(model)`` writes ``net.onnx`` and returns its path."""

    def write(content: Any, *args: Any, **kwargs: Any) -> Path:
        model = content if isinstance(content, onnx.ModelProto) else build(content, *args, **kwargs)
        path = tmp_path / "net.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write


@pytest.fixture
def small() -> Callable[..., onnx.ModelProto]:
    """``small(**options)``: convolution, ReLU, global pooling and a linear layer with random weights."""

    def make(**options: Any) -> onnx.ModelProto:
        random = np.random.default_rng(0)
        weights = {
            "w": random.standard_normal((8, 4, 3, 3), np.float32),
            "b": random.standard_normal(8, np.float32),
            "v": random.standard_normal((5, 8), np.float32),
            "c": random.standard_normal(5, np.float32),
        }
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["a"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["a"], ["r"], name="relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("Gemm", ["f", "v", "c"], ["logits"], name="head", transB=1),
        ]
        return build(nodes, weights, **options)

    return make
