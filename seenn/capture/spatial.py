"""Borders around images, and images of another size."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, handles
from seenn.core.ops import BorderPad, Pad, Permute, Reshape, Resize, Shift

aten = torch.ops.aten
_LINEAR = ("nearest", "nearest-exact", "bilinear", "bicubic")
_BORDERS = {nn.ReflectionPad2d: "reflect", nn.ReplicationPad2d: "replicate", nn.CircularPad2d: "circular"}


@handles(nn.ZeroPad2d, nn.ConstantPad2d)
def constant_pad(call: Call) -> Result:
    assert isinstance(call.module, nn.ConstantPad2d)
    return _pad(call, call.module.padding, "constant", call.module.value)


@handles(*_BORDERS)
def border_pad(call: Call) -> Result:
    module = call.module
    assert isinstance(module, nn.ReflectionPad2d | nn.ReplicationPad2d | nn.CircularPad2d)
    mode = next(mode for kind, mode in _BORDERS.items() if isinstance(module, kind))
    return _pad(call, module.padding, mode, None)


@handles(F.pad, any_layout=True)
def pad(call: Call) -> Result:
    return _pad(call, call.argument(1, "pad"), call.argument(2, "mode", "constant"), call.argument(3, "value"))


@handles(aten.constant_pad_nd, any_layout=True)
def pad_operator(call: Call) -> Result:
    return _pad(call, call.argument(1, "pad"), "constant", call.argument(2, "value"))


def _pad(call: Call, amounts: Any, mode: str, value: float | None) -> Result:
    amounts = tuple(amounts)
    if any(isinstance(amount, fx.Node) for amount in amounts):
        raise Refused("pads by a computed amount", "pad by constant numbers")
    if len(amounts) >= 2 * len(call.shape()):
        raise Refused("pads the batch", "keep images independent: pad the axes after the first")
    if not any(amounts):
        return Alias(call.args[0])
    if mode == "constant" and not value:
        return Made(Pad(amounts=amounts), (call.args[0],))
    if mode == "constant" and value is not None and math.isfinite(value):
        lowered = Made(Shift(amount=-float(value)), (call.args[0],))
        return Made(Shift(amount=float(value)), (Made(Pad(amounts=amounts), (lowered,)),))
    if mode == "constant" and value == float("-inf"):
        mode = "lowest"
    if mode not in ("reflect", "replicate", "circular", "lowest") or not call.layout().plain:
        raise Refused(f"pads with {mode} {value}", "pad with zeros, or repeat the image")
    return Made(BorderPad(amounts=amounts, mode=mode), (call.args[0],))  # type: ignore[arg-type]


@handles(nn.Upsample, F.interpolate, F.upsample)
def interpolate(call: Call) -> Result:
    return _resize(
        call,
        call.argument(3, "mode", "nearest"),
        call.argument(4, "align_corners"),
        call.argument(2, "scale_factor"),
        call.argument(6, "antialias", False),
    )


@handles(F.upsample_nearest, aten.upsample_nearest2d)
def upsample_nearest(call: Call) -> Result:
    return _resize(call, "nearest", None, call.argument(2, "scale_factors"), False)


@handles(aten.upsample_bilinear2d)
def upsample_bilinear(call: Call) -> Result:
    return _resize(call, "bilinear", call.argument(2, "align_corners"), call.argument(3, "scale_factors"), False)


@handles(aten.upsample_bicubic2d)
def upsample_bicubic(call: Call) -> Result:
    return _resize(call, "bicubic", call.argument(2, "align_corners"), call.argument(3, "scale_factors"), False)


def _resize(call: Call, mode: str, corners: bool | None, scale: Any, antialias: bool) -> Result:
    """To the traced size; with a scale that this size does not follow from, the samples would lie elsewhere."""
    before, after = call.shape()[2:], call.shape(call.node)[2:]
    if mode not in _LINEAR or antialias or len(before) != 2:
        raise Refused(f"resizes {len(before)} axes by {mode}{' with antialias' if antialias else ''}",
                      f"use one of {', '.join(_LINEAR)} on images")  # fmt: skip
    scales = () if scale is None else (scale,) * 2 if isinstance(scale, int | float) else tuple(scale)
    if any(size * factor != now for size, factor, now in zip(before, scales, after, strict=False)):
        raise Refused(f"scales {list(before)} by {scale}", "give the new size instead of the scale")
    if before == after:
        return Alias(call.args[0])
    return Made(Resize(size=after, mode=mode, align_corners=bool(corners)), (call.args[0],))  # type: ignore[arg-type]


@handles(nn.ChannelShuffle, F.channel_shuffle, torch.channel_shuffle)
def channel_shuffle(call: Call) -> Result:
    groups = call.argument(1, "groups")
    channels, *rest = call.image()
    parted = Made(Reshape(shape=(groups, channels // groups, *rest)), (call.args[0],))
    swapped = Made(Permute(axes=(0, 2, 1, *range(3, 3 + len(rest)))), (parted,))
    return Made(Reshape(shape=(channels, *rest)), (swapped,))
