"""Means, sums, maxima and variances over axes of each image."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from seenn.capture.arithmetic import extreme
from seenn.capture.handlers import Call, Made, Refused, Result, handles
from seenn.core.ops import AdaptiveMaxPool2d, Add, Largest, Mean, Pointwise, Reshape, Scale, Variance


@handles("amax", any_layout=True)
def largest(call: Call) -> Result:
    return _largest(call, call.argument(1, "dim"))


@handles("amin", any_layout=True)
def least(call: Call) -> Result:
    """``−max(−x)``."""
    return _negated(_largest(call, call.argument(1, "dim"), of=_negated(call.args[0])))


@handles("max", any_layout=True)
def largest_along(call: Call) -> Result:
    """Along one axis, with the places of the maxima, which are not offered; or of two values."""
    axis = call.argument(1, "dim")
    if isinstance(axis, int):
        return _largest(call, axis), None
    if call.argument(1, "other") is None:
        raise Refused("the maximum over the whole batch", "name the axes: x.amax((2, 3))")
    return extreme(call)


@handles("min", any_layout=True)
def smallest(call: Call) -> Result:
    if isinstance(axis := call.argument(1, "dim"), int):
        return _negated(_largest(call, axis, of=_negated(call.args[0]))), None
    if not isinstance(call.argument(1, "other"), fx.Node):
        raise Refused("the minimum over the whole batch", "name the axes: x.amin((2, 3))")
    return extreme(call)


@handles("argmax", "argmin", "argsort", "sort", "topk", any_layout=True)
def order(call: Call) -> Result:
    raise Refused("orders values, which spikes cannot", "return the scores, from which the order follows")


def _negated(value: Any) -> Made:
    return Made(Scale(factor=-1.0), (value,))


def _largest(call: Call, dims: Any, of: Any = None) -> Made:
    """Over height and width, or length, it is a pooling, which conversion knows more about."""
    value = call.args[0] if of is None else of
    if dims is None or dims == ():
        raise Refused("the maximum over the whole batch", "name the axes: x.amax((2, 3))")
    axes, keepdim = call.axes(dims), bool(call.argument(2, "keepdim", False))
    if not (call.layout().plain and axes in ((2,), (2, 3)) and len(call.shape()) == axes[-1] + 1):
        return Made(Largest(axes=axes, keepdim=keepdim), (value,))
    channels, *size = call.image()
    image = value if len(size) == 2 else Made(Reshape(shape=(channels, 1, *size)), (value,))
    pooled = Made(AdaptiveMaxPool2d(), (image,))
    left = (channels, *(1 for _ in size if keepdim))
    return pooled if len(left) == 3 else Made(Reshape(shape=left), (pooled,))


@handles("var", any_layout=True)
def variance(call: Call) -> Made:
    dims = call.argument(1, "dim")
    if dims is None or isinstance(dims, bool):
        raise Refused("the variance over the whole batch", "name the axes: x.var((2, 3))")
    correction = call.kwargs.get("correction", int(call.argument(2, "unbiased", True)))
    keepdim = bool(call.argument(3, "keepdim", False))
    op = Variance(axes=call.axes(dims), correction=1 if correction is None else int(correction), keepdim=keepdim)
    return call.of(op)


@handles("std", any_layout=True)
def deviation(call: Call) -> Result:
    return Made(Pointwise(function="sqrt"), (variance(call),))


@handles("mean", any_layout=True)
def mean(call: Call) -> Made:
    dims = call.argument(1, "dim", call.kwargs.get("axis"))
    if dims is None:
        raise Refused("the mean over the whole batch", "name the axes: x.mean((2, 3))")
    return call.of(Mean(axes=call.axes(dims), keepdim=bool(call.argument(2, "keepdim", False))))


@handles("sum", any_layout=True)
def total(call: Call) -> Result:
    """The mean times the number of values."""
    count = math.prod(call.shape()) // math.prod(call.shape(call.node))
    return Made(Scale(factor=float(count)), (mean(call),))


@handles("logsumexp", "special_logsumexp", any_layout=True)
def log_of_sum(call: Call) -> Result:
    """``m + log Σ exp(x − m)`` with the largest value m, which keeps it finite."""
    axes, image, source = call.axes(call.argument(1, "dim")), call.image(), call.args[0]
    count = math.prod(image[axis - 1] for axis in axes)
    largest = Made(Largest(axes=axes, keepdim=True), (source,))
    powers = Made(Pointwise(function="exp"), (Made(Add(), (source, _negated(largest))),))
    summed = Made(Scale(factor=float(count)), (Made(Mean(axes=axes, keepdim=True), (powers,)),))
    found = Made(Add(), (largest, Made(Pointwise(function="log"), (summed,))))
    return found if call.argument(2, "keepdim", False) else Made(Reshape(shape=call.image(call.node)), (found,))
