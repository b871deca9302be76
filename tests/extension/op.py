"""An op: the image by quarter turns, and what ``torch.rot90`` becomes in a captured model.

It says what it computes and how it is made; everything else (state, cost, JSON, lowering) is ``Rearrangement``'s.
"""

from __future__ import annotations

import torch
from torch import Tensor

from seenn.capture import Call, Made, Refused, handles
from seenn.core.ops import Rearrangement, register
from seenn.core.ops.arguments import integer


@register("quarter_turns")
class QuarterTurns(Rearrangement):
    """``[B, C, H, W]``, turned counter-clockwise ``turns`` times by 90°."""

    attributes = ("turns",)

    def __init__(self, *, turns: int) -> None:
        super().__init__()
        self.turns = integer("turns", turns, high=3)

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.rot90(inputs[0], self.turns, (2, 3))


@handles(torch.rot90)
def rot90(call: Call) -> Made:
    dims = call.argument(2, "dims", (0, 1))
    if tuple(d % len(call.shape()) for d in dims) != (2, 3):
        raise Refused(f"turns the axes {tuple(dims)}", "turn images [B, C, H, W] by their axes (2, 3)")
    return Made(QuarterTurns(turns=call.argument(1, "k", 1) % 4), (call.args[0],))
