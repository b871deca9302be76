"""Engines: they run a ``SpikingNetwork`` and stop each sample where its policy says."""

from seenn.engines.predictions import Predictions
from seenn.engines.reference import StepObserver, run_reference

__all__ = ["Predictions", "StepObserver", "run_reference"]
