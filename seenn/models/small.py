"""Three convolutions: for images of a few pixels, and for trying things."""

from __future__ import annotations

from torch import nn

from seenn.models.layers import MakeNeuron, conv_bn, scaled


def spiking_small(
    make_neuron: MakeNeuron, *, in_chans: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0
) -> nn.Module:
    """32, 64 and 128 channels times ``width``, the last two with stride 2, then an average and a linear layer."""
    layers: list[nn.Module] = []
    channels = in_chans
    for outputs, stride in ((32, 1), (64, 2), (128, 2)):
        layers += [*conv_bn(channels, scaled(outputs, width), stride=stride), make_neuron()]
        channels = scaled(outputs, width)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
