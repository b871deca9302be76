"""Convolutions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import nn

from converter.onnx_import.ops.windows import Sizes, Window, pad_window, window_of
from converter.onnx_import.registry import OnnxCall, Result, imports, parameter
from converter.onnx_import.values import Traced
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
    """``nn.ConvTranspose2d`` and its like; what is cut off on one side only goes behind it."""
    (x, axes), weight, groups = call.spatial(), call.tensor(1), call.attribute("group", 1)
    window = window_of(call, x, tuple(weight.shape[2:]))
    added = tuple(call.attribute("output_padding", (0,) * axes))
    before, after = _cut_off(call, x, window, added)
    both = tuple(map(min, before, after))
    module = _TRANSPOSED[axes](
        x.shape[0],
        weight.shape[1] * groups,
        window.kernel,
        stride=window.stride,
        padding=both,
        output_padding=added,
        dilation=window.dilation,
        groups=groups,
        bias=False,
        device="meta",
    )
    module.weight = parameter(weight)
    if call.value(2) is not None:
        module.bias = parameter(call.tensor(2))
    made = call.module(module, x)
    rest = [side - least for least, *sides in zip(both, before, after, strict=True) for side in sides]
    pairs = [-cut for axis in reversed(range(axes)) for cut in rest[2 * axis : 2 * axis + 2]]  # the last axis first
    return call.function(F.pad, made, tuple(pairs)) if any(pairs) else made


def _cut_off(call: OnnxCall, x: Traced, window: Window, added: Sizes) -> tuple[Sizes, Sizes]:
    """How much of the result goes at the start and at the end of each axis: as stated, or for a stated size."""
    mode, size = call.attribute("auto_pad", "NOTSET"), call.attribute("output_shape")
    if size is None and mode in ("NOTSET", "VALID"):
        return window.before, window.after
    wanted = [n * s for n, s in zip(x.shape[1:], window.stride, strict=True)] if size is None else size[-len(added) :]
    spans = zip(x.shape[1:], window.stride, window.kernel, window.dilation, added, wanted, strict=True)
    total = [(n - 1) * s + (k - 1) * d + 1 + more - out for n, s, k, d, more, out in spans]
    if min(total) < 0:
        raise Refused(
            f"makes {list(wanted)} of {list(x.shape[1:])}, which its kernel does not reach", "export it again"
        )
    small, large = tuple(cut // 2 for cut in total), tuple(cut - cut // 2 for cut in total)
    return (small, large) if mode == "SAME_UPPER" else (large, small)
