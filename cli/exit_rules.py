"""Exit rules by name, and the targets that they are calibrated for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cli.errors import usage
from cli.groups import RULE
from cli.options import FRACTION, POSITIVE, PROBABILITY, FiniteRange, given, option

if TYPE_CHECKING:
    from seenn.exits import ExitPolicy
    from seenn.snn import SNN


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
        "Find the threshold with the highest accuracy within this mean.", metavar="STEPS", type=POSITIVE
    )
    target_energy: float | None = option(
        "Find the threshold with the highest accuracy within this mean energy per image, in pJ (the estimate for "
        "45 nm, up to each image's exit).",
        metavar="PJ",
        type=POSITIVE,
    )

    @property
    def targets(self) -> dict[str, float]:
        """Those that were given."""
        return given(self, "max_accuracy_drop", "target_timesteps", "target_energy")


@dataclass(frozen=True, kw_only=True)
class RuleOptions(ExitTargets):
    """A rule, where its threshold comes from, and how surely a target is kept."""

    policy: str = option(
        f"When to stop: {', '.join(RULE.names)}; or a rule that --plugin adds. seenn-ii is taken as train-policy "
        "stored it in SNN.",
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
    guarantee: Literal["marginal", "conditional", "expected"] | None = option(
        "With --confidence: on average over all images, or among those that stopped by then, at every exit.  "
        "[default: marginal]  expected: without --confidence, on average over exit splits as well, for small ones."
    )
    risk: Literal["accuracy", "disagreement"] = option(
        "What --max-accuracy-drop bounds: accuracy lost, or how often the answer is not that of all T steps, for which "
        "the labels do not matter.",
        default="accuracy",
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
        if len(self.targets) + (self.threshold is not None) != 1:
            raise ValueError(
                "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005, or --target-timesteps 2.5, or "
                "--target-energy 5e7"
            )
        if self.threshold is not None and self.risk != "accuracy":
            raise ValueError(
                "--risk says what a target bounds, and --threshold is none: give a target, or leave it out"
            )
        if self.guarantee == "expected" and (self.confidence is not None or not self.max_accuracy_drop):
            raise ValueError("--guarantee expected goes with --max-accuracy-drop above 0, and without --confidence")
        if self.guarantee not in (None, "expected") and self.confidence is None:
            raise ValueError("--guarantee needs --confidence 0.95, the probability that it holds with")
        if self.confidence is not None and not self.max_accuracy_drop:
            raise ValueError("--confidence needs --max-accuracy-drop above 0, the drop that it bounds")

    def made(self) -> ExitPolicy | None:
        """The rule with these options; None for one that is trained, and lies in a file. Wrong values are wrong usage.

        Raises:
            PluginError: a plugin that is installed cannot be imported.
        """
        from seenn.exits import EXIT_RULES, make_rule

        kind, own = EXIT_RULES.get(self.policy), given(self, "inner", "temperature", "accumulation", "alpha")
        with usage():
            if hasattr(kind, "made_with"):
                if own:
                    raise ValueError(
                        f"the {self.policy} rule does not take {', '.join(f'--{name}' for name in own)}: leave it out"
                    )
                return None
            bound = "--confidence" if self.confidence is not None else "--guarantee"
            if (self.confidence is not None or self.guarantee is not None) and "calibrate" in vars(kind):
                raise ValueError(
                    f"{bound} needs a rule with one score to bound, and {self.policy} has none: use --policy confidence"
                )
            if self.threshold is not None and "threshold" in getattr(kind, "learned", ()):
                raise ValueError(f"the {self.policy} rule finds its thresholds itself: give a target, no --threshold")
            rule = make_rule(self.policy, threshold=self.threshold, **own)
            if self.guarantee == "conditional":
                rule.at((rule.never,))  # whether it can have a threshold per timestep
            made: ExitPolicy = rule
            return made

    def stored(self, snn: SNN, timesteps: int) -> ExitPolicy:
        """The trained rule as it lies in ``snn``, at ``--threshold``, or at its own.

        Raises:
            CalibrationError: there is none in the file, or it was made for another network or T.
        """
        from seenn.errors import CalibrationError
        from seenn.exits import EXIT_RULES

        found: Any = snn.policy
        if found is None or found.kind != self.policy:
            what = "no exit policy" if found is None else f"the {found.kind} policy"
            made_with = EXIT_RULES.get(self.policy).made_with
            raise CalibrationError(f"the file has {what}, and {self.policy} must be trained first: run `{made_with}`")
        snn.check_policy(timesteps)
        policy: ExitPolicy = found if self.threshold is None else found.at(self.threshold)
        return policy
