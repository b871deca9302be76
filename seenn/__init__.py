"""Spiking networks that exit early: neurons, networks, engines, exit policies, data, metrics, checkpoints.

::

    snn = seenn.load("snn.safetensors")
    answers = snn.predict(images)
    answers.labels, answers.exit_timestep, answers.confidence

Every name is imported from its module when it is first asked for, so that ``import seenn.registry`` loads no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seenn.batch import Batch
    from seenn.capture import capture
    from seenn.checkpoint import load
    from seenn.core.network import SpikingNetwork
    from seenn.core.ops import TwoSidedIFNeuron, two_sided_if_step
    from seenn.core.ops.lif import LIFNeuron
    from seenn.core.ops.neuron import IFNeuron, if_step, reset, signed_if_step
    from seenn.data import load_data
    from seenn.deprecated import Checkpoint, calibrate_confidence, collect_logits, predict, save, stream
    from seenn.errors import (
        CalibrationError,
        CheckpointError,
        ConversionError,
        DataError,
        ModelError,
        SeennError,
        UnsupportedError,
    )
    from seenn.exits import ConfidenceExit, ExitPolicy, FixedExit, ThresholdExit, register_policy
    from seenn.runtime import Prediction, Predictions, Request, Session, make_engine
    from seenn.snn import SNN
    from seenn.version import __version__

_NAMES = {  # by the module that they are imported from
    "seenn.batch": "Batch",
    "seenn.capture": "capture",
    "seenn.checkpoint": "load",
    "seenn.core.network": "SpikingNetwork",
    "seenn.core.ops.lif": "LIFNeuron",
    "seenn.core.ops.neuron": "IFNeuron if_step reset signed_if_step",
    "seenn.core.ops": "TwoSidedIFNeuron two_sided_if_step",
    "seenn.data": "load_data",
    "seenn.deprecated": "Checkpoint calibrate_confidence collect_logits predict save stream",
    "seenn.errors": "CalibrationError CheckpointError ConversionError DataError ModelError SeennError UnsupportedError",
    "seenn.exits": "ConfidenceExit ExitPolicy FixedExit ThresholdExit register_policy",
    "seenn.runtime": "Prediction Predictions Request Session make_engine",
    "seenn.snn": "SNN",
    "seenn.version": "__version__",
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "SNN",
    "Batch",
    "CalibrationError",
    "Checkpoint",
    "CheckpointError",
    "ConfidenceExit",
    "ConversionError",
    "DataError",
    "ExitPolicy",
    "FixedExit",
    "IFNeuron",
    "LIFNeuron",
    "ModelError",
    "Prediction",
    "Predictions",
    "Request",
    "SeennError",
    "Session",
    "SpikingNetwork",
    "ThresholdExit",
    "TwoSidedIFNeuron",
    "UnsupportedError",
    "__version__",
    "calibrate_confidence",
    "capture",
    "collect_logits",
    "if_step",
    "load",
    "load_data",
    "make_engine",
    "predict",
    "register_policy",
    "reset",
    "save",
    "signed_if_step",
    "stream",
    "two_sided_if_step",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module 'seenn' has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """``seenn.capture`` is the function, also after the module ``seenn.capture``, where it is, was imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _MODULE or not isinstance(value, ModuleType):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
