"""Engines: they run a ``SpikingNetwork`` and stop each sample where its policy says."""

from seenn.engines.batching import Request, run_engine, run_slots
from seenn.engines.choose import ENGINES, make_engine
from seenn.engines.engine import Engine, Slots
from seenn.engines.predictions import Prediction, Predictions
from seenn.engines.reference import StepObserver, run_reference

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
