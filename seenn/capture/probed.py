"""Calls that are linear in the image, known by what they make of the numbers of its values, or of a basis.

Whether a call is linear no experiment can show: the tables of names say it. What it does with its arguments, torch
itself says, by running it once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg

from seenn.capture.handlers import IMAGE, Alias, Call, Made, Refused, Result, called, handles
from seenn.core.ops import Add, Constant, ElementwiseAffine, Linear, Op, Pad, Permute, Reshape, Slice, Take

_IMAGES = 2  # in an experiment on numbers: what the second does not share with the first is its own
SHUT = -1e9  # what softmax makes 0, as it does of −∞; sums with it stay finite
MOST_WEIGHTS = 1 << 22  # of a map that is written out
#: Put values of their arguments, and constants, in other places.
_MOVES = """
    _unsafe_index copy diag_embed diagonal diagonal_scatter dsplit fill fliplr flipud gather hsplit index index_copy
    index_fill linalg_diagonal native_channel_shuffle rot90 select_scatter slice_scatter take_along_dim tril triu
"""


@handles(*_MOVES.split())
def moved(call: Call) -> Result:
    """Where the numbers of the image's values end up, those values do."""
    sources = [node for node in call.node.all_input_nodes if "shape" in node.meta and call.known(node) is None]
    shapes = {node: call.image(node) for node in sources}
    nothing = {node: torch.zeros(_IMAGES, *shape, dtype=torch.float64) for node, shape in shapes.items()}
    shape, layout = call.node.meta["shape"], call.node.meta["layout"]
    several = not isinstance(shape, torch.Size)
    layouts, base = layout if several else (layout,), _parts(run(call, nothing, _IMAGES))
    if called(call.node.target) in ("masked_fill", "where") and all(is_softmax(user) for user in call.node.users):
        base = [start.clamp(min=SHUT) for start in base]
    parts: list[list[Any]] = [[] for _ in base]
    for node in sources:
        numbers = torch.arange(1.0, 1 + nothing[node].numel(), dtype=torch.float64).view(nothing[node].shape)
        for part, answer, start, place in zip(
            parts, _parts(run(call, {**nothing, node: numbers}, _IMAGES)), base, layouts, strict=True
        ):
            if place is None or place.fold != 1:
                raise Refused("it moves images into each other", "keep images independent, the batch axis first")
            if not bool(start.isfinite().all()):
                raise Refused("fills with values that are not finite", "use a finite number, such as -1e4")
            first, second = (answer.clamp(min=SHUT) - start).movedim(place.axis, 0)
            if not torch.equal(second, torch.where(first == 0, 0, first + math.prod(shapes[node]))):
                raise Refused("it works across the batch", "keep images independent: act on the axes after the first")
            if bool((first != 0).any()):
                part.append(_taken(node, shapes[node], first.long() - 1))
    made = tuple(
        _with(call, found, start.movedim(place.axis, 0)[0])
        for found, start, place in zip(parts, base, layouts, strict=True)
    )
    return made if several else made[0]


def run(call: Call, images: Mapping[fx.Node, Tensor], count: int) -> Any:
    """What the call makes of ``count`` images, given for each value that depends on them."""

    def resolve(node: fx.Node) -> Any:
        if node in images:
            return images[node].clone()
        if "value" in node.meta:
            if node.meta["varies"]:
                raise Refused("depends on how many images there are", "keep images independent")
            return node.meta["value"]
        constant, layout = call.constant(node), node.meta["layout"]
        if constant.is_floating_point():
            constant = constant.double()
        if layout is None:
            return constant
        return constant.expand([count if axis == layout.axis else -1 for axis in range(constant.dim())])

    args, kwargs = map_arg((call.node.args, dict(call.node.kwargs)), resolve)
    target: Any = call.node.target
    with torch.no_grad():
        if isinstance(target, str):
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)


def is_softmax(node: fx.Node) -> bool:
    if node.op == "call_module":
        owner = node.graph.owning_module
        return owner is not None and isinstance(owner.get_submodule(str(node.target)), nn.Softmax)
    return called(node.target) == "softmax"


def _parts(answer: Any) -> Sequence[Tensor]:
    return (answer,) if isinstance(answer, Tensor) else answer


def _with(call: Call, parts: Sequence[Any], constant: Tensor) -> Made | Alias:
    """The sum of moved values and a constant."""
    bias = constant.to(call.node.meta.get("dtype", torch.get_default_dtype()))
    if not parts:
        return Made(Constant(bias), (IMAGE,))
    made = parts[0] if len(parts) == 1 else Made(Add(), tuple(parts))
    if bool(bias.any()):
        return Made(ElementwiseAffine(bias=bias), (made,))
    return made if isinstance(made, Made) else Alias(made)


def _taken(source: Any, before: Sequence[int], index: Tensor) -> Any:
    """``source`` by the numbers of its values, −1 for a zero; along the shortest axis that says as much."""
    after, size = tuple(index.shape), math.prod(before)
    if after == tuple(before) and torch.equal(index.flatten(), torch.arange(size)):
        return source
    outer = inner = 1
    for tail in range(min(len(before), len(after)), 0, -1):  # values that stay together
        inner = math.prod(after[len(after) - tail :])
        rows = index.reshape(-1, inner)
        together = torch.where(rows[:, :1] < 0, -1, rows[:, :1] + torch.arange(inner))
        if before[len(before) - tail :] == after[len(after) - tail :] and torch.equal(rows, together):
            break
        inner = 1
    index, size = index.reshape(-1, inner)[:, 0].div(inner, rounding_mode="floor"), size // inner
    for head in range(min(len(before), len(after)), 0, -1):  # parts with which the same happens
        outer = math.prod(after[:head])
        if before[:head] == after[:head] and outer * inner <= math.prod(after):
            rows, step = index.reshape(outer, -1), size // outer
            alike = torch.where(rows[:1] < 0, -1, rows[:1] + step * torch.arange(outer).view(-1, 1))
            if torch.equal(rows, alike) and int(rows[0].max()) < step:
                break
        outer = 1
    index, size = index.reshape(outer, -1)[0], size // outer
    value: Any = Made(Reshape(shape=(outer, size, inner)), (source,))
    if bool((index < 0).any()):
        value = Made(Pad(amounts=(0, 0, 0, 1)), (value,))
    chosen = torch.where(index < 0, size, index).tolist()
    op: Op = Take(axis=2, index=tuple(chosen))
    if chosen == list(range(chosen[0], chosen[0] + len(chosen))):
        op = Slice(axis=2, start=chosen[0], stop=chosen[0] + len(chosen))
    return Made(Reshape(shape=after), (Made(op, (value,)),))


@handles("cumsum")
def running_sum(call: Call) -> Result:
    return weighted(call, (call.argument(1, "dim"),))


@handles("diff")
def differences(call: Call) -> Result:
    if any(call.argument(place, name) is not None for place, name in ((3, "prepend"), (4, "append"))):
        raise Refused("joins other values before it takes differences", "use torch.cat, then diff")
    return weighted(call, (call.argument(2, "dim", -1),))


@handles("trapezoid", "trapz", "cumulative_trapezoid")
def integral(call: Call) -> Result:
    return weighted(call, (call.kwargs.get("dim", -1),))


@handles("grid_sample", "grid_sampler", "grid_sampler_2d")
def sampled(call: Call) -> Result:
    """At places that are the same for all images."""
    if call.known(call.argument(1, "grid")) is None:
        raise Refused("samples at places that depend on the image", "keep the places in a buffer")
    return weighted(call, range(2, len(call.shape())))


def weighted(call: Call, dims: Iterable[int]) -> Result:
    """A call that is linear along ``dims`` of its first argument, and does the same along all other axes."""
    axes, image, new = [call.axis(dim) for dim in dims], call.image(), call.image(call.node)
    others = [axis for axis in range(1, len(image) + 1) if axis not in axes]
    size = math.prod(image[axis - 1] for axis in axes)
    basis = torch.eye(size, dtype=torch.float64)
    basis = basis.view(size, *(image[axis - 1] if axis in axes else 1 for axis in range(1, len(image) + 1)))
    matrix = run(call, {call.args[0]: basis}, size).reshape(size, -1).T.to(call.args[0].meta["dtype"])
    labels = [*others, *axes][: len(new)]  # axes that are summed up go
    ends = [new[axis - 1] for axis in axes if axis in labels]
    return ordered(mapped(call.args[0], image, axes, matrix, ends), [labels.index(label) for label in sorted(labels)])


def mapped(source: Any, image: Sequence[int], axes: Sequence[int], matrix: Tensor, ends: Sequence[int]) -> Made:
    """``matrix`` times what lies along ``axes`` of ``source``, of shape ``image``: ``[B, other axes, *ends]``."""
    if matrix.numel() > MOST_WEIGHTS:
        raise Refused(f"mixes {matrix.shape[1]} values of an image into {len(matrix)}", "use one axis at a time")
    others = [axis for axis in range(1, len(image) + 1) if axis not in axes]
    kept = [image[axis - 1] for axis in others]
    together = ordered(source, [axis - 1 for axis in (*others, *axes)])
    rows = Made(Reshape(shape=(*kept, matrix.shape[1])), (together,))
    return Made(Reshape(shape=(*kept, *ends)), (Made(Linear(matrix.contiguous()), (rows,)),))


def ordered(value: Any, order: Sequence[int]) -> Made | Alias:
    """The axes of each image in another order."""
    if list(order) == sorted(order):
        return value if isinstance(value, Made) else Alias(value)
    return Made(Permute(axes=(0, *(i + 1 for i in order))), (value,))
