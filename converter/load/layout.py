"""Where a classifier begins and ends: its first weighted layer and its head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from seenn.errors import ModelError


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer by its name in the module."""

    name: str
    inputs: int  # channels or features
    outputs: int
    groups: int = 1

    def sizes_in(self, tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
        """Its inputs and outputs in a state dict, or None where that has no such weight."""
        weight = tensors.get(f"{self.name}.weight")
        return None if weight is None or weight.ndim < 2 else (weight.shape[1] * self.groups, weight.shape[0])


def find_first_convolution(module: nn.Module) -> Layer | None:
    """The convolution that sees the image: timm's ``first_conv`` where it is there, else the first one.

    None where there is no convolution: a module that begins with a linear layer has features, not channels.
    """
    convolutions = list(_layers(module, linear=False))
    return _named(module, "first_conv", convolutions) or next(iter(convolutions), None)


def find_head(module: nn.Module) -> Layer:
    """The layer that gives the classes: timm's ``classifier`` where it is there, else the last layer.

    Raises:
        ModelError: the module has no convolution and no linear layer.
    """
    layers = list(_layers(module))
    if not layers:
        raise ModelError(f"{type(module).__name__} has no convolution and no linear layer; expected a classifier")
    return _named(module, "classifier", layers) or layers[-1]


def _layers(module: nn.Module, *, linear: bool = True) -> Iterator[Layer]:
    for name, child in module.named_modules():
        if isinstance(child, _ConvNd):
            yield Layer(name, child.in_channels, child.out_channels, child.groups)
        elif linear and isinstance(child, nn.Linear):
            yield Layer(name, child.in_features, child.out_features)


def _named(module: nn.Module, key: str, layers: list[Layer]) -> Layer | None:
    """The layer that timm's ``pretrained_cfg[key]`` names: a name, or a tuple of them for several heads."""
    config = getattr(module, "pretrained_cfg", None)
    value = config.get(key) if isinstance(config, Mapping) else None
    names = [value] if isinstance(value, str) else list(value or ())
    return next((layer for layer in layers if layer.name in names), None)
