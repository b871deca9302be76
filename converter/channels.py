"""Which axis of a value holds its channels: neurons have a threshold for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import Conv2d, Flatten, L2Norm, Largest, Linear, Mean, Permute, Reshape, Variance

Shape = tuple[int, ...]


def channel_axes(graph: OpGraph, shapes: Mapping[str, Shape]) -> dict[str, int]:
    """The channel axis of every value, batch included in the count.

    Images and what a convolution makes of them have their channels first, ``[B, C, H, W]``; a linear layer has them
    last, ``[B, N, C]``. Everything else moves them as it moves axes, or leaves them where its input has them.

    Args:
        shapes: of all values, without the batch (``graph.shapes()``).
    """
    axes = {INPUT: 1}
    for node in graph:
        axes[node.name] = _axis(node, axes[node.inputs[0]], shapes[node.inputs[0]], shapes[node.name])
    return axes


def _axis(node: Node, before: int, own: Shape, new: Shape) -> int:
    op = node.op
    if isinstance(op, Conv2d):
        return 1
    if isinstance(op, Linear):
        return len(new)
    if isinstance(op, Permute):
        return op.axes.index(before)
    if isinstance(op, Reshape | Flatten):
        return _reshaped(before, own, new)
    if isinstance(op, Mean | Largest | Variance | L2Norm) and not op.keepdim and before not in op.axes:
        return before - sum(axis < before for axis in op.axes)
    return before if len(new) == len(own) else min(before, len(new))


def _reshaped(before: int, own: Sequence[int], new: Sequence[int]) -> int:
    """The axis of the same size with as much before it; else the one that it was merged into, or its outer part."""
    outer = _size(own[: before - 1])
    for axis in range(1, len(new) + 1):
        if _size(new[: axis - 1]) == outer and new[axis - 1] == own[before - 1]:
            return axis
    inner = [axis for axis in range(1, len(new) + 1) if _size(new[: axis - 1]) <= outer]
    return inner[-1] if inner else 1


def _size(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product
