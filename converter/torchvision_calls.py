"""Functions and transforms of torchvision that torch.fx cannot follow."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import transforms
from torchvision.ops import stochastic_depth
from torchvision.transforms import _presets, v2

from seenn.capture import Alias, Call, Refused, handles
from seenn.capture.handlers import Result
from seenn.capture.plain import Substitutes


@handles(stochastic_depth, any_layout=True)
def skipped_branch(call: Call) -> Result:
    """Does nothing outside training."""
    if call.argument(3, "training", True):
        raise Refused("drops branches at random in training mode", "call model.eval() first")
    return Alias(call.args[0])


class Normalised(nn.Module):
    """``(x - mean) / std`` of each channel."""

    def __init__(self, source: Any) -> None:
        super().__init__()
        self.mean, self.std = (nn.Parameter(torch.tensor(v).view(-1, 1, 1)) for v in (source.mean, source.std))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def _written_out(preset: Any) -> nn.Module:
    """What ``weights.transforms()`` does to tensors, part by part."""
    resize = v2.Resize(preset.resize_size, preset.interpolation, antialias=preset.antialias)
    return nn.Sequential(resize, v2.CenterCrop(preset.crop_size), Normalised(preset))


#: In place of transforms that only work on tensors with values.
SUBSTITUTES: Substitutes = {
    transforms.Normalize: Normalised,
    v2.Normalize: Normalised,
    _presets.ImageClassification: _written_out,
}


@handles(v2.Transform)
def transform(call: Call) -> Result:
    raise Refused("prepares images, which it only does for tensors with values", "prepare images before the model")
