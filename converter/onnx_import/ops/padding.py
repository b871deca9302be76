"""Padding and cropping."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

from converter.onnx_import.registry import OnnxCall, Result, imports
from seenn.capture import Refused

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@imports("Pad")
def pad(call: OnnxCall) -> Result:
    """``F.pad``: ONNX lists all beginnings and then all ends, torch the last axis first."""
    x = call.traced()
    rank = len(x.shape) + 1
    amounts: list[int] = call.setting("pads", 1, [])
    axes: list[int] = [axis % rank for axis in call.setting("axes", 3, list(range(rank)))]
    if len(amounts) != 2 * len(axes):
        raise Refused(f"pads {len(axes)} axes by {len(amounts)} amounts", "expected two for each axis")
    pairs = {axis: (amounts[i], amounts[i + len(axes)]) for i, axis in enumerate(axes)}
    if pairs.pop(0, (0, 0)) != (0, 0):
        raise Refused("adds images to the batch", "pad channels, height and width only")
    used = [axis for axis, pair in pairs.items() if any(pair)]
    if not used:
        return x
    mode = call.attribute("mode", "constant")
    if mode not in _MODES:
        raise Refused(f"mode={mode!r}", f"expected one of {', '.join(_MODES)}")
    value: Any = call.attribute("value") if call.opset < 11 else call.setting("value", 2)
    last_first = [amount for axis in range(rank - 1, min(used) - 1, -1) for amount in pairs.get(axis, (0, 0))]
    return call.function(F.pad, x, last_first, _MODES[mode], float(value) if value and mode == "constant" else None)
