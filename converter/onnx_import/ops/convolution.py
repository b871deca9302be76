"""Convolutions."""

from __future__ import annotations

from typing import Any

from torch import nn

from converter.onnx_import.ops.windows import pad_window, window_of
from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from seenn.capture import Refused

_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@imports("Conv")
def convolution(call: OnnxCall) -> Result:
    """``nn.Conv2d`` and its like, behind a zero padding where one side needs more than the other."""
    (x, axes), weight, groups = call.spatial(), call.tensor(1), call.attribute("group", 1)
    window = window_of(call, x, tuple(weight.shape[2:]))
    if weight.shape[1] * groups != x.shape[0]:
        raise Refused(
            f"has a weight {list(weight.shape)} in {groups} groups for {x.shape[0]} channels", "export the model again"
        )
    module = _CONVOLUTIONS[axes](
        weight.shape[1] * groups,
        weight.shape[0],
        window.kernel,
        stride=window.stride,
        padding=window.before if window.symmetric else 0,
        dilation=window.dilation,
        groups=groups,
        bias=False,
        device="meta",
    )
    module.weight = parameter(weight)
    if call.value(2) is not None:
        module.bias = parameter(call.tensor(2))
    return call.module(module, x if window.symmetric else pad_window(call, x, window))


@imports("ConvTranspose")
def transposed_convolution(call: OnnxCall) -> Result:
    """``nn.ConvTranspose2d`` and its like, with as much cut off on either side."""
    (x, axes), weight, groups = call.spatial(), call.tensor(1), call.attribute("group", 1)
    window = window_of(call, x, tuple(weight.shape[2:]))
    automatic = call.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if automatic or not window.symmetric or call.attribute("output_shape") is not None:
        raise Refused("cuts off more on one side than on the other", "export it with explicit, equal pads")
    module = _TRANSPOSED[axes](
        x.shape[0],
        weight.shape[1] * groups,
        window.kernel,
        stride=window.stride,
        padding=window.before,
        output_padding=tuple(call.attribute("output_padding", (0,) * axes)),
        dilation=window.dilation,
        groups=groups,
        bias=False,
        device="meta",
    )
    module.weight = parameter(weight)
    if call.value(2) is not None:
        module.bias = parameter(call.tensor(2))
    return call.module(module, x)
