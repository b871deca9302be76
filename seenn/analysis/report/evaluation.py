"""Everything that one evaluation found, in one value: plots, tables and the JSON report are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seenn.analysis.report.base import Report
from seenn.analysis.report.text import percent
from seenn.metrics import ExitCurve, ExitStatistics
from seenn.metrics.energy import QuantisedANN


@dataclass(frozen=True, kw_only=True)
class DepthExits:
    """Exits at every head of every step, and at its end: the exit points, in order of cost."""

    heads: tuple[str, ...]  # nodes
    behind: tuple[str, ...]  # of each head, the neurons that it reads
    cost: tuple[float, ...]  # full steps up to each point, initial steps included
    exits: tuple[int, ...]  # images that left there
    accuracy: tuple[float, ...]  # of all images, had they left there

    @property
    def by_place(self) -> dict[str, int]:
        """How many images left at each head, whatever the step, and at the end of a step."""
        places = (*self.behind, "the end of a step")
        return {place: sum(self.exits[number :: len(places)]) for number, place in enumerate(places)}

    @property
    def mean_cost(self) -> float:
        """Full steps that an image takes on average."""
        return sum(cost * count for cost, count in zip(self.cost, self.exits, strict=True)) / sum(self.exits)


@dataclass(frozen=True, kw_only=True)
class Evaluation(Report):
    """The figures of a spiking network with early exit, and of its ANN. SynOps and MACs are counts per image."""

    source: str  # the model that it was made from
    policy: Mapping[str, Any]  # the exit policy, as JSON
    ann_accuracy: float | None  # None: the network has no ANN behind it
    accuracy: float  # at each image's exit
    accuracy_interval: tuple[float, float]  # 95 %
    exit: ExitStatistics
    depth: DepthExits | None = None  # where images exit in a network with heads
    drift: Mapping[str, Any] | None = None  # whether images are like those of the calibration; None: not known
    aet: float  # average exit time, in steps: see seenn.metrics.average_exit_time
    curve: ExitCurve | None  # every threshold of the policy's score; None where it has no threshold
    spike_rate_per_site: Mapping[str, float]  # spikes per neuron and timestep
    synops: float  # mean up to the exit
    synops_full: float  # at T
    energy_pj: float  # mean up to the exit
    energy_full_pj: float  # at T
    ann_energy_pj: float
    quantised: QuantisedANN
    integer_energy_pj: float  # energy_pj in integers, without the policy's own network
    events: float  # steps in which a neuron fires, mean up to the exit
    popcount: float  # likewise the bits that are set in their counts
    spikes: float  # likewise their counts
    ann_macs: float
    analog_macs: float  # MACs of the network that spikes do not replace, up to the exit
    analog_macs_per_step: float = 0.0  # the part of them that every step repeats: what analog values reach
    spiking_mac_share: float = 0.0  # of the MACs of every step, those whose operand is a spike count
    running_means: Mapping[str, str] = field(default_factory=dict)  # nodes that act on them: name to op
    policy_macs: float = 0.0  # MACs of the exit policy's own network (SEENN-II); energy_pj includes them
    manifest: Mapping[str, Any]  # how the network was made
    versions: Mapping[str, str]  # of the programs that ran

    @property
    def mean_timesteps(self) -> float:
        """Mean steps of an image, initial steps included; one that was left at a head counts as a step."""
        return self.initial_steps + self.exit.mean

    @property
    def mean_cost(self) -> float:
        """Full steps that an image takes on average, initial steps included."""
        return self.mean_timesteps if self.depth is None else self.depth.mean_cost

    def __str__(self) -> str:
        """The main figures in a line."""
        ann = "" if self.ann_accuracy is None else f"; the ANN {percent(self.ann_accuracy)}"
        work = "" if self.depth is None else "the work of "
        return (
            f"{percent(self.accuracy)} of {self.samples:,} {self.split} images after {work}{self.mean_cost:.2f} steps, "
            f"{percent(self.full_accuracy)} after {self.steps[-1]}{ann}"
        )

    def to_json(self) -> dict[str, Any]:
        """The fields by name, exit figures as ``exit_*``, the curve as its Pareto front."""
        figures = super().to_json()
        exits, front = figures.pop("exit"), figures.pop("curve")
        figures |= {f"exit_{name}": value for name, value in exits.items() if name not in ("mean", "n")}
        means = {"mean_timesteps": self.mean_timesteps, "mean_cost": self.mean_cost}
        return figures | means | {"exit_curve_front": front}
