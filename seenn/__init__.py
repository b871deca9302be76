"""Spiking networks that exit early: neurons, networks, engines, exit policies, data, metrics, checkpoints.

::

    checkpoint = seenn.load("snn.safetensors")
    answers = seenn.predict(checkpoint.network, images, checkpoint.policy, timesteps=8)
    answers.labels, answers.exit_timestep, answers.confidence

Every name is imported from its module when it is first asked for, so that ``import seenn.registry`` loads no torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seenn.analysis.collect import collect_logits
    from seenn.analysis.evaluate import evaluate
    from seenn.capture import capture
    from seenn.checkpoint import Checkpoint, load, save
    from seenn.core.network import SpikingNetwork
    from seenn.core.ops.lif import LIFNeuron
    from seenn.core.ops.neuron import IFNeuron, if_step, reset, signed_if_step
    from seenn.core.ops.two_sided import TwoSidedIFNeuron, two_sided_if_step
    from seenn.data import load_data
    from seenn.errors import (
        CalibrationError,
        CheckpointError,
        ConversionError,
        DataError,
        ModelError,
        SeennError,
        UnsupportedError,
    )
    from seenn.exits import ConfidenceExit, ExitPolicy, FixedExit, ThresholdExit, calibrate_confidence, register_policy
    from seenn.predict import predict
    from seenn.runtime import Prediction, Predictions, Request, make_engine, run_reference
    from seenn.stream import stream
    from seenn.version import __version__

_NAMES = {  # by the module that they are imported from
    "seenn.analysis.collect": "collect_logits",
    "seenn.analysis.evaluate": "evaluate",
    "seenn.capture": "capture",
    "seenn.checkpoint": "Checkpoint load save",
    "seenn.core.network": "SpikingNetwork",
    "seenn.core.ops.lif": "LIFNeuron",
    "seenn.core.ops.neuron": "IFNeuron if_step reset signed_if_step",
    "seenn.core.ops.two_sided": "TwoSidedIFNeuron two_sided_if_step",
    "seenn.data": "load_data",
    "seenn.errors": "CalibrationError CheckpointError ConversionError DataError ModelError SeennError UnsupportedError",
    "seenn.exits": "ConfidenceExit ExitPolicy FixedExit ThresholdExit calibrate_confidence register_policy",
    "seenn.predict": "predict",
    "seenn.runtime": "Prediction Predictions Request make_engine run_reference",
    "seenn.stream": "stream",
    "seenn.version": "__version__",
}
_MODULE = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
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
    "SpikingNetwork",
    "ThresholdExit",
    "TwoSidedIFNeuron",
    "UnsupportedError",
    "__version__",
    "calibrate_confidence",
    "capture",
    "collect_logits",
    "evaluate",
    "if_step",
    "load",
    "load_data",
    "make_engine",
    "predict",
    "register_policy",
    "reset",
    "run_reference",
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
