"""Resampling of height and width."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F

from converter.onnx_import.registry import OnnxCall, Result, few, imports
from converter.onnx_import.values import Traced
from seenn.capture import Refused


@imports("Upsample")
def upsample(call: OnnxCall) -> Result:
    """The forerunner of ``Resize``, whose coordinates are asymmetric."""
    x = call.image()
    size = _scaled(x, call.numbers(1), list(range(4)))
    return _interpolate(call, x, size, call.attribute("mode", "nearest"), "asymmetric", "floor")


@imports("Resize")
def resize(call: OnnxCall) -> Result:
    """``F.interpolate`` where its coordinates are the same."""
    x = call.image()
    for name in ("exclude_outside", "antialias"):
        if call.attribute(name, 0):
            raise Refused(f"{name}=1", "export the model without it")
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Refused("keeps the aspect ratio", "export the model for one image size")
    axes = [axis % 4 for axis in call.attribute("axes", [0, 1, 2, 3])]
    if call.opset < 11:
        size, coordinates, rounding = _scaled(x, call.numbers(1), axes), "asymmetric", "floor"
    else:
        coordinates = call.attribute("coordinate_transformation_mode", "half_pixel")
        rounding = call.attribute("nearest_mode", "round_prefer_floor")
        given = call.value(3) is not None
        size = _sized(call, x, axes) if given else _scaled(x, call.numbers(2), axes)
    return _interpolate(call, x, size, call.attribute("mode", "nearest"), coordinates, rounding)


def _scaled(x: Traced, scales: list[float], axes: list[int]) -> tuple[int, int]:
    factors = dict(zip(axes, scales, strict=True))
    if factors.get(0, 1) != 1 or factors.get(1, 1) != 1 or not all(0 < f < math.inf for f in scales):
        raise Refused(f"scales by {scales}", "only height and width can be resampled")
    return math.floor(x.shape[1] * factors.get(2, 1)), math.floor(x.shape[2] * factors.get(3, 1))


def _sized(call: OnnxCall, x: Traced, axes: list[int]) -> tuple[int, int]:
    """The wanted sizes; that of the batch may be among them, as it is."""
    value: Any = call.value(3)
    found = [dict(zip(axes, few(at), strict=True)) for at in value.at]
    for sizes, batch in zip(found, call.builder.batch.declared, strict=True):
        if sizes.get(0, batch) != batch or sizes.get(1, x.shape[0]) != x.shape[0]:
            raise Refused(f"resizes to {list(sizes.values())}", "only height and width can be resampled")
    wanted = {(sizes.get(2, x.shape[1]), sizes.get(3, x.shape[2])) for sizes in found}
    if len(wanted) != 1:
        raise Refused("resizes by the batch size", "compute the size from one image")
    return wanted.pop()


def _interpolate(
    call: OnnxCall, x: Traced, size: tuple[int, int], mode: str, coordinates: str, rounding: str
) -> Result:
    whole = all(new % old == 0 for new, old in zip(size, x.shape[1:], strict=True))
    half_pixel = coordinates in ("half_pixel", "pytorch_half_pixel")
    if mode == "nearest" and (
        (coordinates == "asymmetric" and rounding == "floor")
        or (half_pixel and whole and rounding in ("round_prefer_floor", "round_prefer_ceil"))
    ):
        return call.function(F.interpolate, x, size=size, mode="nearest")
    modes = {"linear": "bilinear", "cubic": "bicubic"}
    if mode in modes and (half_pixel or coordinates == "align_corners"):
        if mode == "cubic" and not math.isclose(call.attribute("cubic_coeff_a", -0.75), -0.75):
            raise Refused("has another cubic_coeff_a than -0.75", "export the model from torch")
        corners = coordinates == "align_corners"
        return call.function(F.interpolate, x, size=size, mode=modes[mode], align_corners=corners)
    raise Refused(
        f"resamples with mode={mode!r}, {coordinates!r} coordinates and {rounding!r} rounding",
        "expected torch's ways: nearest with asymmetric coordinates rounded down, or linear with half_pixel",
    )
