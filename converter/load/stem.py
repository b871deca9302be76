"""The CIFAR stem: for small images, a network's first two halvings are taken out.

He et al. (2016, §4.2) train ResNets on 32×32 images with a 3×3 stride-1 first convolution and no max-pool;
the ImageNet stem (7×7 stride 2, max-pool) would leave 8×8 pixels of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from seenn.errors import ModelError

SMALL_IMAGE = 64  # pixels: at most this, the CIFAR stem is the better one

#: (convolution, max-pool): timm and torchvision ResNets, DenseNets, timm ResNetV2, timm's legacy SENets.
LOCATIONS = (
    ("conv1", "maxpool"),
    ("features.conv0", "features.pool0"),
    ("stem.conv", "stem.pool"),
    ("layer0.conv1", "pool0"),
)


@dataclass(frozen=True)
class Stem:
    """An ImageNet stem inside a module: a stride-2 convolution, or a sequence of them, and a max-pool."""

    conv: str
    pool: str
    first: nn.Conv2d
    last: nn.Conv2d  # of a deep stem; else the first


def find_stem(module: nn.Module) -> Stem | None:
    """The module's ImageNet stem, if it has one that can be replaced."""
    children = dict(module.named_modules())
    for conv_name, pool_name in LOCATIONS:
        conv, pool = children.get(conv_name), children.get(pool_name)
        # Deep stems (timm's resnet50d) are a sequence that begins and ends with a convolution.
        parts = list(conv) if isinstance(conv, nn.Sequential) and len(conv) else [conv]
        first, last = parts[0], parts[-1]
        if not isinstance(first, nn.Conv2d) or not isinstance(last, nn.Conv2d):
            continue
        if first.stride == (2, 2) and isinstance(pool, nn.MaxPool2d):
            return Stem(conv_name, pool_name, first, last)
    return None


def use_cifar_stem(module: nn.Module, name: str) -> None:
    """Puts the CIFAR stem in, with new random weights, in place.

    Raises:
        ModelError: there is no ImageNet stem to replace.
    """
    stem = find_stem(module)
    if stem is None:
        looked_for = ", ".join(f"{conv} with {pool}" for conv, pool in LOCATIONS)
        raise ModelError(
            f"{name}: no ImageNet stem to replace by the CIFAR stem; looked for a stride-2 convolution (or a "
            f"sequence of them) followed by a max-pool, at {looked_for}; use --stem imagenet"
        )
    conv = nn.Conv2d(stem.first.in_channels, stem.last.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    module.set_submodule(stem.conv, conv)
    module.set_submodule(stem.pool, nn.Identity())


def stem_for_checkpoint(module: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """``"cifar"`` where the weights have a 3×3 first convolution and the module another, else ``"imagenet"``.

    A module whose own first convolution is a plain 3×3 cannot be told apart; it stays as it is built.
    """
    stem = find_stem(module)
    weight = None if stem is None else tensors.get(f"{stem.conv}.weight")
    if stem is None or weight is None or (stem.first is stem.last and stem.first.kernel_size == (3, 3)):
        return "imagenet"
    return "cifar" if weight.shape[2:] == (3, 3) else "imagenet"


def stem_for_images(module: nn.Module, image_size: Sequence[int] | None) -> str:
    """``"cifar"`` for images of at most 64 pixels where the module has a stem to replace."""
    small = image_size is not None and len(image_size) == 3 and max(image_size[1:]) <= SMALL_IMAGE
    return "cifar" if small and find_stem(module) is not None else "imagenet"
