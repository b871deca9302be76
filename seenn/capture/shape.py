"""Calls that rearrange values: axes in another order, in other groups, split, padded."""

from __future__ import annotations

import torch
from torch import nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.core.ops import Expand, Flatten, Permute, Reshape, Slice


@handles(nn.Flatten, "flatten", any_layout=True)
def flatten(call: Call) -> Result:
    dims = len(call.shape())
    start, end = call.argument(1, "start_dim", 0) % dims, call.argument(2, "end_dim", -1) % dims
    if start == 0 or not call.layout().plain:
        return reshape(call)
    return Alias(call.args[0]) if end <= start else call.of(Flatten(start=start, end=end))


@handles(nn.Unflatten, "view", "_unsafe_view", "view_as", "reshape", "reshape_as", "squeeze", "unsqueeze", "unflatten",
         "atleast_3d", any_layout=True)  # fmt: skip
def reshape(call: Call) -> Result:
    """Any reshape that keeps each image's values together: the traced shapes say what it does."""
    before, after = call.shape(), call.shape(call.node)
    if not call.layout().same_order(before, call.layout(call.node), after):
        raise Refused(f"reshapes {list(before)} to {list(after)} across the batch", "keep the batch axis first")
    own, new = call.image(), call.image(call.node)
    return Alias(call.args[0]) if own == new else call.of(Reshape(shape=new))


@handles("permute", "permute_copy", any_layout=True)
def permute(call: Call) -> Result:
    first = call.argument(1, "dims")
    return _permute(call, list(first if isinstance(first, tuple | list) else call.args[1:]))


@handles("transpose", "swapaxes", "swapdims", "t", any_layout=True)
def transpose(call: Call) -> Result:
    first = call.argument(1, "dim0", call.kwargs.get("axis0", 0))
    second = call.argument(2, "dim1", call.kwargs.get("axis1", 1))
    return _swap(call, first, second)


@handles("getattr", any_layout=True)
def attribute(call: Call) -> Result:
    """``x.mT``, ``x.T`` and what is the value itself, as it is real."""
    attributes = {"mT": last_two, "mH": last_two, "T": reverse, "H": reverse, "real": same}
    if (handler := attributes.get(call.args[1])) is None:
        raise Refused(f"reads the attribute {call.args[1]!r}", "use the values themselves")
    return handler(call)


@handles("mT", "mH", "adjoint", any_layout=True)
def last_two(call: Call) -> Result:
    return _swap(call, -2, -1)


@handles("numpy_T", "matrix_H", any_layout=True)
def reverse(call: Call) -> Result:
    return _permute(call, list(reversed(range(len(call.shape())))))


@handles("movedim", "moveaxis", any_layout=True)
def move(call: Call) -> Result:
    sizes = range(1, len(call.shape()) + 1)  # all of them different: they say which axis went where
    source, target = call.argument(1, "source"), call.argument(2, "destination")
    moved = torch.movedim(torch.empty(*sizes, device="meta"), source, target)
    return _permute(call, [size - 1 for size in moved.shape])


def _swap(call: Call, first: int, second: int) -> Result:
    axes = list(range(len(call.shape())))
    axes[first], axes[second] = axes[second], axes[first]
    return _permute(call, axes)


def _permute(call: Call, axes: list[int]) -> Result:
    """Where the batch goes is noted by the traced shape; the network's axes keep it first.

    What is folded into the batch's axis moves along with it.
    """
    rank, layout = len(call.shape()), call.layout()
    order: list[int] = []
    for axis in axes:
        if axis % rank != layout.axis:
            order.append(call.axis(axis))
        elif layout.fold > 1:
            order.append(layout.axis + 1)
    if order == sorted(order):
        return Alias(call.args[0])
    return call.of(Permute(axes=(0, *order)))


@handles("chunk", "split", "tensor_split", "split_with_sizes", "unsafe_chunk", "unsafe_split", any_layout=True)
def split(call: Call) -> Result:
    dim = call.argument(2, "dim", 0)
    axis, source = call.axis(dim), call.args[0]
    sizes = [shape[dim] for shape in call.node.meta["shape"]]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(
        Made(Slice(axis=axis, start=start, stop=start + size), (source,))
        for start, size in zip(starts, sizes, strict=True)
    )


@handles("unbind", any_layout=True)
def unbind(call: Call) -> Result:
    dim = call.argument(1, "dim", 0)
    return tuple(select(call, dim, i) for i in range(call.shape()[dim]))


def select(call: Call, dim: int, index: int) -> Made:
    """``x[..., index, ...]`` along the traced axis ``dim`` of the first argument, which goes."""
    axis = call.axis(dim)
    start = index % call.shape()[dim]
    left = list(call.image())
    del left[axis - 1]
    one = call.of(Slice(axis=axis, start=start, stop=start + 1))
    return Made(Reshape(shape=tuple(left)), (one,))


@handles("expand", "expand_as", "broadcast_to", any_layout=True)
def expand(call: Call) -> Result:
    call.shared(call.args[0], call.node)
    own, new = call.image(), call.image(call.node)
    return Alias(call.args[0]) if own == new else call.of(Expand(shape=new))


_COPIES = ("alias", "lift_fresh_copy", "contiguous", "clone", "detach", "pos", "positive", "conj", "real", "nan_to_num")
_CASTS = ("_to_copy", "float", "double", "half", "bfloat16", "to", "type", "type_as")
_CUTS = ("int", "long", "short", "byte", "char", "bool")


@handles(*_COPIES, *_CASTS, *_CUTS, any_layout=True)
def same(call: Call) -> Result:
    before, after = (node.meta.get("dtype") for node in (call.args[0], call.node))
    kinds = None if after is None else (after.is_floating_point, after.is_complex)
    if before is not None and before.is_floating_point and kinds == (False, False):
        kind = str(after).removeprefix("torch.")
        raise Refused(f"casts activations to {kind}", "write it as torch.floor or torch.round with constant limits")
    return Alias(call.args[0])
