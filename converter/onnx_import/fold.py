"""Constant folding, by onnx's reference evaluator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import defs, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from converter.onnx_import.limits import MAX_FOLDED, MAX_WORK
from converter.onnx_import.values import Array, Known
from seenn.capture import Refused

_RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
#: What the evaluator does once with each element, in numpy; besides all that reduce.
_ONCE = """
    Abs Add And Cast Ceil Clip Concat Constant ConstantOfShape Cos CumSum DequantizeLinear Div Equal Exp Expand EyeLike
    Flatten Floor Gather GatherND Greater GreaterOrEqual Identity Less LessOrEqual Log Max Mean Min Mod Mul Neg NonZero
    Not OneHot Or Pad Pow QuantizeLinear Range Reciprocal Relu Reshape Round ScatterND Shape Sigmoid Sign Sin Size Slice
    Softmax Split Sqrt Squeeze Sub Sum Tanh Tile Transpose Trilu Unsqueeze Where Xor
"""
_SLOWLY = frozenset(("Erf", "Gelu", "Hardmax", "Resize", "TopK", "Unique", "Upsample"))  # once, but in Python
_PRODUCTS = frozenset(("Gemm", "MatMul"))
#: The oldest opset that the evaluator knows, of ops that older files mean the same by.
_SAME_SINCE = {"DequantizeLinear": 19, "QuantizeLinear": 19}
_MOST_ORDERED = 8  # factors of a contraction of which numpy's order is asked for
_SLOW = 128  # times as long as in numpy's own loops
_SMALL = 1 << 12  # values that may decide a shape


class Folder:
    """Computes nodes whose inputs are all known, as long as the results and the work stay small enough together."""

    def __init__(self, opset: int) -> None:
        self._opset = opset
        self._left, self._work = MAX_FOLDED, MAX_WORK

    def fold(self, node: onnx.NodeProto, inputs: Mapping[str, Known]) -> dict[str, Known]:
        """The node's outputs by name.

        Raises:
            Refused: it is random, too large, of unknown size, or the evaluator does not know it.
        """
        if node.op_type in _RANDOM:
            raise Refused("is random", "export the model in inference mode, without random nodes")
        first = self._evaluate(node, {name: value.at[0] for name, value in inputs.items()})
        if not any(value.varies for value in inputs.values()):
            return {name: Known.constant(array) for name, array in first.items()}
        second = self._evaluate(node, {name: value.at[1] for name, value in inputs.items()})
        return {name: Known((array, second[name])) for name, array in first.items()}

    def _evaluate(self, node: onnx.NodeProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
        names = [name for name in node.output if name]
        self._reserve(node, feeds)
        try:
            with np.errstate(all="ignore"):
                results: Any = self._evaluator(node, names).run(names, dict(feeds))
        except Exception as error:  # the evaluator raises whatever its numpy code runs into
            raise Refused(
                f"cannot be computed by onnx's reference evaluator: {type(error).__name__}: {str(error)[:200]}",
                "simplify the model before the import",
            ) from error
        arrays = dict(zip(names, results, strict=False))
        if wrong := [name for name in names if not isinstance(arrays.get(name), np.ndarray | np.generic)]:
            raise Refused(
                f"its constant results {wrong} are no tensors", "export the model without sequences and optional values"
            )
        return {name: np.asarray(array) for name, array in arrays.items()}

    def _evaluator(self, node: onnx.NodeProto, names: list[str]) -> ReferenceEvaluator:
        """Of a model with this node alone: given a bare node, onnx would take the newest version of its op."""
        inputs, outputs = ([onnx.ValueInfoProto(name=name) for name in each] for each in (set(node.input), names))
        graph = helper.make_graph([node], "folded", [value for value in inputs if value.name], outputs)
        opset = max(self._opset, _SAME_SINCE.get(node.op_type, 0))
        return ReferenceEvaluator(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]))

    def _reserve(self, node: onnx.NodeProto, feeds: Mapping[str, Array]) -> None:
        """Takes the results' size and the work off what is left, before any of it is done."""
        size = _result_size(node, feeds, self._opset)
        if size is None:
            raise Refused("the size of its constant result cannot be known", "simplify the model before the import")
        if size > self._left:
            raise Refused(
                f"its constant result has {size:,} values; all folded constants together may have {MAX_FOLDED:,}",
                "store weights as initializers",
            )
        work = _work(node, [feeds[name] for name in node.input if name], size)
        if work > self._work:
            raise Refused(
                f"its constant result takes about {work:,} operations; all folded constants together may take "
                f"{MAX_WORK:,}",
                "store the result as an initializer",
            )
        self._left -= size
        self._work -= work


def _work(node: onnx.NodeProto, inputs: list[Array], result: int) -> int:
    """About how many of numpy's operations the evaluator takes; ``result``: values in all outputs together."""
    sizes = [array.size for array in inputs]
    if node.op_type in _ONCE.split() or node.op_type.startswith("Reduce"):
        return sum(sizes) + result
    if node.op_type in _SLOWLY:
        return _SLOW * (sum(sizes) + result)
    factor = 1 if all(array.dtype in (np.float32, np.float64) for array in inputs) else _SLOW // 4
    if node.op_type == "Einsum":
        return factor * _contraction(helper.get_node_attr_value(node, "equation").decode(), inputs)
    if node.op_type not in _PRODUCTS:  # every result may read every input, in a loop in Python
        return _SLOW**2 * max(1, *sizes) * max(result, 1)
    # Of each result, as many products as the last axis of the left factor is long, or the first where it is turned.
    return factor * result * max(inputs[0].shape[-1:] + inputs[0].shape[:1] * (node.op_type == "Gemm"), default=1)


def _contraction(equation: str, inputs: list[Array]) -> int:
    """Multiplications of a contraction, in the order that numpy chooses where there are few factors."""
    parts, arrow, result = equation.replace(" ", "").partition("->")
    terms = [_axes(part, array.ndim) for part, array in zip(parts.split(","), inputs, strict=True)]
    sizes: dict[str | int, int] = {}
    for term, array in zip(terms, inputs, strict=True):
        for axis, size in zip(term, array.shape, strict=True):
            sizes[axis] = max(size, sizes.get(axis, 1))
    left, steps = [set(term) for term in terms], [tuple(range(len(inputs)))]
    if 2 < len(inputs) <= _MOST_ORDERED:
        steps = np.einsum_path(equation, *inputs, optimize=True)[0][1:]
    wanted = {axis for axis in sizes if not arrow or isinstance(axis, int) or axis in result}
    work = 0
    for step in steps:
        taken = [left.pop(place) for place in sorted(step, reverse=True)]
        met = set[str | int]().union(*taken)
        work += math.prod(sizes[axis] for axis in met)
        left.append(met & wanted.union(*left))
    return work


def _axes(part: str, rank: int) -> list[str | int]:
    """The letters of a factor's axes; those of its ellipsis are numbered from the end."""
    before, dots, after = part.partition("...")
    return [*before, *(range(len(before) + len(after) - rank, 0) if dots else ()), *after]


def _result_size(node: onnx.NodeProto, feeds: Mapping[str, Array], opset: int) -> int | None:
    """Values in all outputs together, by onnx's shape inference; None where it cannot say."""
    types = {
        name: helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    }
    data = {name: numpy_helper.from_array(array) for name, array in feeds.items() if array.size <= _SMALL}
    try:
        schema = defs.get_schema(node.op_type, opset, "")
        imported = [helper.make_opsetid("", opset)]
        found = shape_inference.infer_node_outputs(schema, node, types, data, opset_imports=imported)
    except Exception as error:  # errors of onnx's C++ code have no common base
        raise Refused(
            f"does not agree with its inputs: {str(error).strip()[:200]}", "export the model again"
        ) from error
    total = 0
    for name in filter(None, node.output):
        kind = found.get(name)
        if kind is None or not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            return None
        dims = kind.tensor_type.shape.dim
        if not all(dim.HasField("dim_value") and dim.dim_value >= 0 for dim in dims):
            return None
        total += math.prod(dim.dim_value for dim in dims)
    return total
