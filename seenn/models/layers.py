"""What the models are made of."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

MakeNeuron = Callable[[], nn.Module]


def conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size (but for the stride), and its normalisation."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return [conv, nn.BatchNorm2d(outputs)]


def scaled(channels: int, width: float) -> int:
    """``channels · width``, rounded to a multiple of 8, at least 8."""
    return max(8, round(channels * width / 8) * 8)
