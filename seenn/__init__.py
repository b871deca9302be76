"""Spiking networks that exit early: neurons, networks, engines, exit policies, data, metrics, checkpoints.

::

    checkpoint = seenn.load("snn.safetensors")
    answers = seenn.predict(checkpoint.network, images, checkpoint.policy, timesteps=8)
    answers.labels, answers.exit_timestep, answers.confidence
"""

from seenn.analysis.collect import collect_logits
from seenn.analysis.evaluate import evaluate
from seenn.capture import capture
from seenn.checkpoint import Checkpoint, load, save
from seenn.core.network import SpikingNetwork
from seenn.core.ops import TwoSidedIFNeuron, two_sided_if_step
from seenn.core.ops.lif import LIFNeuron
from seenn.core.ops.neuron import IFNeuron, if_step, reset, signed_if_step
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
