"""Windows as columns, and back."""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from torch import nn

from seenn.capture.handlers import Call, Made, Result, handles
from seenn.capture.parts import by_part, frozen
from seenn.capture.rows import by_row
from seenn.core.ops import Conv2d, ElementwiseAffine, Fold, Reshape, Unfold

#: The settings in the order of the functions' arguments; a module has them as attributes.
_SETTINGS = (("kernel_size", "kernel"), ("dilation", "dilation"), ("padding", "padding"), ("stride", "stride"))


@handles(nn.Unfold, F.unfold, "im2col", any_layout=True)
@by_part
def unfold(call: Call) -> Result:
    return call.of(Unfold(**_settings(call, 1)))


@handles(nn.Fold, F.fold, "col2im")
def fold(call: Call) -> Result:
    return call.of(Fold(size=_pair(call.argument(1, "output_size")), **_settings(call, 2)))


@handles(nn.ConvTranspose1d, nn.ConvTranspose2d, "conv_transpose1d", "conv_transpose2d", any_layout=True)
@by_row
@by_part
def conv_transpose(call: Call) -> Result:
    """Every pixel's weighted window, by a 1 x 1 convolution, added up where windows overlap."""
    weight, bias = call.constant(call.argument(1, "weight")), call.weight(2, "bias")
    groups = call.argument(6, "groups", 1)
    inputs, outputs, *kernel = weight.shape
    windows = frozen(weight).view(groups, inputs // groups, outputs, *kernel).permute(0, 2, 3, 4, 1)
    windows = windows.reshape(-1, inputs // groups, 1, 1)
    weighted = call.of(Conv2d(windows, groups=groups))
    columns = Made(Reshape(shape=(len(windows), math.prod(call.image()[1:]))), (weighted,))
    settings = {
        "stride": _pair(call.argument(3, "stride", 1)),
        "padding": _pair(call.argument(4, "padding", 0)),
        "dilation": _pair(call.argument(7, "dilation", 1)),
    }
    made = Made(Fold(size=_pair(call.shape(call.node)[2:]), kernel=_pair(kernel), **settings), (columns,))
    return made if bias is None else Made(ElementwiseAffine(bias=bias.view(-1, 1, 1)), (made,))


def _settings(call: Call, first: int) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for position, (name, key) in enumerate(_SETTINGS, start=first):
        values[key] = _pair(call.argument(position, name, 0 if key == "padding" else 1))
    return values


def _pair(value: Any) -> Any:
    return value if isinstance(value, int) else (value[0], value[-1])
