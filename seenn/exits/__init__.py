"""Exit policies. Importing this package registers every policy."""

from seenn.exits.budget import BudgetExit, policy_macs
from seenn.exits.calibrate import ExitCalibration, calibrate_confidence, calibrate_exit, calibrate_fixed, judge_exit
from seenn.exits.confidence import ConfidenceExit
from seenn.exits.conformal import ConformalExit
from seenn.exits.cutoff import CutoffExit, calibrate_cutoff
from seenn.exits.entropy import EntropyExit
from seenn.exits.failure import FailurePredictionExit
from seenn.exits.find import find_exit
from seenn.exits.fixed import FixedExit
from seenn.exits.gap import GapExit
from seenn.exits.guarantee import certify_exit
from seenn.exits.patience import PatienceExit
from seenn.exits.policy import ExitPolicy, policy_from_json, policy_to_json, register_policy
from seenn.exits.policy_network import PolicyNetwork
from seenn.exits.replay import CachedRun, replay
from seenn.exits.scaled import ScaledConfidenceExit
from seenn.exits.scored import ScoredExit, ThresholdExit, exit_scores, softmax_confidence
from seenn.exits.two_sided import TwoSidedExit

__all__ = [
    "BudgetExit",
    "CachedRun",
    "ConfidenceExit",
    "ConformalExit",
    "CutoffExit",
    "EntropyExit",
    "ExitCalibration",
    "ExitPolicy",
    "FailurePredictionExit",
    "FixedExit",
    "GapExit",
    "PatienceExit",
    "PolicyNetwork",
    "ScaledConfidenceExit",
    "ScoredExit",
    "ThresholdExit",
    "TwoSidedExit",
    "calibrate_confidence",
    "calibrate_cutoff",
    "calibrate_exit",
    "calibrate_fixed",
    "certify_exit",
    "exit_scores",
    "find_exit",
    "judge_exit",
    "policy_from_json",
    "policy_macs",
    "policy_to_json",
    "register_policy",
    "replay",
    "softmax_confidence",
]
