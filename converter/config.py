"""What a conversion may choose, as typed values."""

from __future__ import annotations

import warnings
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal

from converter.corrections import CORRECTIONS
from converter.recipes import RECIPES, Recipe
from converter.recipes.mmse import MMSE
from seenn.core.ops.arguments import flag, integer
from seenn.neurons import NEURONS

CODINGS = ("rate", "differential")


def warn_of_islands(analog_islands: bool | None) -> None:
    """For callers of a keyword that went: everything that is not affine converts without it."""
    if analog_islands is not None:
        message = "analog_islands goes with seenn 0.3: it is not needed any more, leave it out (strict=True refuses)"
        warnings.warn(message, DeprecationWarning, stacklevel=4)


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Everything that determines a conversion, given the model and the calibration images.

    The default neuron is the most accurate at T = 8 of those in ``benchmarks/results/conversion.md``;
    ``benchmarks/recipes.py`` compares recipes and corrections on held-out images.

    Raises:
        ValueError: a value out of range, or choices that do not go together.
        PluginError: an unknown name.
    """

    recipe: Recipe = field(default_factory=MMSE)  # a name stands for the recipe with its defaults
    neuron: str = "signed"  # kind at every site, one of ``seenn.neurons.NEURONS``
    levels: int | None = None  # Γ, most spikes of either sign in a step; None: the kind's default
    correction: str = "potential"  # of each channel's mean error, one of ``converter.corrections.CORRECTIONS``
    initial_steps: int | None = None  # of cos and srp, on top of ``timesteps``; None: 8 for them, 0 for all others
    rounds: int = 2  # how often the correction is measured and applied at a site
    timesteps: int = 8  # T that thresholds and correction are chosen for, without initial steps
    silent_channels: Literal["borrow", "refuse"] = "borrow"  # never active in calibration
    encoder_levels: int = 15  # of either sign, within the range of the neurons in front of what is not spikes
    coding: Literal["rate", "differential"] = (
        "rate"  # differential: spikes carry changes; one initial step, no correction
    )
    strict: bool = False  # refuse anything but affine ops and neurons
    analog_islands: InitVar[bool | None] = None  # deprecated: without effect

    def __post_init__(self, analog_islands: bool | None) -> None:
        warn_of_islands(analog_islands)
        if isinstance(self.recipe, str):
            object.__setattr__(self, "recipe", RECIPES.get(self.recipe)())
        integer("timesteps", self.timesteps, low=1, high=4096)
        integer("rounds", self.rounds, low=1, high=100)
        flag("strict", self.strict)
        integer("encoder_levels", self.encoder_levels, low=1, high=127)
        if self.silent_channels not in ("borrow", "refuse"):
            raise ValueError(f"silent_channels must be borrow or refuse, got {self.silent_channels!r}")
        kind, correction = NEURONS.get(self.neuron), CORRECTIONS.get(self.correction)
        kind.levels(self.levels)
        if not kind.converts:
            raise ValueError(f"{self.neuron} neurons stand for no activation: use them with `seenn train-direct`")
        if correction.neuron not in (None, self.neuron):
            raise ValueError(f"{self.correction} is for {correction.neuron} neurons, got {self.neuron}: change either")
        if self.coding not in CODINGS:
            raise ValueError(f"coding must be {' or '.join(CODINGS)}, got {self.coding!r}")
        if self.coding == "differential" and not kind.signed:
            raise ValueError(
                f"differential coding needs spikes of both signs, and {self.neuron} neurons have one: take signed"
            )
        if self.coding == "differential" and self.correction != "none":
            raise ValueError(f"differential coding leaves no mean error to correct: leave out {self.correction}")
        steps = integer("initial_steps", self.steps_before, low=0, high=4096)
        if bool(steps) != bool(correction.initial_steps):
            raise ValueError(
                f"1 initial step or more goes with corrections that start from it, such as cos and srp, and with no "
                f"other: got {steps} with {self.correction}; change either"
            )

    @property
    def encoder_spikes(self) -> int:
        """Γ of encoders: half as many again as levels, for what overshoots its range while running means settle.

        Without that room charge waits in every encoder near the end of its range, and the error of deep networks falls
        late: at T = 128 a MixNet of 81 encoders was 7 times as far from its analog twin.
        """
        return min(127, self.encoder_levels + self.encoder_levels // 2)

    @property
    def max_spikes(self) -> int:
        """Γ, most spikes of either sign in a step."""
        return NEURONS.get(self.neuron).levels(self.levels)

    @property
    def steps_before(self) -> int:
        """Initial steps of every image, before the first that answers."""
        default = CORRECTIONS.get(self.correction).initial_steps
        return default if self.initial_steps is None else self.initial_steps

    @classmethod
    def suited(cls, *, qcfs_levels: int | None = None, **options: Any) -> ConvertConfig:
        """What ``options`` say, those that are not None, and for the rest what goes with them and with the model.

        Args:
            qcfs_levels: L of a network of QCFS activations: its own thresholds, binary neurons, T = L. None: no such.
            options: fields of this class.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        if qcfs_levels is not None:
            defaults = {"recipe": "qcfs", "neuron": "if", "correction": "none", "timesteps": qcfs_levels}
            chosen = defaults | chosen
        if chosen.get("coding") == "differential":
            chosen = {"correction": "none", **chosen}
        if "correction" in chosen and (kind := CORRECTIONS.get(chosen["correction"]).neuron) is not None:
            chosen.setdefault("neuron", kind)
        return cls(**chosen)

    def to_json(self) -> dict[str, Any]:
        """For manifests."""
        return {
            "recipe": {"name": self.recipe.name, **vars(self.recipe)},
            "neuron": {
                "kind": self.neuron,
                "signed": NEURONS.get(self.neuron).signed,
                "max_spikes": self.max_spikes,
            },
            "correction": self.correction,
            "prepass": self.steps_before,
            "rounds": self.rounds,
            "timesteps": self.timesteps,
            "silent_channels": self.silent_channels,
            "encoder_levels": self.encoder_levels,
            "coding": self.coding,
            "strict": self.strict,
        }
