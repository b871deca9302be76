"""What convolutions and pooling share: kernel, stride, dilation and padding of a window over H and W, or L."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F

from converter.onnx_import.registry import OnnxCall
from converter.onnx_import.values import Traced
from seenn.capture import Refused

Sizes = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A window and how it moves; a number for each axis after the channels, such as (height, width)."""

    kernel: Sizes
    stride: Sizes
    dilation: Sizes
    before: Sizes  # padding at the top and left
    after: Sizes  # padding at the bottom and right

    @property
    def symmetric(self) -> bool:
        """Whether torch's own padding can express it."""
        return self.before == self.after

    @property
    def pads(self) -> Sizes:
        """As ``F.pad`` wants them: left, right, top, bottom."""
        return tuple(pad for pair in zip(self.before[::-1], self.after[::-1], strict=True) for pad in pair)


def window_of(call: OnnxCall, x: Traced, kernel: tuple[int, ...]) -> Window:
    """The window of a convolution or pooling node over ``x``."""
    axes = len(x.shape) - 1
    kernel = _sizes("kernel_shape", call.attribute("kernel_shape", kernel), axes)
    stride = _sizes("strides", call.attribute("strides", (1,) * axes), axes)
    dilation = _sizes("dilations", call.attribute("dilations", (1,) * axes), axes)
    pads = [int(pad) for pad in call.attribute("pads", (0, 0) * axes)]
    if len(pads) != 2 * axes or min(pads) < 0:
        raise Refused(f"pads by {pads}", f"expected {2 * axes} amounts of 0 or more")
    mode = call.attribute("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same(x.shape[1:], kernel, stride, dilation, upper=mode == "SAME_UPPER")
    elif mode not in ("NOTSET", "VALID"):
        raise Refused(f"auto_pad={mode!r}", "expected NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    elif mode == "VALID":
        pads = [0, 0] * axes
    before, after = tuple(pads[:axes]), tuple(pads[axes:])
    return Window(kernel=kernel, stride=stride, dilation=dilation, before=before, after=after)


def pad_window(call: OnnxCall, x: Traced, window: Window, value: float = 0.0) -> Traced:
    """``x`` with the window's padding around it."""
    return call.function(F.pad, x, window.pads, "constant", value) if any(window.pads) else x


def _same(size: tuple[int, ...], kernel: Sizes, stride: Sizes, dilation: Sizes, *, upper: bool) -> list[int]:
    """As many windows as strides fit into the image; an odd rest goes below (upper) or above."""
    before, after = [], []
    for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        small, large = total // 2, total - total // 2
        before.append(small if upper else large)
        after.append(large if upper else small)
    return before + after


def _sizes(name: str, value: object, axes: int) -> Sizes:
    if not isinstance(value, list | tuple) or len(value) != axes or min(value) < 1:
        raise Refused(f"{name}={value}", f"expected {axes} numbers of 1 or more, one for each axis after the channels")
    return tuple(map(int, value))
