"""Engines: they run a ``SpikingNetwork`` and stop each sample where its policy says."""

from seenn.runtime.choose import ENGINES, make_engine
from seenn.runtime.predictions import Prediction, Predictions
from seenn.runtime.reference import StepObserver, run_reference
from seenn.runtime.session import Request, run_engine, run_slots
from seenn.runtime.slots import Engine, Slots

__all__ = [
    "ENGINES",
    "Engine",
    "Prediction",
    "Predictions",
    "Request",
    "Slots",
    "StepObserver",
    "make_engine",
    "run_engine",
    "run_reference",
    "run_slots",
]
