"""Resampling of height and width, or of length."""

from __future__ import annotations

import math

import torch.nn.functional as F

from converter.onnx_import.registry import OnnxCall, Result, imports
from converter.onnx_import.values import Traced
from seenn.capture import Refused

_PLAIN = {"exclude_outside": 0, "antialias": 0, "keep_aspect_ratio_policy": "stretch"}


@imports("Upsample", "Resize")
def resize(call: OnnxCall) -> Result:
    """``F.interpolate`` where its coordinates are the same; before opset 11 they are asymmetric."""
    (x, axes), mode = call.spatial(), call.attribute("mode", "nearest")
    if given := {name: call.attribute(name) for name, value in _PLAIN.items() if call.attribute(name, value) != value}:
        raise Refused(", ".join(f"{name}={value}" for name, value in given.items()), "export the model without it")
    coordinates, rounding = "asymmetric", "floor"
    if call.opset >= 11:
        coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = call.attribute("nearest_mode", "round_prefer_floor")
    size = _size(call, x)
    whole = all(new % old == 0 for new, old in zip(size, x.shape[1:], strict=True))
    half_pixel = coordinates in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest" and (
        (coordinates == "asymmetric" and rounding == "floor")
        or (half_pixel and whole and rounding in ("round_prefer_floor", "round_prefer_ceil"))
    ):
        return call.function(F.interpolate, x, size=size, mode="nearest")
    modes = {"linear": ("linear", "bilinear", "trilinear")[axes - 1], **({"cubic": "bicubic"} if axes == 2 else {})}
    if mode in modes and (half_pixel or coordinates == "align_corners"):
        if mode == "cubic" and not math.isclose(call.attribute("cubic_coeff_a", -0.75), -0.75):
            raise Refused("has another cubic_coeff_a than -0.75", "export the model from torch")
        corners = coordinates == "align_corners"
        return call.function(F.interpolate, x, size=size, mode=modes[mode], align_corners=corners)
    raise Refused(
        f"resamples with mode={mode!r}, {coordinates!r} coordinates and {rounding!r} rounding",
        "expected torch's ways: nearest with asymmetric coordinates rounded down, or linear with half_pixel",
    )


def _size(call: OnnxCall, x: Traced) -> tuple[int, ...]:
    """The wanted height and width, from sizes or factors of all axes or of some."""
    sized = call.opset >= 11 and call.value(3) is not None
    axes = call.attribute("axes", list(range(len(x.shape) + 1)))
    shapes = []
    if (factors := call.attribute("scales")) is not None:  # before opset 9
        given = [(batch, factors) for batch in call.builder.batch.declared]
    else:
        given = call.at_batches(3 if sized else 2 if call.opset >= 11 else 1)
    for batch, wanted in given:
        shape = [batch, *x.shape]
        for axis, number in zip(axes, wanted, strict=True):
            shape[axis] = number if sized else math.floor(shape[axis] * number)
        shapes.append(shape)
    channels, *size = call.per_image(x, shapes)
    if channels != x.shape[0]:
        raise Refused(f"resamples {x.shape[0]} channels to {channels}", "resample the axes after the channels alone")
    return tuple(size)
