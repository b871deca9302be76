"""Average and maximum pooling, windowed, adaptive and global."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.capture.parts import by_part
from seenn.capture.rows import by_row
from seenn.core.ops import AdaptiveAvgPool2d, AdaptiveMaxPool2d, AvgPool2d, MaxPool2d, Reshape, Scale

_MAX = ("max_pool1d", "max_pool2d", "max_pool1d_with_indices", "max_pool2d_with_indices")
_ADAPTIVE_MAX = tuple(f"adaptive_{name}" for name in _MAX)
_INCLUDE = ("count_include_pad", True)  # average pooling's argument, and its default


@handles(nn.AvgPool1d, nn.AvgPool2d, "avg_pool1d", "avg_pool2d", any_layout=True)
@by_row
@by_part
def avg_pool(call: Call) -> Result:
    return _divided(call, 2, call.of(AvgPool2d(**_average(call))))


@handles(nn.AvgPool3d, "avg_pool3d")
def avg_pool_3d(call: Call) -> Result:
    """Along the first of the three axes, then over the others: the mean of a box is that of its slices' means."""
    *channels, depth, height, width = call.image()
    slices, settings = math.prod(channels), _average(call)
    box = {name: _each(settings.pop(name), 3) for name in ("kernel", "stride", "padding")}
    across: dict[str, Any] = {name: (each[0], 0 if name == "padding" else 1) for name, each in box.items()}
    within = {name: each[1:] for name, each in box.items()}
    pooled = call.of(Reshape(shape=(slices, depth, height * width)))
    pooled = Made(AvgPool2d(**across, **settings), (pooled,))
    pooled = Made(Reshape(shape=(slices * call.image(call.node)[-3], height, width)), (pooled,))
    pooled = Made(AvgPool2d(**within, **settings), (pooled,))
    return _divided(call, 3, Made(Reshape(shape=call.image(call.node)), (pooled,)))


@handles(nn.MaxPool1d, nn.MaxPool2d, *_MAX, any_layout=True)
@by_row
@by_part
def max_pool(call: Call) -> Result:
    if call.argument(6, "return_indices", False):
        raise Refused("return_indices=True", "leave it out, and use the values alone")
    dilation, ceil = call.argument(4, "dilation", 1), call.argument(5, "ceil_mode", False)
    return call.of(MaxPool2d(**_window(call), dilation=dilation, ceil_mode=ceil))


@handles(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, "adaptive_avg_pool1d", "adaptive_avg_pool2d", any_layout=True)
@by_row
@by_part
def adaptive_avg(call: Call) -> Result:
    return call.of(AdaptiveAvgPool2d(size=_size(call, call.argument(1, "output_size"))))


@handles(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, *_ADAPTIVE_MAX, any_layout=True)
@by_row
@by_part
def adaptive_max(call: Call) -> Result:
    return call.of(AdaptiveMaxPool2d(size=_size(call, call.argument(1, "output_size"))))


@handles(nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout, any_layout=True)
def nothing(call: Call) -> Result:
    """Dropout does nothing outside training."""
    if isinstance(call.module, nn.modules.dropout._DropoutNd) and call.module.training and call.module.p > 0:
        raise Refused("drops values at random in training mode", "call model.eval() first, or take the dropout out")
    return Alias(call.args[0])


@handles(
    "dropout", "dropout1d", "dropout2d", "alpha_dropout", "feature_alpha_dropout", "feature_dropout", any_layout=True
)
def functional_dropout(call: Call) -> Result:
    """Does nothing outside training; the default argument is ``training=True``, a well-known trap."""
    default = call.node.target in (F.dropout, F.dropout1d, F.dropout2d)
    if call.argument(2, "training", default):
        raise Refused("dropout that is always on", "pass training=self.training")
    return Alias(call.args[0])


def _window(call: Call) -> dict[str, Any]:
    """The settings that average and maximum share; without a stride, windows lie side by side."""
    kernel = call.argument(1, "kernel_size")
    stride, padding = call.argument(2, "stride") or kernel, call.argument(3, "padding", 0)
    return {"kernel": kernel, "stride": stride, "padding": padding}


def _average(call: Call) -> dict[str, Any]:
    """The settings of an average."""
    divisor, ceil = call.argument(6, "divisor_override"), call.argument(4, "ceil_mode", False)
    if divisor is not None and ceil:
        raise Refused("divisor_override with ceil_mode", "scale the next layer's weights instead")
    include = divisor is not None or call.argument(5, *_INCLUDE)
    return {**_window(call), "ceil_mode": ceil, "count_include_pad": include}


def _divided(call: Call, axes: int, pooled: Made) -> Made:
    """The average, over the number that the call divides by instead of a window's size, if it has one."""
    divisor = call.argument(6, "divisor_override")
    if divisor is None:
        return pooled
    return Made(Scale(factor=math.prod(_each(call.argument(1, "kernel_size"), axes)) / divisor), (pooled,))


def _each(value: Any, axes: int) -> Any:
    return (value,) * axes if isinstance(value, int) else tuple(value)


def _size(call: Call, size: Any) -> tuple[int, int]:
    pair = size if isinstance(size, tuple | list) else (size, size)
    spatial = call.shape()[2:]
    resolved = tuple(own if want is None else want for want, own in zip(pair, spatial, strict=True))
    return (resolved[0], resolved[1])
