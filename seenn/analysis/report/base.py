"""What reports on one split have in common: a subject, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Any

from seenn.analysis.report.samples import SampleExit
from seenn.metrics import ExitCurve


@dataclass(frozen=True, kw_only=True)
class Report:
    """Figures of a spiking network on one split: accuracies as fractions, energies as estimates in pJ per image."""

    network: str  # the checkpoint or a name
    fingerprint: str = ""  # of its graph and weights
    data: str
    split: str
    samples: int
    timesteps: int  # T, the most that answer
    accuracy_per_timestep: tuple[float, ...]  # every image run for t = 1..T steps
    oracle_aet: float  # mean steps of who stops at the first right answer
    initial_steps: int = 0  # of every image before the first that answers; all mean timesteps include them
    easiest: Sequence[SampleExit] = ()
    hardest: Sequence[SampleExit] = ()
    class_names: Sequence[str] = ()  # empty: classes go by number
    seed: int
    command: str  # that repeats this

    @property
    def subject(self) -> str:
        """What was run on what."""
        return f"{self.network} on {self.data} ({self.split}, {self.samples:,} images)"

    @property
    def steps(self) -> range:
        """After how many steps an answer may come, initial steps included: one number for each t = 1 … T."""
        return range(self.initial_steps + 1, self.initial_steps + self.timesteps + 1)

    @property
    def full_accuracy(self) -> float:
        """Accuracy at T, without early exit."""
        return self.accuracy_per_timestep[-1]

    def to_json(self) -> dict[str, Any]:
        """Every figure by name."""
        return {**plain(vars(self)), "full_accuracy": self.full_accuracy}


def plain(value: Any) -> Any:
    """``value`` as JSON holds it: the fields of a dataclass by name, the Pareto front of a curve, lists of tuples."""
    if isinstance(value, ExitCurve):
        return {name: column.tolist() for name, column in vars(value.pareto()).items() if column is not None}
    if hasattr(value, "to_json"):
        return plain(value.to_json())
    if is_dataclass(value):
        return plain(vars(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value
