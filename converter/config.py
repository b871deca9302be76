"""What a conversion may choose, as typed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from converter.recipes import MMSE, Learned, Max, Percentile, Recipe
from seenn.core.ops import neuron_kind
from seenn.errors import did_you_mean

Correction = Literal["none", "bias", "potential", "joint", "cos", "srp"]
#: Corrections by a pre-pass over each image, at run time, instead of by what calibration images showed.
PREPASS = ("cos", "srp")
DEFAULT_PREPASS = 8  # steps, as published
RECIPES: Mapping[str, type[Max] | type[Percentile] | type[MMSE] | type[Learned]] = {
    recipe.name: recipe for recipe in (Max, Percentile, MMSE, Learned)
}


@dataclass(frozen=True, kw_only=True)
class NeuronSpec:
    """The kind of neuron at every site.

    ``max_spikes`` = 1 unsigned is the binary IF neuron; more make it a burst neuron; ``signed`` may take
    spikes back. A spike of level n, or n spikes in a step, always count n in every figure.
    """

    signed: bool = True
    max_spikes: int = 4  # Γ, 1 to 127

    def __post_init__(self) -> None:
        if isinstance(self.max_spikes, bool) or not isinstance(self.max_spikes, int) or not 1 <= self.max_spikes <= 127:
            raise ValueError(f"max_spikes must be an integer from 1 to 127, got {self.max_spikes!r}")

    @property
    def kind(self) -> str:
        """``"if"``, ``"burst"`` or ``"signed"``."""
        return neuron_kind(self.signed, self.max_spikes)

    @staticmethod
    def of(kind: str, levels: int | None = None) -> NeuronSpec:
        """From the command line's words: ``if`` (1 level), ``burst`` and ``signed`` (4 unless given)."""
        if kind not in ("if", "burst", "signed"):
            raise ValueError(f"unknown neuron {kind!r}.{did_you_mean(kind, ('if', 'burst', 'signed'))}")
        if kind == "if" and levels not in (None, 1):
            raise ValueError(f"an IF neuron fires at most once a step; for {levels} levels use burst or signed")
        if kind == "burst" and levels == 1:
            raise ValueError("a burst neuron fires more than once a step; for 1 level use if")
        return NeuronSpec(signed=kind == "signed", max_spikes=levels or (1 if kind == "if" else 4))


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """Everything that determines a conversion, given the model and the calibration images.

    The default neuron is the most accurate at T = 8 of those in ``benchmarks/results/conversion.md``;
    ``benchmarks/recipes.py`` compares recipes and corrections on held-out images.
    """

    recipe: Recipe = field(default_factory=MMSE)
    neuron: NeuronSpec = field(default_factory=NeuronSpec)
    correction: Correction = "potential"  # what cancels each channel's mean error, site by site
    prepass: int = 0  # steps of the pre-pass of cos and srp, which come on top of ``timesteps``; 0 for all others
    rounds: int = 2  # how often the correction is measured and applied at a site
    timesteps: int = 8  # T that thresholds and correction are chosen for, without the pre-pass
    silent_channels: Literal["borrow", "refuse"] = "borrow"  # never active in calibration
    analog_islands: bool = False  # keep gates, smooth activations, normalisation and attention analog

    def __post_init__(self) -> None:
        if isinstance(self.timesteps, bool) or not isinstance(self.timesteps, int) or not 1 <= self.timesteps <= 4096:
            raise ValueError(f"timesteps must be an integer from 1 to 4096, got {self.timesteps!r}")
        if self.correction not in get_args(Correction):
            raise ValueError(f"correction must be one of {', '.join(get_args(Correction))}, got {self.correction!r}")
        if isinstance(self.prepass, bool) or not isinstance(self.prepass, int) or not 0 <= self.prepass <= 4096:
            raise ValueError(f"prepass must be an integer from 0 to 4096, got {self.prepass!r}")
        if (self.correction in PREPASS) != (self.prepass > 0):
            raise ValueError(
                f"a pre-pass of 1 step or more goes with the corrections {' and '.join(PREPASS)}, and with no other: "
                f"got {self.prepass} with {self.correction}"
            )
        if self.prepass and self.neuron.kind != "if":
            raise ValueError(f"{self.correction} is for binary neurons (if), got {self.neuron.kind}")
        if self.silent_channels not in ("borrow", "refuse"):
            raise ValueError(f"silent_channels must be borrow or refuse, got {self.silent_channels!r}")
        if not 1 <= self.rounds <= 100:
            raise ValueError(f"rounds must be 1 to 100, got {self.rounds}")
        if not isinstance(self.analog_islands, bool):
            raise ValueError(f"analog_islands must be true or false, got {self.analog_islands!r}")

    @staticmethod
    def for_qcfs(levels: int) -> ConvertConfig:
        """For a network with QCFS activations of so many levels: their thresholds, binary neurons, T = L."""
        return ConvertConfig(
            recipe=Learned(), neuron=NeuronSpec(signed=False, max_spikes=1), correction="none", timesteps=levels
        )

    def to_json(self) -> dict[str, Any]:
        """For manifests."""
        return {
            "recipe": {"name": self.recipe.name, **vars(self.recipe)},
            "neuron": {
                "kind": self.neuron.kind,
                "signed": self.neuron.signed,
                "max_spikes": self.neuron.max_spikes,
            },
            "correction": self.correction,
            "prepass": self.prepass,
            "rounds": self.rounds,
            "timesteps": self.timesteps,
            "silent_channels": self.silent_channels,
            "analog_islands": self.analog_islands,
        }
