"""Padding with something other than zeros."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal, get_args

import torch.nn.functional as F
from torch import Tensor

from seenn.core.ops.arguments import choice, integers
from seenn.core.ops.base import StatelessOp, register
from seenn.core.ops.lowering import Lowering, Value

Mode = Literal["reflect", "replicate", "circular", "lowest"]


@register("border_pad")
class BorderPad(StatelessOp):
    """A border around images ``[B, C, H, W]``, ``amounts`` of left, right, top, bottom.

    The border repeats the image (``reflect``, ``replicate``, ``circular``), or is below every value (``lowest``),
    which only a maximum may read.
    """

    affine = True
    amounts: Annotated[tuple[int, ...], partial(integers, count=4, high=1 << 16)]
    mode: Annotated[Mode, partial(choice, of=get_args(Mode))]

    def forward(self, *inputs: Tensor) -> Tensor:
        if self.mode == "lowest":
            return F.pad(inputs[0], self.amounts, value=float("-inf"))
        return F.pad(inputs[0], self.amounts, mode=self.mode)

    def lower(self, lowering: Lowering[Value], inputs: Sequence[Value]) -> Value:
        return super().lower(lowering, inputs) if self.mode == "lowest" else lowering.move(self, inputs[0])
