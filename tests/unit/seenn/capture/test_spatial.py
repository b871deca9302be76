from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

Same = Callable[..., Any]
BODIES: dict[str, tuple[Any, ...]] = {
    "reflect": (lambda m, x: F.pad(x, (1, 2, 3, 0), "reflect"),),
    "replicate": (lambda m, x: m.parts[0](x), nn.ReplicationPad2d((1, 0, 2, 1))),
    "circular": (lambda m, x: m.parts[0](x), nn.CircularPad2d(2)),
    "zeros": (lambda m, x: m.parts[0](x), nn.ConstantPad2d((1, 2, 0, -1), 0.0)),
    "lowest": (lambda m, x: F.max_pool2d(F.pad(-x.abs(), (0, 1, 0, 1), value=float("-inf")), 2),),
    "reflecting convolution": (lambda m, x: m.parts[0](x), nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect")),
    "circular, even, strided": (lambda m, x: m.parts[0](x), nn.Conv2d(4, 3, 2, 2, "valid", padding_mode="circular")),
    "same": (lambda m, x: m.parts[0](x), nn.Conv2d(4, 3, (2, 4), padding="same", dilation=(1, 2))),
    "nearest": (lambda m, x: F.interpolate(x, scale_factor=2),),
    "bilinear": (lambda m, x: m.parts[0](x), nn.Upsample((9, 4), mode="bilinear")),
    "corners": (lambda m, x: F.interpolate(x, (3, 13), mode="bilinear", align_corners=True),),
    "bicubic": (lambda m, x: F.interpolate(x, (8, 8), mode="bicubic"),),
    "to the size of another": (lambda m, x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[2:]) + x,),
    "shuffle": (lambda m, x: m.parts[0](x), nn.ChannelShuffle(2)),
    "divisor": (lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False, divisor_override=4),),
    "ceil": (lambda m, x: F.avg_pool2d(x, 4, 3, 1, ceil_mode=True, count_include_pad=False),),
    "boxes": (
        lambda m, x: m.parts[0](x.unflatten(1, (2, 2)).transpose(2, 1)).flatten(1, 2),
        nn.AvgPool3d((2, 3, 2), (1, 2, 1), (1, 1, 0), ceil_mode=True, count_include_pad=False),
    ),
    "boxes along channels": (lambda m, x: F.avg_pool3d(x.unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1),),
    "boxes without channels": (lambda m, x: F.avg_pool3d(x, 2, divisor_override=5),),
    "amax": (lambda m, x: torch.cat([x.amax((2, 3)), x.amax((-1, -2), keepdim=True).flatten(1)], 1),),
    "every other": (lambda m, x: x[..., ::2, 1::2],),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("case", BODIES)
def test_borders_sizes_and_pools_are_what_torch_makes_of_them(case: str, same: Same) -> None:
    body, *parts = BODIES[case]
    same(body, *parts)
