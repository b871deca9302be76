"""Everything that one evaluation found, in one value: plots, tables and the JSON report are made from it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from seenn.analysis.report.samples import SampleExit
from seenn.analysis.report.text import percent
from seenn.metrics import ExitCurve, ExitStatistics


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The figures of a spiking network with early exit, and of its ANN, on one split.

    Accuracies and rates are fractions; energies are the 45 nm estimate, in pJ per image; SynOps and MACs are
    counts per image.

    Raises:
        ValueError: figures that are not finite or negative, accuracies above 1, parts that do not fit.
    """

    network: str  # the checkpoint or a name
    source: str  # the model that it was made from
    data: str
    split: str
    samples: int
    timesteps: int  # T, the most that answer
    policy: Mapping[str, Any]  # the exit policy, as JSON
    ann_accuracy: float | None  # None: the network has no ANN behind it
    accuracy: float  # at each image's exit
    accuracy_interval: tuple[float, float]  # 95 %
    accuracy_per_timestep: tuple[float, ...]  # every image run for t = 1..T steps
    exit: ExitStatistics
    aet: float  # steps; this, the curve and mean_timesteps include initial steps
    oracle_aet: float  # steps
    curve: ExitCurve | None  # every threshold of the policy's score; None where it has no threshold
    spike_rate_per_site: Mapping[str, float]  # spikes per neuron and timestep
    synops: float  # mean up to the exit
    synops_full: float  # at T
    energy_pj: float  # mean up to the exit
    energy_full_pj: float  # at T
    ann_energy_pj: float
    ann_macs: float
    analog_macs: float  # MACs of the network that spikes do not replace, up to the exit
    analog_macs_per_step: float = 0.0  # the part of them that every step repeats: what analog values reach
    analog_nodes: Mapping[str, str] = field(default_factory=dict)  # name to op: islands of a hybrid, max pools
    initial_steps: int = 0  # steps that every image takes before the first that answers
    policy_macs: float = 0.0  # MACs of the exit policy's own network (SEENN-II); energy_pj includes them
    easiest: Sequence[SampleExit] = ()
    hardest: Sequence[SampleExit] = ()
    class_names: Sequence[str] = ()  # empty: classes go by number
    manifest: Mapping[str, Any]  # how the network was made
    seed: int
    versions: Mapping[str, str]  # of the programs that ran
    command: str  # that repeats this

    def __post_init__(self) -> None:
        numbers = dict(_numbers("", self._figures()))
        if bad := [f"{name} = {value}" for name, value in numbers.items() if not math.isfinite(value)]:
            raise ValueError(f"Evaluation: {', '.join(bad)}; expected finite numbers only")
        amounts = (
            "synops",
            "synops_full",
            "energy_pj",
            "energy_full_pj",
            "ann_macs",
            "analog_macs",
            "analog_macs_per_step",
            "policy_macs",
        )
        if negative := [f"{name} = {numbers[name]}" for name in amounts if numbers[name] < 0]:
            raise ValueError(f"Evaluation: {', '.join(negative)}; expected 0 or more")
        if self.ann_energy_pj <= 0:
            raise ValueError(f"Evaluation: ann_energy_pj = {self.ann_energy_pj}; expected more than 0")
        shares = {name: value for name, value in numbers.items() if "accuracy" in name.partition(".")[0]}
        if outside := [f"{name} = {value}" for name, value in shares.items() if not 0.0 <= value <= 1.0]:
            raise ValueError(f"Evaluation: {', '.join(outside)}; expected fractions from 0 to 1, not percent")
        if not self.timesteps == len(self.accuracy_per_timestep) == self.exit.timesteps:
            raise ValueError(
                f"Evaluation: timesteps is {self.timesteps}, accuracy_per_timestep has "
                f"{len(self.accuracy_per_timestep)} entries, the exit histogram {self.exit.timesteps}; "
                f"expected the same T"
            )
        if self.exit.n != self.samples:
            raise ValueError(f"Evaluation: samples is {self.samples}, exits are of {self.exit.n}; expected one N")

    @property
    def mean_timesteps(self) -> float:
        """Mean steps of an image, initial steps included."""
        return self.initial_steps + self.exit.mean

    @property
    def steps(self) -> range:
        """After how many steps an answer may come, initial steps included: one number for each t = 1 … T."""
        return range(self.initial_steps + 1, self.initial_steps + self.timesteps + 1)

    @property
    def full_accuracy(self) -> float:
        """Accuracy at T, without early exit."""
        return self.accuracy_per_timestep[-1]

    def __str__(self) -> str:
        """The main figures in a line."""
        ann = "" if self.ann_accuracy is None else f"; the ANN {percent(self.ann_accuracy)}"
        return (
            f"{percent(self.accuracy)} of {self.samples:,} {self.split} images after {self.mean_timesteps:.2f} steps, "
            f"{percent(self.full_accuracy)} after {self.steps[-1]}{ann}"
        )

    def to_json(self) -> dict[str, Any]:
        """The JSON report: the fields by name, exit figures as ``exit_*``, the curve as its Pareto front."""
        return self._figures() | {"exit_curve_front": self._front()}

    def _figures(self) -> dict[str, Any]:
        plain = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if f.name not in ("exit", "curve")}
        exits = {f"exit_{name}": value for name, value in self.exit.to_json().items() if name not in ("mean", "n")}
        derived = {"mean_timesteps": self.mean_timesteps, "full_accuracy": self.full_accuracy}
        return plain | exits | derived

    def _front(self) -> dict[str, list[float]] | None:
        """The thresholds that no cheaper one matches: what is left out is never the better choice."""
        if self.curve is None:
            return None
        return {name: values.tolist() for name, values in vars(self.curve.pareto()).items() if values is not None}


def _plain(value: Any) -> Any:
    """Tuples to lists, mappings to dicts, samples to dicts."""
    if isinstance(value, SampleExit):
        return asdict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value


def _numbers(where: str, value: Any) -> Iterator[tuple[str, float]]:
    """Every number inside ``value`` with the path to it, such as ``spike_rate_per_site.relu_1``."""
    if isinstance(value, float | int):
        yield where, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(f"{where}.{key}".lstrip("."), item)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(f"{where}[{index}]", item)
