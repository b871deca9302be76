"""Borders around images, and images of another size."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx, nn

from seenn.capture.handlers import Alias, Call, Made, Refused, Result, called, handles
from seenn.capture.probed import mapped, ordered, run
from seenn.capture.rows import by_row
from seenn.core.ops import BorderPad, Pad, Permute, Reshape, Resize, Shift

_BY_ROW = {"linear": "bilinear"}
_LINEAR = ("nearest", "nearest-exact", "bilinear", "bicubic")
_BORDERS = {
    nn.ReflectionPad1d: "reflect",
    nn.ReflectionPad2d: "reflect",
    nn.ReplicationPad1d: "replicate",
    nn.ReplicationPad2d: "replicate",
    nn.CircularPad1d: "circular",
    nn.CircularPad2d: "circular",
}
_UPSAMPLES = {
    "upsample_nearest": "nearest",
    "upsample_nearest1d": "nearest",
    "upsample_nearest2d": "nearest",
    "upsample_linear1d": "bilinear",
    "upsample_bilinear2d": "bilinear",
    "upsample_bicubic2d": "bicubic",
    "_upsample_bilinear2d_aa": "bilinear",
    "_upsample_bicubic2d_aa": "bicubic",
}


@handles(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, *_BORDERS)
def pad_module(call: Call) -> Result:
    mode = next((mode for kind, mode in _BORDERS.items() if isinstance(call.module, kind)), "constant")
    return _pad(call, call.argument(1, "padding"), mode, call.argument(2, "value"))


@handles("pad", any_layout=True)
def pad(call: Call) -> Result:
    return _pad(call, call.argument(1, "pad"), call.argument(2, "mode", "constant"), call.argument(3, "value"))


@handles("constant_pad_nd", any_layout=True)
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
        return call.of(Pad(amounts=amounts))
    if mode == "constant" and value is not None and math.isfinite(value):
        lowered = call.of(Shift(amount=-float(value)))
        return Made(Shift(amount=float(value)), (Made(Pad(amounts=amounts), (lowered,)),))
    if mode == "constant" and value == float("-inf"):
        mode = "lowest"
    if mode not in ("reflect", "replicate", "circular", "lowest") or not call.layout().plain:
        raise Refused(f"pads with {mode} {value}", "pad with zeros, or repeat the image")
    op = BorderPad(amounts=(*amounts, 0, 0)[:4], mode=mode)  # type: ignore[arg-type]
    if len(call.shape()) != 3:
        return call.of(op)
    channels, length = call.image()
    image = call.of(Reshape(shape=(channels, 1, length)))
    return Made(Reshape(shape=call.image(call.node)), (Made(op, (image,)),))


@handles(nn.Upsample, "interpolate", "upsample")
@by_row
def interpolate(call: Call) -> Result:
    return _resize(
        call,
        call.argument(3, "mode", "nearest"),
        call.argument(4, "align_corners"),
        call.argument(2, "scale_factor"),
        call.argument(6, "antialias", False),
    )


@handles(*_UPSAMPLES)
@by_row
def upsample(call: Call) -> Result:
    """What ``interpolate`` does, as an operator for each mode; the nearest has no corners."""
    mode = _UPSAMPLES[called(call.node.target)]
    corners = () if mode == "nearest" else (call.argument(2, "align_corners"),)
    smooth = called(call.node.target).endswith("_aa")
    return _resize(call, mode, any(corners), call.argument(2 + len(corners), "scale_factors"), smooth)


def _resize(call: Call, mode: str, corners: bool | None, scale: Any, antialias: bool) -> Result:
    """To the traced size; by averages, or a scale that this size does not follow from, through weights."""
    before, after = call.shape()[2:], call.shape(call.node)[2:]
    mode = _BY_ROW.get(mode, mode)
    if mode not in (*_LINEAR, "area") or len(before) != 2:
        raise Refused(f"resizes {len(before)} axes by {mode}", f"use one of {', '.join(_LINEAR)} and area, on images")
    scales = () if scale is None else (scale,) * 2 if isinstance(scale, int | float) else tuple(scale)
    odd = any(size * factor != now for size, factor, now in zip(before, scales, after, strict=False))
    if odd or antialias or mode == "area":
        return _by_axis(call)
    if before == after:
        return Alias(call.args[0])
    return call.of(Resize(size=after, mode=mode, align_corners=bool(corners)))  # type: ignore[arg-type]


def _by_axis(call: Call) -> Made | Alias:
    """Weights for each axis apart, which torch says by resizing images that are alike along the others."""
    node: Any = call.node.args[0]
    source: Made | Alias = Alias(call.args[0])
    image = list(call.image())
    sizes = node.meta["shape"][2:]
    for place, size in enumerate(sizes, start=2):
        basis = torch.eye(size, dtype=torch.float64).view(
            size, *(size if i == place else 1 for i in range(1, 2 + len(sizes)))
        )
        answer = run(call, {node: basis.expand(size, 1, *sizes)}, size)
        matrix = answer.movedim(place, 1).reshape(size, answer.shape[place], -1)[..., 0].T
        axis = len(image) - len(sizes) + place - 1
        resized = mapped(source, image, [axis], matrix.to(node.meta["dtype"]), [len(matrix)])
        source = ordered(resized, [0, 2, 1] if axis == 2 else [0, 1, 2])
        image[axis - 1] = len(matrix)
    return source


@handles(nn.ChannelShuffle, "channel_shuffle")
def channel_shuffle(call: Call) -> Result:
    groups = call.argument(1, "groups")
    channels, *rest = call.image()
    parted = call.of(Reshape(shape=(groups, channels // groups, *rest)))
    swapped = Made(Permute(axes=(0, 2, 1, *range(3, 3 + len(rest)))), (parted,))
    return Made(Reshape(shape=(channels, *rest)), (swapped,))


@handles(nn.PixelShuffle, "pixel_shuffle")
def pixel_shuffle(call: Call) -> Result:
    """Channels ``[C, r, r]`` of each pixel become its ``r × r`` pixels."""
    r = call.argument(1, "upscale_factor")
    channels, height, width = call.image()
    parts = call.of(Reshape(shape=(channels // r**2, r, r, height, width)))
    moved = Made(Permute(axes=(0, 1, 4, 2, 5, 3)), (parts,))
    return Made(Reshape(shape=(channels // r**2, height * r, width * r)), (moved,))


@handles(nn.PixelUnshuffle, "pixel_unshuffle")
def pixel_unshuffle(call: Call) -> Result:
    """And back."""
    r = call.argument(1, "downscale_factor")
    channels, height, width = call.image()
    parts = call.of(Reshape(shape=(channels, height // r, r, width // r, r)))
    moved = Made(Permute(axes=(0, 1, 3, 5, 2, 4)), (parts,))
    return Made(Reshape(shape=(channels * r**2, height // r, width // r)), (moved,))
