"""ResNet-8: the small network that SEENN-II puts in front of the spiking one."""

from __future__ import annotations

from torch import Tensor, nn


class ResNet8(nn.Module):
    """He et al., CVPR 2016, for small images: a stem, three residual blocks, a linear head; ``[B, C, H, W] -> [B, K]``.

    About 78,000 parameters; 12.5 million multiply-accumulates on an image of 32 × 32.
    """

    def __init__(self, in_chans: int, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = _convolution(in_chans, width)
        self.blocks = nn.Sequential(
            _Block(width, width, 1), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2)
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x).relu())
        scores: Tensor = self.head(self.flatten(self.pool(x)))
        return scores


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, stride=stride)
        self.second = _convolution(outputs, outputs)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        inner: Tensor = self.second(self.first(x).relu())
        joined: Tensor = inner + self.shortcut(x)
        return joined.relu()


def _convolution(inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
