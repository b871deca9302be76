"""Operators on integers as what they stand for: the operator on real numbers, between the quantisers that it names.

``QLinearConv`` and its like (``QuantFormat.QOperator`` of onnxruntime) dequantise their operands, compute, and quantise
the result. Written out so, what reads and makes an activation are pairs of ``QuantizeLinear`` and
``DequantizeLinear``, and stored weights are real numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

MICROSOFT = "com.microsoft"  # onnxruntime's own operators; its quantisers have more types than ONNX's older ones
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


class _Kind(NamedTuple):
    """What an operator computes in real numbers, and how many operands it has; 0: any number."""

    real: str
    operands: int


_KINDS = {
    "QLinearConv": _Kind("Conv", 2),
    "QLinearMatMul": _Kind("MatMul", 2),
    "QGemm": _Kind("Gemm", 2),
    "QLinearAdd": _Kind("Add", 2),
    "QLinearMul": _Kind("Mul", 2),
    "QLinearConcat": _Kind("Concat", 0),
    "QLinearAveragePool": _Kind("AveragePool", 1),
    "QLinearGlobalAveragePool": _Kind("GlobalAveragePool", 1),
    "QLinearLeakyRelu": _Kind("LeakyRelu", 1),
    "QLinearSigmoid": _Kind("Sigmoid", 1),
    "QLinearSoftmax": _Kind("Softmax", 1),
}


def in_real_numbers(graph: onnx.GraphProto) -> str | None:
    """Writes out every operator on integers, in place; a note where there was one."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    found: set[str] = set()
    for node in graph.node:
        if node.op_type in _KINDS and not _channels_last(node):
            found.add(node.op_type)
            nodes += _Written(node, stored, graph).nodes()
        elif node.op_type == "DequantizeLinear" and node.domain == MICROSOFT and node.input[0] in stored:
            axis = helper.get_node_attr_value(node, "axis") if node.attribute else 0
            _store(graph, node.output[0], _real(stored, node.input, axis))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return f"{', '.join(sorted(found))}: computed in real numbers between quantisers" if found else None


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "channels_last" and attribute.i for attribute in node.attribute)


class _Written:
    """One operator written out."""

    def __init__(self, node: onnx.NodeProto, stored: dict[str, onnx.TensorProto], graph: onnx.GraphProto) -> None:
        self._node, self._stored, self._graph = node, stored, graph

    def nodes(self) -> Iterator[onnx.NodeProto]:
        node, names = self._node, [*self._node.input]
        kind = _KINDS[node.op_type]
        if not kind.operands:  # the result's quantiser comes first
            names = [*names[2:], *names[:2]]
        count = 3 * (kind.operands or (len(names) - 2) // 3)
        operands, rest = [names[at : at + 3] for at in range(0, count, 3)], names[count:]
        if node.op_type == "QGemm":  # the bias comes first
            rest = [*rest[1:3], *rest[:1]]
        quantiser, bias = [name for name in rest[:2] if name], [name for name in rest[2:] if name]
        start = node.name or node.output[0]
        inputs = []
        for number, operand in enumerate(operands):
            inputs.append(f"{start}_operand{number}")
            if all(name in self._stored for name in operand):
                _store(self._graph, inputs[-1], _real(self._stored, operand, self._axis()))
            else:
                yield helper.make_node("DequantizeLinear", operand, inputs[-1:])
        if bias:
            inputs.append(f"{start}_bias")
            _store(self._graph, inputs[-1], self._bias(bias[0], operands))
        made = f"{start}_real" if quantiser else node.output[0]
        real = helper.make_node(kind.real, inputs, [made], name=node.name)
        real.attribute.extend(a for a in node.attribute if a.name not in ("channels_last", "opset"))
        yield real
        if quantiser:
            yield helper.make_node("QuantizeLinear", [made, *quantiser], node.output)

    def _axis(self) -> int:
        """That of a weight's channels."""
        if self._node.op_type == "QLinearConv" or any(a.name == "transB" and a.i for a in self._node.attribute):
            return 0
        return -1

    def _bias(self, name: str, operands: list[list[str]]) -> np.ndarray:
        """Integers in units of the product of both operands' scales."""
        scales = [numpy_helper.to_array(self._stored[operand[1]]).astype(np.float64) for operand in operands]
        real: np.ndarray = numpy_helper.to_array(self._stored[name]) * scales[0] * scales[1]
        for attribute in self._node.attribute:
            real = real * attribute.f if attribute.name == "alpha" else real
        return real.astype(np.float32)


def _real(stored: dict[str, onnx.TensorProto], names: list[str], axis: int) -> np.ndarray:
    """The numbers that stored integers stand for, by their scale and zero point."""
    values, scale, *zero = (numpy_helper.to_array(stored[name]) for name in names if name)
    shape = [-1 if at == axis % values.ndim else 1 for at in range(values.ndim)] if scale.size > 1 else ()
    integers = values.astype(np.float64) - (zero[0].astype(np.float64).reshape(shape) if zero else 0)
    return (integers * scale.astype(np.float64).reshape(shape)).astype(np.float32)


def _store(graph: onnx.GraphProto, name: str, values: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(values, name))
