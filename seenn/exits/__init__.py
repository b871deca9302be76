"""Exit policies. Importing this package registers every policy."""

from seenn.exits.calibrate import (
    ExitCalibration,
    calibrate_confidence,
    collect_logits,
    confidence_scores,
    replay,
)
from seenn.exits.confidence import ConfidenceExit, softmax_confidence
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy, policy_from_json, policy_to_json, register_policy

__all__ = [
    "ConfidenceExit",
    "ExitCalibration",
    "ExitPolicy",
    "FixedExit",
    "calibrate_confidence",
    "collect_logits",
    "confidence_scores",
    "policy_from_json",
    "policy_to_json",
    "register_policy",
    "replay",
    "softmax_confidence",
]
