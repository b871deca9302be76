"""Spiking networks to train from scratch: ordinary modules with neurons in them, ready for ``seenn.capture``."""

from seenn.models.build import MODELS, build_spiking_model

__all__ = ["MODELS", "build_spiking_model"]
