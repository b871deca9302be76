"""What convolutions and pooling share: kernel, stride, dilation and padding of a window over H and W."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from converter.onnx_import.registry import OnnxCall
from converter.onnx_import.values import Traced
from seenn.capture import Refused

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window and how it moves; all pairs are (height, width)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    before: Pair  # padding at the top and left
    after: Pair  # padding at the bottom and right

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding can express it."""
        return self.before == self.after

    @property
    def pads(self) -> tuple[int, int, int, int]:
        """As ``F.pad`` wants them: left, right, top, bottom."""
        return (self.before[1], self.after[1], self.before[0], self.after[0])


def window_of(call: OnnxCall, x: Traced, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pooling node over ``x``."""
    height, width = _pair("kernel_shape", call.attribute("kernel_shape", kernel), low=1)
    stride = _pair("strides", call.attribute("strides", (1, 1)), low=1)
    dilation = _pair("dilations", call.attribute("dilations", (1, 1)), low=1)
    pads = [int(pad) for pad in call.attribute("pads", (0, 0, 0, 0))]
    if len(pads) != 4 or min(pads) < 0:
        raise Refused(f"pads by {pads}", "expected four amounts of 0 or more")
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(x.shape[1:], (height, width), stride, dilation, upper=mode == "SAME_UPPER")
    elif mode not in ("NOTSET", "VALID"):
        raise Refused(f"auto_pad={mode!r}", "expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    elif mode == "VALID":
        pads = [0, 0, 0, 0]
    return Window(
        kernel=(height, width), stride=stride, dilation=dilation, before=(pads[0], pads[1]), after=(pads[2], pads[3])
    )


def pad_window(call: OnnxCall, x: Traced, window: Window, value: float = 0.0) -> Traced:
    """``x`` with the window's padding around it."""
    return call.function(F.pad, x, window.pads, "constant", value) if any(window.pads) else x


def _same(size: tuple[int, ...], kernel: Pair, stride: Pair, dilation: Pair, *, upper: bool) -> list[int]:
    """As many windows as strides fit into the image; an odd rest goes below (upper) or above."""
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return before + after


def _pair(name: str, value: object, *, low: int) -> Pair:
    if not isinstance(value, list | tuple) or len(value) != 2 or min(value) < low:
        raise Refused(f"{name}={value}", f"expected two numbers of {low} or more, for height and width")
    return (int(value[0]), int(value[1]))
