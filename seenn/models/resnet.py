"""The spiking ResNet-19 of the direct-training literature (Zheng et al. 2021; Li et al. 2023)."""

from __future__ import annotations

from torch import Tensor, nn

from seenn.models.layers import MakeNeuron, conv_bn, scaled

_STAGES = ((128, 3, 1), (256, 3, 2), (512, 2, 2))  # channels, blocks, stride of the first block


class Block(nn.Module):
    """conv–BN–neuron–conv–BN, added to the shortcut, then a neuron; all the sums meet before it fires."""

    def __init__(self, inputs: int, outputs: int, stride: int, make_neuron: MakeNeuron) -> None:
        super().__init__()
        self.first = nn.Sequential(*conv_bn(inputs, outputs, stride=stride), make_neuron())
        self.second = nn.Sequential(*conv_bn(outputs, outputs))
        shortcut: list[nn.Module] = []
        if stride > 1:
            shortcut.append(nn.AvgPool2d(stride, ceil_mode=True))
        if stride > 1 or inputs != outputs:
            shortcut += conv_bn(inputs, outputs, kernel=1)
        self.shortcut = nn.Sequential(*shortcut) if shortcut else nn.Identity()
        self.neuron = make_neuron()

    def forward(self, x: Tensor) -> Tensor:
        """One timestep."""
        total: Tensor = self.neuron(self.second(self.first(x)) + self.shortcut(x))
        return total


def spiking_resnet19(
    make_neuron: MakeNeuron, *, in_chans: int, num_classes: int, image_size: tuple[int, int], width: float = 1.0
) -> nn.Module:
    """Three stages of 3, 3 and 2 blocks with 128, 256 and 512 channels times ``width``.

    A stage that halves the image has an average-pool and a 1×1 convolution in its shortcut.
    """
    channels = scaled(_STAGES[0][0], width)
    layers: list[nn.Module] = [*conv_bn(in_chans, channels), make_neuron()]
    for base, blocks, first_stride in _STAGES:
        outputs = scaled(base, width)
        for index in range(blocks):
            layers.append(Block(channels, outputs, first_stride if index == 0 else 1, make_neuron))
            channels = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))
