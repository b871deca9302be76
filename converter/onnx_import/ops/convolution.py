"""Convolutions."""

from __future__ import annotations

from torch import nn

from converter.onnx_import.ops.windows import pad_window, window_of
from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from seenn.capture import Refused


@imports("Conv")
def convolution(call: OnnxCall) -> Result:
    """``nn.Conv2d``, behind a zero padding where one side needs more than the other."""
    x, weight, groups = call.image(), call.tensor(1), call.attribute("group", 1)
    window = window_of(call, x, tuple(weight.shape[2:]))
    if weight.shape[1] * groups != x.shape[0]:
        raise Refused(
            f"has a weight {list(weight.shape)} in {groups} groups for {x.shape[0]} channels", "export the model again"
        )
    module = nn.Conv2d(
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
