"""Models by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import nn

from seenn.errors import ModelArgumentError, ModelError, did_you_mean
from seenn.models.layers import MakeNeuron
from seenn.models.resnet import spiking_resnet19
from seenn.models.small import spiking_small
from seenn.models.vgg import spiking_vgg16, spiking_vgg_events

#: Every factory takes ``make_neuron`` and the keywords ``in_chans``, ``num_classes``, ``image_size`` and ``width``.
MODELS: Mapping[str, Callable[..., nn.Module]] = {
    "spiking_small": spiking_small,
    "spiking_resnet19": spiking_resnet19,
    "spiking_vgg16": spiking_vgg16,
    "spiking_vgg_events": spiking_vgg_events,
}


def build_spiking_model(
    name: str,
    make_neuron: MakeNeuron,
    *,
    in_chans: int,
    num_classes: int,
    image_size: tuple[int, int],
    width: float = 1.0,
) -> nn.Module:
    """A spiking model with random weights, from ``[B, in_chans, *image_size]`` to this step's ``[B, num_classes]``.

    Args:
        name: one of ``MODELS``.
        make_neuron: makes one neuron; called once for each.
        width: factor of every number of channels, which are rounded to multiples of 8.

    Raises:
        ModelError: there is no such model, or the images are too small for it.
        ValueError: ``width`` is not positive.
    """
    if name not in MODELS:
        raise ModelArgumentError(f"there is no spiking model {name!r}.{did_you_mean(name, MODELS)}")
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width must be positive and finite, got {width}")
    try:
        return MODELS[name](make_neuron, in_chans=in_chans, num_classes=num_classes, image_size=image_size, width=width)
    except ValueError as error:
        raise ModelError(str(error)) from error
