"""An op: the image with its quadrants swapped, and what ``torch.fft.fftshift`` becomes in a captured model.

It says what it computes and how it is made; everything else (state, cost, JSON, lowering) is ``Rearrangement``'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.capture import Call, Made, Refused, handles
from seenn.core.ops import Rearrangement, register
from seenn.core.ops.arguments import integer


@register("swapped_halves")
class SwappedHalves(Rearrangement):
    """``[B, C, H, W]``, the halves along its last ``axes`` axes swapped; of an odd number, the first gets one more."""

    attributes = ("axes",)

    def __init__(self, *, axes: int) -> None:
        super().__init__()
        self.axes = integer("axes", axes, low=1, high=2)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.fft.fftshift(inputs[0], tuple(range(-self.axes, 0)))


@handles(torch.fft.fftshift)
def fftshift(call: Call) -> Made:
    dims = call.argument(1, "dim") or (0,)
    if tuple(d % len(call.shape()) for d in dims) not in ((3,), (2, 3)):
        raise Refused(f"shifts the axes {tuple(dims)}", "shift images [B, C, H, W] along (2, 3)")
    return Made(SwappedHalves(axes=len(dims)), (call.args[0],))
