"""Exit rules by name, from the options that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cli.common import usage
from cli.options import FiniteRange

if TYPE_CHECKING:
    from collections.abc import Sequence

    from seenn.checkpoint import Checkpoint
    from seenn.exits import BudgetExit, FixedExit, ScoredExit

#: What ``--threshold`` sets in rules where it is a whole number.
_COUNTS = {"patience": "patience", "conformal": "max_size", "fixed": "timesteps"}
#: The options that a rule takes beside it.
_OPTIONS: dict[str, tuple[str, ...]] = {
    "confidence": ("temperature", "accumulation"),
    "entropy": ("accumulation",),
    "gap": ("accumulation",),
    "cutoff": ("accumulation",),
    "scaled": (),
    "patience": (),
    "conformal": ("alpha",),
    "failure": (),
    "fixed": (),
}
ONE_SIDED = tuple(name for name in _OPTIONS if name not in ("cutoff", "fixed"))
RULES = (*_OPTIONS, "two-sided")
#: The rule that is trained, not built: it is calibrated as it lies in a file.
STORED = "seenn-ii"


class RuleName(click.ParamType):  # type: ignore[type-arg]
    """One of ``rules``, or the Python path of a class of the user's own."""

    name = "rule"

    def __init__(self, rules: Sequence[str] = RULES) -> None:
        self.rules = rules

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return value if ":" in value else click.Choice(self.rules).convert(value, param, ctx)


def build_rule(name: str, threshold: float | None, inner: str | None, **options: Any) -> ScoredExit | FixedExit:
    """The rule ``name`` with the options that were given (not None); without a threshold the rule's default.

    Raises:
        click.UsageError: an option that the rule does not take, or a value that it refuses.
    """
    from seenn import exits

    if ":" in name:
        return _own_rule(name, threshold, inner, {option for option, value in options.items() if value is not None})
    if inner is not None and name != "two-sided":
        raise click.UsageError(f"--inner goes with --policy two-sided only, got --policy {name}", _context())
    base = (inner or "confidence") if name == "two-sided" else name
    given = {option: value for option, value in options.items() if value is not None}
    if wrong := [f"--{option}" for option in given if option not in _OPTIONS[base]]:
        takes = ", ".join(f"--{option}" for option in _OPTIONS[base]) or "no options of its own"
        raise click.UsageError(f"the {base} rule does not take {', '.join(wrong)}: it takes {takes}", _context())
    if threshold is not None:
        if base not in (*_COUNTS, "gap", "cutoff"):
            FiniteRange(0, 1, min_open=True).convert(threshold, None, _context())
        given[_COUNTS.get(base, "threshold")] = _count(base, threshold) if base in _COUNTS else threshold
    classes: dict[str, type[Any]] = {
        "confidence": exits.ConfidenceExit,
        "entropy": exits.EntropyExit,
        "gap": exits.GapExit,
        "cutoff": exits.CutoffExit,
        "scaled": exits.ScaledConfidenceExit,
        "patience": exits.PatienceExit,
        "conformal": exits.ConformalExit,
        "failure": exits.FailurePredictionExit,
        "fixed": exits.FixedExit,
    }
    with usage():
        rule: ScoredExit | FixedExit = classes[base](**given)
        return exits.TwoSidedExit(inner=rule) if name == "two-sided" else rule  # type: ignore[arg-type]


def _own_rule(path: str, threshold: float | None, inner: str | None, given: set[str]) -> ScoredExit:
    from converter.load import import_policy
    from seenn.exits import ScoredExit

    if wrong := sorted(f"--{option}" for option in (given | {"inner"} if inner is not None else given)):
        raise click.UsageError(
            f"a rule of your own does not take {', '.join(wrong)}: set its fields' defaults", _context()
        )
    found = import_policy(path)
    if not issubclass(found, ScoredExit):
        raise click.UsageError(f"{path} has no threshold to calibrate: derive it from seenn.ThresholdExit", _context())
    with usage():
        rule: ScoredExit = found()
        return rule if threshold is None else rule.at(threshold)


def stored_rule(checkpoint: Checkpoint, threshold: float | None, timesteps: int, **options: Any) -> BudgetExit:
    """SEENN-II as it lies in ``checkpoint``, at ``threshold``, or at its own.

    Raises:
        click.UsageError: an option that it does not take.
        CalibrationError: there is none in the file, or it was made for another network or T.
    """
    from seenn.errors import CalibrationError
    from seenn.exits import BudgetExit, check_record

    if wrong := [f"--{option}" for option, value in options.items() if value is not None]:
        raise click.UsageError(f"the {STORED} rule does not take {', '.join(wrong)}", _context())
    policy = checkpoint.policy
    if not isinstance(policy, BudgetExit):
        found = "no exit policy" if policy is None else f"the {policy.kind} policy"
        raise CalibrationError(f"the file has {found}, and {STORED} must be trained first: run `seenn train-policy`")
    check_record(checkpoint.manifest.get("exit"), network=checkpoint.network.graph.fingerprint(), timesteps=timesteps)
    return policy if threshold is None else policy.at(threshold)


def threshold_of(rule: ScoredExit | FixedExit) -> float | int | tuple[float, ...] | None:
    """What ``--threshold`` sets in ``rule``; None for a fixed number of steps that is T."""
    from seenn.exits import TwoSidedExit

    base = rule.inner if isinstance(rule, TwoSidedExit) else rule
    found: float | int | tuple[float, ...] | None = getattr(base, _COUNTS.get(base.kind, "threshold"), None)
    return found


def _count(rule: str, threshold: float) -> int:
    if not threshold.is_integer():
        raise click.UsageError(f"--threshold of the {rule} rule is a whole number, got {threshold}", _context())
    return int(threshold)


def _context() -> click.Context:
    return click.get_current_context()
