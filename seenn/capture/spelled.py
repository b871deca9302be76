"""Activations spelled by comparisons, maxima and absolute values, and clips in a row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from seenn.capture.captured import Passing
from seenn.capture.handlers import Call, Made, Refused, Result, called, handles, value_of
from seenn.capture.probed import moved
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import ElementwiseAffine, LeakyReLU, Op, Pointwise, ReLU, Scale, Shift

_SIGNS = {"gt": 1, "ge": 1, "greater": 1, "greater_equal": 1, "lt": -1, "le": -1, "less": -1, "less_equal": -1}
_CASTS = ("float", "double", "half", "bfloat16", "to", "type", "type_as", "_to_copy")


class Comparison(Passing):
    """``x > 0`` and its like, as part of an activation that is written with it."""

    kind = "comparison"
    reason, fix = "compares values, which spikes cannot", "write it as torch.relu, F.leaky_relu or torch.clamp"

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.zeros_like(inputs[0])


@handles(*_SIGNS, any_layout=True)
def compare(call: Call) -> Result:
    return call.of(Comparison())


def sign_of(condition: Any, call: Call) -> tuple[int, Any] | None:
    """``(1, x)`` for x > 0, ``(-1, x)`` for x < 0, whatever the comparison's name; None for any other condition."""
    condition = value_of(condition, *_CASTS)
    if not isinstance(condition, fx.Node) or called(condition.target) not in _SIGNS or len(condition.args) != 2:
        return None
    sign = _SIGNS[called(condition.target)]
    left, right = condition.args
    if is_zero(call, right):
        return sign, value_of(left)
    return (-sign, value_of(right)) if is_zero(call, left) else None


def is_zero(call: Call, value: Any) -> bool:
    """Whether an operand is 0 wherever it is."""
    if isinstance(value, int | float):
        return value == 0
    found = call.known(value)
    return found is not None and not bool(found.any())


def one_side(call: Call, sign: int, x: Any) -> Result:
    """x where it is above (1) or below (-1) 0, else 0."""
    if sign > 0:
        return Made(ReLU(), (x,))
    return Made(Scale(factor=-1.0), (Made(ReLU(), (Made(Scale(factor=-1.0), (x,)),)),))


@handles("where", any_layout=True)
def where(call: Call) -> Result:
    """Of x and 0, or of x and a multiple of it, by the sign of x."""
    condition, above, below = call.args[0], call.argument(1, "input"), call.argument(2, "other")
    if call.node.op == "call_method":  # x.where(condition, other)
        condition, above = call.argument(1, "condition"), call.args[0]
    if call.known(condition) is not None:
        return moved(call)
    found = sign_of(condition, call)
    if found is not None:
        sign, x = found
        above, below = (above, below) if sign > 0 else (below, above)
        if value_of(above) is x and is_zero(call, below):
            return one_side(call, 1, x)
        if value_of(below) is x and is_zero(call, above):
            return one_side(call, -1, x)
        if value_of(above) is x and (slope := _multiple(call, below, x)) is not None:
            return Made(LeakyReLU(slope), (x,))
    raise Refused("chooses by a condition", "write it as torch.relu, F.leaky_relu or torch.clamp")


def _multiple(call: Call, value: Any, x: Any) -> Tensor | None:
    """The number by which ``value`` is x multiplied."""
    value = value_of(value)
    if not isinstance(value, fx.Node) or called(value.target) not in ("mul", "multiply"):
        return None
    for one, other in (value.args[:2], value.args[1::-1]):
        if value_of(one) is x:
            found = call.known(other)
            factor = torch.as_tensor(other, dtype=torch.float64) if found is None else found
            return factor.detach().view(()) if factor.numel() == 1 else None
    return None


@handles("masked_fill", any_layout=True)
def masked_fill(call: Call) -> Result:
    return _filled(call, call.argument(1, "mask"), call.argument(2, "value"))


@handles("index_put", any_layout=True)
def index_put(call: Call) -> Result:
    """``x[x < 0] = 0``, or what is written at places that are the same for all images."""
    indices = call.argument(1, "indices")
    if all(index is None or call.known(index) is not None for index in indices):
        return moved(call)
    if len(indices) > 1 or call.argument(3, "accumulate", False):
        raise Refused("writes at places that it computes", "keep them, or write it as x.masked_fill(x < 0, 0)")
    return _filled(call, indices[0], call.argument(2, "values"))


def _filled(call: Call, mask: Any, value: Any) -> Result:
    if call.known(mask) is not None:
        return moved(call)
    found = sign_of(mask, call)
    if found is None or found[1] is not value_of(call.args[0]) or not is_zero(call, value):
        raise Refused("fills where a mask says", "write it as torch.relu or torch.clamp, or as x.masked_fill(x < 0, 0)")
    return one_side(call, -found[0], call.args[0])


def product(call: Call, left: Any, right: Any) -> Result | None:
    """``x * (x > 0)``; None for other products."""
    for x, mask in ((left, right), (right, left)):
        if (found := sign_of(mask, call)) is not None and found[1] is value_of(x):
            return one_side(call, found[0], x)
    return None


def total(call: Call, left: Any, right: Any, factor: float) -> Result | None:
    """``x + |x|``, and PACT's ``|x| − |x − a|`` = 2·clip(x, 0, a) − a; None for other sums."""
    of_left, of_right = _absolute(left), _absolute(right)
    if factor == 1 and of_right is not None and of_right is value_of(left):
        return Made(Scale(factor=2.0), (Made(ReLU(), (left,)),))
    if factor == 1 and of_left is not None and of_left is value_of(right):
        return Made(Scale(factor=2.0), (Made(ReLU(), (right,)),))
    if factor == -1 and of_left is not None and (inner := value_of(_inside(right))) is not None:
        bound = call.known(inner.args[1]) if _is(inner, "sub") and value_of(inner.args[0]) is of_left else None
        if bound is not None and bound.numel() == 1 and float(bound.detach()) > 0:
            ceiling = float(bound.detach())
            clipped = Made(ReLU(ceiling=ceiling), (of_left,))
            return Made(Shift(amount=-ceiling), (Made(Scale(factor=2.0), (clipped,)),))
    return None


def _absolute(value: Any) -> Any:
    """x of ``|x|``."""
    return None if (inner := _inside(value)) is None else value_of(inner)


def _inside(value: Any) -> Any:
    value = value_of(value)
    return value.args[0] if _is(value, "abs") else None


def _is(value: Any, name: str) -> bool:
    return isinstance(value, fx.Node) and called(value.target) == name


def simplified(graph: OpGraph) -> OpGraph:
    """The graph with clips that follow each other as one."""
    while (after := _once(graph)) is not graph:
        graph = after
    return graph


def _once(graph: OpGraph) -> OpGraph:
    users = graph.users()
    for node in graph:
        source = node.inputs[0]
        if len(node.inputs) > 1 or source == INPUT or len(users[source]) > 1 or source == graph.output:
            continue
        before = graph[source]
        if (op := _merged(before.op, node.op)) is not None:
            return _joined(graph, before, node, op)
    return graph


def _joined(graph: OpGraph, before: Node, node: Node, op: Op) -> OpGraph:
    """The graph with ``op`` in place of both nodes, or with nothing where it does nothing."""
    (source,) = before.inputs
    if not (isinstance(op, Scale) and op.factor == 1.0 and (source != INPUT or node.name != graph.output)):
        return OpGraph(
            [Node(n.name, op, (source,)) if n is node else n for n in graph if n is not before], graph.output
        )
    kept = [n for n in graph if n not in (before, node)]
    nodes = [Node(n.name, n.op, tuple(source if name == node.name else name for name in n.inputs)) for n in kept]
    return OpGraph(nodes, source if graph.output == node.name else graph.output)


def _merged(first: Op, second: Op) -> Op | None:
    """One op that does what both do, the one after the other; None where there is none."""
    for clip, limit in ((first, second), (second, first)):
        if isinstance(clip, ReLU) and isinstance(limit, Pointwise) and limit.function == "clamp_max":
            ceiling = min(limit.settings["max"], float("inf") if clip.ceiling is None else clip.ceiling)
            return ReLU(ceiling=ceiling) if ceiling > 0 else None
    one, two = _numbers(first), _numbers(second)
    if one is None or two is None:
        return None
    factor, amount = one[0] * two[0], one[1] * two[0] + two[1]
    if abs(amount) <= 1e-15 * (abs(one[1] * two[0]) + abs(two[1])):
        return Scale(factor=1.0 if abs(factor - 1.0) <= 1e-15 else factor)
    return Shift(amount=amount) if factor == 1.0 else None


def _numbers(op: Op) -> tuple[float, float] | None:
    """Factor and summand of an op that multiplies by a number and adds one."""
    if isinstance(op, Scale):
        return op.factor, 0.0
    if isinstance(op, Shift):
        return 1.0, op.amount
    if isinstance(op, ElementwiseAffine) and all(t.numel() == 1 and t.dim() < 2 for t in op.tensors().values()):
        return tuple(default if t is None else float(t.detach()) for t, default in ((op.weight, 1.0), (op.bias, 0.0)))  # type: ignore[return-value]
    return None
