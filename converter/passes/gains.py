"""Folding gains and shifts, such as those of layer normalisation, into the linear layers behind them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from converter.passes.batch_norm import rewire
from seenn.core.graph import INPUT, OpGraph
from seenn.core.ops import ElementwiseAffine, Linear, Op


def fold_gains(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Removes every ``ElementwiseAffine`` along the last axis that only linear layers read.

    ``W (g·x + s) + b = (W·g) x + (W s + b)``: what they read then is the normalised value itself.
    """
    users, shapes = graph.users(), graph.shapes(input_shape)
    changes: dict[str, Op] = {}
    renamed: dict[str, str] = {}
    for node in graph:
        readers, source = users[node.name], node.inputs[0]
        if not isinstance(node.op, ElementwiseAffine) or shapes.get(source, input_shape) != shapes[node.name]:
            continue
        parts = [t.detach() for t in (node.op.weight, node.op.bias) if t is not None]
        along_last = all(t.numel() in (1, t.shape[-1]) for t in parts if t.dim())
        linear = [changes.get(reader.name, reader.op) for reader in readers]
        if node.name == graph.output or source == INPUT or not linear or not along_last:
            continue
        if all(isinstance(op, Linear) for op in linear):
            for reader, op in zip(readers, linear, strict=True):
                assert isinstance(op, Linear)
                changes[reader.name] = _after(op, node.op)
            renamed[node.name] = source
    return rewire(graph, changes, renamed)


def _after(linear: Linear, affine: ElementwiseAffine) -> Linear:
    """``linear ∘ affine`` as one linear layer."""
    weight, bias = linear.weight.detach(), None if linear.bias is None else linear.bias.detach()
    if affine.bias is not None:
        shift: Tensor = weight @ affine.bias.detach().flatten().expand(weight.shape[1])
        bias = shift if bias is None else bias + shift
    if affine.weight is not None:
        weight = weight * affine.weight.detach().flatten()
    return Linear(weight, bias)
