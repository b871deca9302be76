"""Exit policies side by side: one table, one plot, one JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seenn.analysis.report.base import Report, plain
from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.figures import COLOURS, GREEN, PathLike
from seenn.analysis.report.gallery import gallery
from seenn.analysis.report.page import Block, Heading, Lines, Page, Plot, Table, provenance
from seenn.analysis.report.text import energy, percent, steps
from seenn.metrics import ExitCurve
from seenn.metrics.energy import QuantisedANN

COLUMNS = ("policy", "accuracy (%)", "below T", "timesteps", "energy", "ms", "of oracle", "Pareto-best in")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A mean over images with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class PolicyFigures:
    """What one policy gives and costs; energies per image in pJ, its own network included."""

    name: str
    policy: Mapping[str, Any]  # as JSON
    accuracy: Amount
    timesteps: Amount
    energy_pj: Amount
    policy_energy_pj: float  # of it, the policy's own network
    latency_ms: float | None  # per image
    latency_p95_ms: float | None
    below_full: float  # accuracy at T minus accuracy, a fraction
    oracle_share: float  # of the steps that the oracle saves
    exits_per_class: Mapping[str, float]  # mean timesteps
    accuracy_per_class: Mapping[str, float]
    exits_by_difficulty: Mapping[str, float]  # mean timesteps
    curve: ExitCurve | None  # every threshold; for the plot
    pareto: tuple[str, ...] = ()  # costs in which no policy is both cheaper and as accurate

    def to_json(self) -> dict[str, Any]:
        """The fields by name, the curve as its Pareto front."""
        figures: dict[str, Any] = plain(vars(self))
        return figures | {"curve_front": figures.pop("curve")}


@dataclass(frozen=True, kw_only=True)
class Comparison(Report):
    """All policies on one split, and what holds for the network whatever stops it."""

    latency: str  # how it was measured
    ann_energy_pj: float | None = None  # None: there is no ANN behind the network
    quantised: QuantisedANN | None = None
    energy_per_timestep_pj: tuple[float, ...]
    ece_per_timestep: tuple[float, ...]  # of max softmax(S_t / t)
    policies: tuple[PolicyFigures, ...]
    left_out: Mapping[str, str]  # policies that could not take part, and why
    sample_policy: str  # whose exits order the easiest and hardest images

    @property
    def cheapest_first(self) -> list[PolicyFigures]:
        """The policies by their mean timesteps."""
        return sorted(self.policies, key=lambda f: f.timesteps.mean)


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells under ``COLUMNS``, cheapest first; brackets hold 95 % intervals."""
    return [
        (
            f.name,
            f"{100 * f.accuracy.mean:.2f} [{100 * f.accuracy.low:.2f}, {100 * f.accuracy.high:.2f}]",
            f"{100 * f.below_full:.2f}",
            f"{f.timesteps.mean:.2f} [{f.timesteps.low:.2f}, {f.timesteps.high:.2f}]",
            energy(f.energy_pj.mean),
            "–" if f.latency_ms is None else f"{f.latency_ms:.1f}",
            f"{100 * f.oracle_share:.0f} %",
            ", ".join(f.pareto) or "–",
        )
        for f in comparison.cheapest_first
    ]


def beside_ann(c: Comparison) -> str | None:
    """The energies of the ANN, and which policies need more; None where there is no ANN."""
    if c.ann_energy_pj is None or c.quantised is None:
        return None
    more = [f.name for f in c.policies if f.energy_pj.mean > c.ann_energy_pj]
    lost = f"MORE than the ANN need {', '.join(more)}. " if more else "All policies need less than the ANN. "
    return (
        f"Energy of the ANN: {energy(c.ann_energy_pj)}. {lost}ANN quantised to as many levels ({c.quantised.levels:,}, "
        f"{c.quantised.bits} bits): {energy(c.quantised.energy_pj)}; `seenn evaluate` has the SNN in integers, too."
    )


def write_comparison(c: Comparison, raw: Callable[[int], Tensor] | None, folder: PathLike) -> Path:
    """Writes ``exits.md``, ``exits.json``, ``report.html`` and the plots into ``folder``, all or none.

    Args:
        raw: the pixels of a sample by its index, uint8 ``[C, H, W]``; None: samples are no pictures.

    Returns:
        The path of ``report.html``.

    Raises:
        DataError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    first = c.cheapest_first[0]
    before = f" after {c.initial_steps} initial ones, which all mean timesteps include" if c.initial_steps else ""
    per_t = enumerate(zip(c.accuracy_per_timestep, c.energy_per_timestep_pj, c.ece_per_timestep, strict=True), 1)
    about = [
        f"{c.samples:,} images of the {c.split} split, used for this report only.",
        f"T = {c.timesteps}{before}, accuracy at T {percent(c.full_accuracy)}; the oracle, which stops at the first "
        f"right answer, needs {steps(c.oracle_aet)}.",
        "Brackets: 95 % bootstrap intervals. «Below T»: points of accuracy; «of oracle»: share of the steps that the "
        "oracle saves.",
        f"Times: {c.latency}. Energies are estimates for 45 nm, a policy's own network included.",
    ]
    blocks: list[Block] = [
        Lines(about),
        Table(COLUMNS, comparison_rows(c)),
        *([] if (beside := beside_ann(c)) is None else [Lines([beside])]),
        *(Lines([f"Left out: {name}: {reason}"]) for name, reason in c.left_out.items()),
        Plot(comparison_chart(c)),
        Heading("Mean timesteps by difficulty"),
        _by_policy(c, first.exits_by_difficulty, lambda f, group: f"{f.exits_by_difficulty[group]:.2f}"),
        Heading("Mean timesteps and accuracy by class"),
        _by_policy(
            c,
            first.exits_per_class,
            lambda f, k: f"{f.exits_per_class[k]:.2f} ({100 * f.accuracy_per_class[k]:.1f} %)",
        ),
        Heading("Per timestep"),
        Lines(["ECE: expected calibration error of the mean logits' top probability, 15 bins."]),
        Table(
            ("t", "accuracy", "energy", "ECE"),
            [(str(t), percent(a), energy(e), f"{ece:.4f}") for t, (a, e, ece) in per_t],
        ),
        *gallery(c, raw, "exit-images.png", f", by {c.sample_policy}"),
    ]
    blocks += provenance(network=c.network, fingerprint=c.fingerprint, command=c.command, seed=str(c.seed))
    title = f"Exit policies of {c.network} on {c.data}"
    return Page(name="exits", title=title, network=c.fingerprint, blocks=blocks).write(folder, c.to_json())


def comparison_chart(c: Comparison) -> Chart:
    """Accuracy against mean timesteps, energy and latency: a point a policy, its curve where it has one."""
    labels = ("mean timesteps", "energy per image (µJ)", f"ms per image ({c.latency})")
    series: list[list[Series]] = [[], [], []]
    for index, f in enumerate(c.policies):
        color, marker = COLOURS[index % len(COLOURS)], "osD^vP*X"[index // 10 * 4 % 8 + index % 4]
        mean, low, high = (100 * value for value in (f.accuracy.mean, f.accuracy.low, f.accuracy.high))
        costs = (f.timesteps.mean, f.energy_pj.mean / 1e6, f.latency_ms)
        for panel, cost in enumerate(costs):
            if cost is not None:
                mark = Series(
                    name="" if panel else f.name,
                    style="marks",
                    x=(cost,),
                    y=(mean,),
                    low=(low,),
                    high=(high,),
                    color=color,
                    marker=marker,
                )
                series[panel].append(mark)
        if f.curve is not None:
            along = (100 * f.curve.accuracy).tolist()
            energies = f.curve.mean_energy_pj
            for panel, values in enumerate((f.curve.mean_timesteps, None if energies is None else energies / 1e6)):
                if values is not None:
                    series[panel].append(Series(x=values.tolist(), y=along, color=color, faint=True))
    series[0].append(Series(name=f"oracle, {steps(c.oracle_aet)}", style="vertical", x=(c.oracle_aet,), color=GREEN))
    low = min(100 * f.accuracy.low for f in c.policies)
    high = max(100 * f.accuracy.high for f in c.policies)
    margin = 0.2 * (high - low) or 1.0  # of a point, where all are alike
    panels = [Panel(xlabel=label, series=own) for label, own in zip(labels, series, strict=True)]
    return Chart(
        name="exits-compared",
        title="Exit policies compared",
        subtitle=c.subject,
        ylabel="accuracy (%)",
        panels=panels,
        ylim=(low - margin, high + margin),
    )


def _by_policy(c: Comparison, columns: Iterable[str], cell: Callable[[PolicyFigures, str], str]) -> Table:
    """A table with a row for each policy, cheapest first."""
    names = tuple(columns)
    return Table(("policy", *names), [(f.name, *(cell(f, name) for name in names)) for f in c.cheapest_first])
