"""Spiking VGGs with average pooling: VGG-16 for images, and the shallower one for event data."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from seenn.models.layers import MakeNeuron, conv_bn, scaled

_VGG16 = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
_EVENTS = ((64, 128), (256, 256), (512, 512), (512, 512))


def spiking_vgg16(
    make_neuron: MakeNeuron, *, in_chans: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0
) -> nn.Module:
    """VGG-16: thirteen convolutions in five groups, halved by averages between them, then one linear layer.

    The last group is averaged over the whole image. Images need 16 pixels a side.
    """
    layers, channels = _groups(_VGG16, in_chans, width, make_neuron, image_size)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def spiking_vgg_events(
    make_neuron: MakeNeuron, *, in_chans: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0
) -> nn.Module:
    """The VGG of event data (Deng et al. 2022; Li et al. 2023): eight convolutions in four groups.

    What the last average leaves of the image, every pixel of it, goes into the linear layer.
    """
    layers, channels = _groups(_EVENTS, in_chans, width, make_neuron, image_size)
    height, width_left = (side >> len(_EVENTS) for side in image_size)
    if height < 1 or width_left < 1:
        raise ValueError(_too_small("spiking_vgg_events", image_size, 1 << len(_EVENTS)))
    head = nn.Linear(channels * height * width_left, num_classes)
    return nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), head)


def _groups(
    groups: Sequence[Sequence[int]], channels: int, width: float, make_neuron: MakeNeuron, image_size: tuple[int, int]
) -> tuple[list[nn.Module], int]:
    halvings = len(groups) - 1
    if min(image_size) >> halvings < 1:
        raise ValueError(_too_small("a spiking VGG", image_size, 1 << halvings))
    layers: list[nn.Module] = []
    for index, group in enumerate(groups):
        if index:
            layers.append(nn.AvgPool2d(2))
        for outputs in group:
            layers += [*conv_bn(channels, scaled(outputs, width)), make_neuron()]
            channels = scaled(outputs, width)
    return layers, channels


def _too_small(name: str, image_size: tuple[int, int], least: int) -> str:
    height, width = image_size
    return (
        f"{name} needs images of at least {least}×{least} pixels, got {height}×{width}: take spiking_small, or "
        "enlarge the images"
    )
