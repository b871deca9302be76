"""Exit rules by name, and the targets that they are calibrated for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cli.errors import usage
from cli.options import FRACTION, POSITIVE, PROBABILITY, FiniteRange, Registered, option

if TYPE_CHECKING:
    from seenn.exits import ExitPolicy
    from seenn.snn import SNN

#: The rule that is trained, not made by its name: it is calibrated as it lies in a file.
STORED = "seenn-ii"
RULE = Registered("exit rule", "seenn.exits.rules", "seenn.exits.registry:EXIT_RULES", paths=True)


@dataclass(frozen=True, kw_only=True)
class ExitTargets:
    """What a rule is calibrated for; at most one."""

    max_accuracy_drop: float | None = option(
        "Find the threshold with the fewest timesteps whose accuracy stays within this of full T (0.005 is half "
        "a point).",
        metavar="DROP",
        type=FRACTION,
    )
    target_timesteps: float | None = option(
        "Find the threshold with the highest accuracy within this mean.", metavar="STEPS", type=FiniteRange(1)
    )
    target_energy: float | None = option(
        "Find the threshold with the highest accuracy within this mean energy per image, in pJ (the estimate for "
        "45 nm, up to each image's exit).",
        metavar="PJ",
        type=POSITIVE,
    )

    @property
    def given(self) -> dict[str, float]:
        """Those that were given."""
        names = ("max_accuracy_drop", "target_timesteps", "target_energy")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(frozen=True, kw_only=True)
class RuleOptions(ExitTargets):
    """A rule, where its threshold comes from, and how surely a target is kept."""

    policy: str = option(
        f"When to stop: {', '.join(RULE.names)}; or package.module:Class, a rule of your own (imports and runs "
        "its code). seenn-ii is taken as train-policy stored it in SNN.",
        metavar="NAME",
        type=RULE,
        default="confidence",
    )
    inner: str | None = option("The rule inside two-sided.  [default: confidence]", metavar="NAME", type=RULE)
    threshold: float | None = option(
        "Stop when the score exceeds this: a confidence above 0 and at most 1, a gap, equal answers in a row "
        "(patience), classes in the set (conformal), timesteps (fixed), or the lead of so many steps over any more, "
        "in log-probability (seenn-ii, whose own is 0).",
        metavar="P",
        type=FiniteRange(0),
    )
    confidence: float | None = option(
        "With --max-accuracy-drop: keep it on new images with this probability, say 0.95.",
        metavar="P",
        type=PROBABILITY,
    )
    guarantee: Literal["marginal", "conditional"] | None = option(
        "With --confidence: on average over all images, or among those that stopped by t, for every t.  "
        "[default: marginal]"
    )
    temperature: float | None = option("Divides the logits (confidence).  [default: 1]", metavar="A", type=POSITIVE)
    accumulation: Literal["mean", "sum"] | None = option(
        "Score of the mean or of the summed logits (confidence, entropy, gap, cutoff).  [default: sum]"
    )
    alpha: float | None = option(
        "How often the label may be missing from the set (conformal).  [default: 0.1]",
        metavar="A",
        type=PROBABILITY,
    )

    def __post_init__(self) -> None:
        if len(self.given) + (self.threshold is not None) != 1:
            raise ValueError(
                "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005, or --target-timesteps 2.5, or "
                "--target-energy 5e7"
            )
        if self.guarantee is not None and self.confidence is None:
            raise ValueError("--guarantee needs --confidence 0.95, the probability that it holds with")
        if self.confidence is not None and not self.max_accuracy_drop:
            raise ValueError("--confidence needs --max-accuracy-drop above 0, the drop that it bounds")
        if self.confidence is not None and self.policy == "fixed":
            raise ValueError("--confidence needs a rule with a score, and fixed has none")
        if self.policy == "cutoff" and (self.threshold is not None or self.confidence is not None):
            raise ValueError(
                "cutoff finds one threshold per timestep for --max-accuracy-drop, --target-timesteps or "
                "--target-energy; with --threshold or --confidence use --policy gap"
            )
        if (wrong := self._own) and (self.policy == STORED or ":" in self.policy):
            what = f"the {STORED} rule" if self.policy == STORED else "a rule of your own"
            raise ValueError(f"{what} does not take {', '.join(f'--{name}' for name in wrong)}")

    @property
    def _own(self) -> dict[str, Any]:
        """The options that only some rules take."""
        names = ("inner", "temperature", "accumulation", "alpha")
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def made(self) -> ExitPolicy | None:
        """The rule with these options; None for the one that is stored. Wrong values are wrong usage.

        Raises:
            ModelError: the class of the user's own cannot be imported, or is no rule.
        """
        if self.policy == STORED:
            return None
        if ":" in self.policy:
            rule = own_rule(self.policy)
            return rule if self.threshold is None else self._at(rule)
        from seenn.exits import ExitPolicy, make_rule

        with usage():
            rule = make_rule(self.policy, threshold=self.threshold, **self._own)
            if self.guarantee == "conditional":
                rule.at((rule.never,))  # whether it can have a threshold per timestep
            assert isinstance(rule, ExitPolicy)
            return rule

    def stored(self, snn: SNN, timesteps: int) -> ExitPolicy:
        """SEENN-II as it lies in ``snn``, at ``--threshold``, or at its own.

        Raises:
            CalibrationError: there is none in the file, or it was made for another network or T.
        """
        from seenn.errors import CalibrationError

        if snn.policy is None or snn.policy.kind != STORED:
            found = "no exit policy" if snn.policy is None else f"the {snn.policy.kind} policy"
            raise CalibrationError(
                f"the file has {found}, and {STORED} must be trained first: run `seenn train-policy`"
            )
        snn.check_policy(timesteps)
        return snn.policy if self.threshold is None else self._at(snn.policy)

    def _at(self, rule: Any) -> ExitPolicy:
        with usage():
            moved: ExitPolicy = rule.at(self.threshold)
            return moved


def own_rule(path: str) -> Any:
    """The rule of the user's own at ``package.module:Class``, with its fields' defaults.

    Raises:
        ModelError: it cannot be imported, or is no rule.
    """
    from converter.load import import_policy

    found = import_policy(path)
    with usage():
        if not hasattr(found, "calibrate"):
            raise ValueError(f"{path} has no threshold to calibrate: derive it from seenn.ThresholdExit")
        return found()
