"""Everything that ``seenn.exits`` offers; it takes it from here when it is asked for."""

from seenn.core.ops import State
from seenn.exits.calibration.find import calibrate_confidence, calibrate_exit, certify_exit, find_exit
from seenn.exits.calibration.replay import CachedRun, exit_scores, first_above, replay
from seenn.exits.calibration.result import ExitCalibration, judge_exit
from seenn.exits.calibration.target import ExitTarget, Guarantee
from seenn.exits.policy import ExitPolicy, policy_from_json, policy_macs, policy_to_json
from seenn.exits.policy_network import PolicyNetwork
from seenn.exits.progress import Progress, cost_of_steps
from seenn.exits.record import check_record, exit_record
from seenn.exits.registry import EXIT_RULES, default_rules, make_rule, register_policy, rule_options
from seenn.exits.rules.confidence import ConfidenceExit
from seenn.exits.rules.conformal import ConformalExit
from seenn.exits.rules.cutoff import CutoffExit
from seenn.exits.rules.entropy import EntropyExit
from seenn.exits.rules.failure import FailurePredictionExit
from seenn.exits.rules.fixed import FixedExit
from seenn.exits.rules.gap import GapExit
from seenn.exits.rules.patience import PatienceExit
from seenn.exits.rules.scaled import ScaledConfidenceExit
from seenn.exits.rules.seenn_ii import BudgetExit
from seenn.exits.rules.two_sided import TwoSidedExit
from seenn.exits.scored import ScoredExit, ThresholdExit
from seenn.exits.scores import softmax_confidence

__all__ = [
    "EXIT_RULES",
    "BudgetExit",
    "CachedRun",
    "ConfidenceExit",
    "ConformalExit",
    "CutoffExit",
    "EntropyExit",
    "ExitCalibration",
    "ExitPolicy",
    "ExitTarget",
    "FailurePredictionExit",
    "FixedExit",
    "GapExit",
    "Guarantee",
    "PatienceExit",
    "PolicyNetwork",
    "Progress",
    "ScaledConfidenceExit",
    "ScoredExit",
    "State",
    "ThresholdExit",
    "TwoSidedExit",
    "calibrate_confidence",
    "calibrate_exit",
    "certify_exit",
    "check_record",
    "cost_of_steps",
    "default_rules",
    "exit_record",
    "exit_scores",
    "find_exit",
    "first_above",
    "judge_exit",
    "make_rule",
    "policy_from_json",
    "policy_macs",
    "policy_to_json",
    "register_policy",
    "replay",
    "rule_options",
    "softmax_confidence",
]
