"""Quantisers: as torch calls them, and written out as a division, a clamp, a rounding and a multiplication.

What surrounds a rounding is a staircase ``gain · clip(⌊slope·x + offset⌋, low, high) + shift``, whatever the order in
which affine maps and clips come. With s = 1/slope that is a ``Quantiser`` of step size s, mostly with nothing beside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from seenn.capture.captured import Offender, Passing
from seenn.capture.handlers import Call, Made, Refused, Result, handles
from seenn.core.graph import INPUT, Node, OpGraph, prune
from seenn.core.ops import ElementwiseAffine, Op, Pointwise, ReLU, Scale, Shift, quantiser

_INFINITE = float("inf")


class Round(Passing):
    """``⌊x + ½⌋``: what a quantiser is recognised by. ``to_even``: the model rounds halves to even instead."""

    kind = "round"
    reason, fix = "rounds without limits", "clamp before or after it, to constant limits"

    def __init__(self, *, to_even: bool = False) -> None:
        super().__init__()
        self.to_even = to_even

    def forward(self, *inputs: Tensor) -> Tensor:
        return (inputs[0] + 0.5).floor()


@handles("round", any_layout=True)
def round_(call: Call) -> Result:
    if call.argument(1, "decimals", 0):
        raise Refused("rounds to decimals", "scale before and after it instead")
    return call.of(Round(to_even=True))


@handles("floor", any_layout=True)
def floor(call: Call) -> Result:
    return Made(Round(), (call.of(Shift(amount=-0.5)),))


@handles("fake_quantize_per_tensor_affine", "_fake_quantize_learnable_per_tensor_affine", any_layout=True)
def per_tensor(call: Call) -> Result:
    return _quantiser(call, call.argument(3, "quant_min"), call.argument(4, "quant_max"), axis=1)


@handles("fake_quantize_per_channel_affine", "_fake_quantize_learnable_per_channel_affine", any_layout=True)
def per_channel(call: Call) -> Result:
    axis = call.axis(call.argument(3, "axis"))
    return _quantiser(call, call.argument(4, "quant_min"), call.argument(5, "quant_max"), axis=axis)


def _quantiser(call: Call, low: int, high: int, *, axis: int) -> Result:
    scale, zero = (_tensor(call, call.argument(i, name)) for i, name in ((1, "scale"), (2, "zero_point")))
    scale, point = scale.float().squeeze(), zero.double().round().squeeze()  # torch has scales in single precision
    scale = scale.to(call.node.meta["dtype"])
    first = min(max(int(point.max()), low), high)  # the level that stands for 0, of all channels
    try:
        op = quantiser(scale, low - first, high - first, axis=axis)
    except ValueError as error:
        raise Refused(f"is no quantiser: {error}", "train its scale to stay above 0") from error
    if bool(point.eq(first).all()):
        return call.of(op)
    rank = len(call.shape())
    beyond = (scale * (point - first)).to(scale).reshape(*(-1 if i == axis else 1 for i in range(1, rank)))
    shifted = call.of(ElementwiseAffine(bias=beyond))
    return Made(ElementwiseAffine(bias=-beyond), (Made(op, (shifted,)),))


def _tensor(call: Call, value: Any) -> Tensor:
    return call.constant(value) if isinstance(value, torch.fx.Node) else torch.as_tensor(value, dtype=torch.float64)


def find_quantisers(graph: OpGraph, shapes: Mapping[str, Tensor]) -> tuple[OpGraph, tuple[Offender, ...]]:
    """The graph with one op for every quantiser, and what rounds without being one.

    Args:
        graph: as captured.
        shapes: a tensor of the type and the number of axes of every value.
    """
    offenders = []
    if any(isinstance(node.op, Round) for node in graph):
        graph = OpGraph(prune(graph, graph.output), graph.output)
    for node in graph:
        if isinstance(node.op, Round) and node in graph.nodes:
            try:
                graph = _replaced(graph, node, shapes[node.name])
            except Refused as why:
                offenders.append(Offender(node.name, "round", why.reason, why.fix))
    return graph, tuple(offenders)


def _replaced(graph: OpGraph, rounding: Node, like: Tensor) -> OpGraph:
    """The graph with the quantiser around ``rounding``: of what may be part of it, that which leaves fewest ops.

    Raises:
        Refused: there is none.
    """
    users, before, after = graph.users(), [], [rounding]
    source = rounding.inputs[0]
    while source != INPUT and _elementary(graph[source].op) is not None:
        before.append(graph[source])
        source = graph[source].inputs[0]
    while len(readers := users[after[-1].name]) == 1 and _elementary(readers[0].op) is not None:
        after.append(readers[0])
    exact = 64 * torch.finfo(like.dtype).eps
    found: list[tuple[list[Op], int, int]] = []
    assert isinstance(rounding.op, Round)
    stairs = _Stairs.of_rounding(to_even=rounding.op.to_even)
    for first in range(len(before) + 1):
        if first:
            stairs = stairs.of(before[first - 1].op)
        wider = stairs
        for last, node in enumerate(after):
            if last:
                wider = wider.then(node.op, exact)
            if (ops := wider.ops(like, exact)) is not None:
                found.append((ops, first, last))
    if not found and any(bool(limit.isnan().any()) for limit in (wider.low, wider.high)):
        raise Refused("is clipped between two of its levels", "clip to multiples of its step, or before the rounding")
    if not found:
        raise Refused(Round.reason, Round.fix)
    ops, first, last = min(found, key=lambda choice: (len(choice[0]) - choice[1] - choice[2], choice[1] + choice[2]))
    end, read = after[last].name, before[first - 1].inputs[0] if first else rounding.inputs[0]
    names = [*(f"{end}.{op.title}" for op in ops[:-1]), end]
    new = [Node(name, op, (source,)) for name, op, source in zip(names, ops, (read, *names), strict=False)]
    nodes = [each for node in graph for each in (new if node.name == end else [node])]
    return OpGraph(prune(nodes, graph.output), graph.output)


@dataclass(frozen=True)
class _Stairs:
    """``gain · clip(⌊slope·x + offset⌋, low, high) + shift``; in float64, each broadcasts against one image."""

    slope: Tensor
    offset: Tensor
    low: Tensor
    high: Tensor
    gain: Tensor
    shift: Tensor
    to_even: bool  # halves, by the model

    @classmethod
    def of_rounding(cls, *, to_even: bool) -> Self:
        one = torch.ones((), dtype=torch.float64)
        return cls(one, one / 2, one * -_INFINITE, one * _INFINITE, one, one * 0, to_even)

    def of(self, op: Op) -> _Stairs:
        """These of what ``op`` makes of x."""
        low, high, weight, bias = _elementary(op) or _NOTHING
        low, high = (self._level(limit) for limit in (low, high))
        offset = self.offset + self.slope * bias
        return replace(self, slope=self.slope * weight, offset=offset,
                       low=self.low.maximum(low), high=self.high.minimum(high))  # fmt: skip

    def _level(self, limit: Any) -> Tensor:
        """The level of a clip at ``limit``, which is that of everything beyond: a half is no rare value there."""
        level = torch.floor(self.slope * limit + self.offset + 1e-9)
        half = (self.slope * limit + self.offset - level).abs() <= 1e-9
        if self.to_even and bool((half & (level % 2 != 0) & (self.low < level) & (level <= self.high)).any()):
            raise Refused(
                "clips in the middle between two of its levels, and rounds what it clips to even",
                "clip to a multiple of its step",
            )
        return level

    def then(self, op: Op, exact: float) -> _Stairs:
        """What ``op`` makes of these; a limit that cuts between two levels leaves no stairs, and is not a number."""
        low, high, weight, bias = _elementary(op) or _NOTHING
        low, high = ((limit - self.shift) / self.gain for limit in (low, high))
        low = torch.where(low <= self.low, self.low, _whole(low, exact))
        high = torch.where(high >= self.high, self.high, _whole(high, exact))
        return replace(self, gain=self.gain * weight, shift=self.shift * weight + bias, low=low, high=high)

    def ops(self, like: Tensor, exact: float) -> list[Op] | None:
        """The quantiser, with what is left to do before and after it; None if these are none."""
        weight = self.gain * self.slope
        weight = torch.where((weight - 1).abs() <= exact, 1.0, weight)
        if not bool(((self.slope > 0) & self.slope.isfinite() & (self.gain > 0)).all()):
            if bool((~self.slope.isfinite() | ((self.slope < 0) & (weight > 0))).any()):
                least = float(torch.where(self.slope.isfinite(), self.gain, 0.0).min())
                raise Refused(
                    f"quantises with a scale of {least:g}, which must be positive", "train it to stay above 0"
                )
            return None
        if not all(bool(limit.isfinite().all()) for limit in (self.low, self.high)):
            return None
        whole = (self.offset - 0.5).round()
        if not _uniform(self.low - whole):  # zero points that differ: x is shifted to the levels of all
            whole = self.low - self.low.max()
        limits = self.low - whole, self.high - whole
        if not all(map(_uniform, limits)):
            return None
        low, high = (int(limit.max()) for limit in limits)
        if low >= high:
            return None
        zero = min(max(0, low), high)  # where 0 is no level, the nearest takes its place
        whole = whole + zero
        before, after = self.offset - 0.5 - whole, self.shift / self.gain + whole  # in levels
        before, after = (torch.where(each.abs() <= exact, 0.0, each) for each in (before, after))
        scale, axis = _along_channels(1 / self.slope, like.dim())
        try:
            core = quantiser(scale.to(like.dtype), low - zero, high - zero, axis=axis)
        except ValueError as error:
            raise Refused(f"is no quantiser: {error}", "quantise to fewer bits") from error
        shift = _affine(torch.ones_like(weight), before / self.slope, like)
        return [*shift, core, *_affine(weight, after * self.gain, like)]


def _whole(limit: Tensor, exact: float) -> Tensor:
    """The level that a limit is, up to rounding; else not a number."""
    return torch.where((limit - limit.round()).abs() <= exact * (1 + limit.abs()), limit.round(), torch.nan)


def _along_channels(scale: Tensor, rank: int) -> tuple[Tensor, int]:
    """One scale, or one a channel, and their axis; the batch is 0."""
    if _uniform(scale):
        return scale.max(), 1
    axes = [axis for axis, size in enumerate(scale.shape, rank - scale.dim()) if size > 1]
    if len(axes) > 1:
        raise Refused("rounds to scales that differ along several axes", "use one scale, or one a channel")
    return scale.flatten(), axes[0]


def _affine(weight: Tensor, bias: Tensor, like: Tensor) -> list[Op]:
    """The op that multiplies and adds, if one is needed."""
    if bool((weight == 1).all() & (bias == 0).all()):
        return []
    return [ElementwiseAffine(weight.to(like.dtype), bias.to(like.dtype))]


def _uniform(values: Tensor) -> bool:
    return bool((values == values.max()).all())


_NOTHING = (-_INFINITE, _INFINITE, 1.0, 0.0)


def _elementary(op: Op) -> tuple[Any, Any, Any, Any] | None:
    """``(low, high, weight, bias)`` of a clip, or of an affine map: numbers or tensors; None of any other op."""
    if isinstance(op, Scale):
        return -_INFINITE, _INFINITE, op.factor, 0.0
    if isinstance(op, Shift):
        return -_INFINITE, _INFINITE, 1.0, op.amount
    if isinstance(op, ElementwiseAffine):
        weight, bias = (t if t is None else t.detach().double() for t in (op.weight, op.bias))
        return -_INFINITE, _INFINITE, 1.0 if weight is None else weight, 0.0 if bias is None else bias
    if isinstance(op, ReLU):
        return 0.0, _INFINITE if op.ceiling is None else op.ceiling, 1.0, 0.0
    if isinstance(op, Pointwise) and op.function in ("hardtanh", "clamp_min", "clamp_max"):
        limits = op.settings
        low, high = limits.get("min", limits.get("min_val")), limits.get("max", limits.get("max_val"))
        return -_INFINITE if low is None else low, _INFINITE if high is None else high, 1.0, 0.0
    return None
