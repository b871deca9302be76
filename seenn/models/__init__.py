"""Spiking networks to train from scratch: ordinary modules with neurons in them, ready for ``seenn.capture``."""

from seenn.models.build import MODELS, build_spiking_model
from seenn.models.resnet import spiking_resnet19
from seenn.models.small import spiking_small
from seenn.models.vgg import spiking_vgg16, spiking_vgg_events

__all__ = [
    "MODELS",
    "build_spiking_model",
    "spiking_resnet19",
    "spiking_small",
    "spiking_vgg16",
    "spiking_vgg_events",
]
