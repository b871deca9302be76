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
    from seenn.batch import Batch as Batch
    from seenn.capture import capture as capture
    from seenn.checkpoint import load as load
    from seenn.core.network import SpikingNetwork as SpikingNetwork
    from seenn.core.ops import TwoSidedIFNeuron as TwoSidedIFNeuron
    from seenn.core.ops import two_sided_if_step as two_sided_if_step
    from seenn.core.ops.floored_neuron import FlooredNeuron as FlooredNeuron
    from seenn.core.ops.lif import LIFNeuron as LIFNeuron
    from seenn.core.ops.neuron import IFNeuron as IFNeuron
    from seenn.core.ops.neuron import if_step as if_step
    from seenn.core.ops.neuron import reset as reset
    from seenn.core.ops.neuron import signed_if_step as signed_if_step
    from seenn.data import load_data as load_data
    from seenn.errors import CalibrationError as CalibrationError
    from seenn.errors import CheckpointError as CheckpointError
    from seenn.errors import ConversionError as ConversionError
    from seenn.errors import DataError as DataError
    from seenn.errors import ExportError as ExportError
    from seenn.errors import ModelError as ModelError
    from seenn.errors import SeennError as SeennError
    from seenn.errors import UnsupportedError as UnsupportedError
    from seenn.exits import ConfidenceExit as ConfidenceExit
    from seenn.exits import ExitPolicy as ExitPolicy
    from seenn.exits import FixedExit as FixedExit
    from seenn.exits import ThresholdExit as ThresholdExit
    from seenn.exits import register_policy as register_policy
    from seenn.hub import from_pretrained as from_pretrained
    from seenn.runtime import Prediction as Prediction
    from seenn.runtime import Predictions as Predictions
    from seenn.runtime import Request as Request
    from seenn.runtime import Session as Session
    from seenn.runtime import make_engine as make_engine
    from seenn.snn import SNN as SNN
    from seenn.version import __version__ as __version__

_NAMES = {  # by the module that they are imported from
    "seenn.batch": "Batch",
    "seenn.capture": "capture",
    "seenn.checkpoint": "load",
    "seenn.core.network": "SpikingNetwork",
    "seenn.core.ops.floored_neuron": "FlooredNeuron",
    "seenn.core.ops.lif": "LIFNeuron",
    "seenn.core.ops.neuron": "IFNeuron if_step reset signed_if_step",
    "seenn.core.ops": "TwoSidedIFNeuron two_sided_if_step",
    "seenn.data": "load_data",
    "seenn.errors": "CalibrationError CheckpointError ConversionError DataError ExportError ModelError SeennError "
    "UnsupportedError",
    "seenn.exits": "ConfidenceExit ExitPolicy FixedExit ThresholdExit register_policy",
    "seenn.hub": "from_pretrained",
    "seenn.runtime": "Prediction Predictions Request Session make_engine",
    "seenn.snn": "SNN",
    "seenn.version": "__version__",
}
_OF_0_1 = "Checkpoint calibrate_confidence collect_logits evaluate predict run_reference save stream"

__all__ = sorted(" ".join(_NAMES.values()).split())  # noqa: PLE0605
_MODULE = {name: module for module, names in {**_NAMES, "seenn.deprecated": _OF_0_1}.items() for name in names.split()}


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

    def __reduce__(self) -> tuple[object, ...]:
        """By its name: functions that use ``seenn`` travel to other processes (Ray, Dask and joblib by cloudpickle)."""
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package
