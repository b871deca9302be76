"""Exit policies side by side: one table, one plot, one JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from seenn.analysis.report.base import Report, plain
from seenn.analysis.report.figures import GREEN, PathLike, plots
from seenn.analysis.report.gallery import plot_gallery
from seenn.analysis.report.text import energy, markdown_cell, markdown_code, markdown_table, percent, steps
from seenn.files import make_folder
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


def write_comparison(c: Comparison, raw: Callable[[int], Tensor], folder: PathLike) -> Path:
    """Writes ``exits.md``, ``exits.json``, ``exits-compared.png`` and ``exit-images.png`` into ``folder``.

    Args:
        raw: the pixels of a sample by its index, uint8 ``[C, H, W]``.

    Returns:
        The path of ``exits.md``.

    Raises:
        DataError: an image cannot be read.
        OutputError: the folder cannot be written.
    """
    target = make_folder(folder)
    pictured = plot_gallery(c, raw, target / "exit-images.png")
    plot_comparison(c, target / "exits-compared.png")
    first = c.cheapest_first[0]
    before = f" after {c.initial_steps} initial ones, which all mean timesteps include" if c.initial_steps else ""
    per_t = zip(c.accuracy_per_timestep, c.energy_per_timestep_pj, c.ece_per_timestep, strict=True)
    sections = [
        f"# Exit policies of {markdown_cell(c.network)} on {markdown_cell(c.data)}",
        f"{c.samples:,} images of the {c.split} split, used for this report only. T = {c.timesteps}{before}, accuracy "
        f"at T {percent(c.full_accuracy)}; the oracle, which stops at the first right answer, needs "
        f"{steps(c.oracle_aet)}. Brackets: 95 % bootstrap intervals. «Below T»: points of accuracy; «of oracle»: share "
        f"of the steps that the oracle saves. Times: {c.latency}. Energies are estimates for 45 nm, a policy's own "
        "network included.",
        markdown_table(COLUMNS, [tuple(map(markdown_cell, row)) for row in comparison_rows(c)]),
        *([] if (beside := beside_ann(c)) is None else [beside]),
        *(f"Left out: {markdown_cell(name)}: {markdown_cell(reason)}" for name, reason in c.left_out.items()),
        "![Exit policies compared](exits-compared.png)",
        "## Mean timesteps by difficulty",
        _by_policy(c, first.exits_by_difficulty, lambda f, group: f"{f.exits_by_difficulty[group]:.2f}"),
        "## Mean timesteps and accuracy by class",
        _by_policy(
            c,
            first.exits_per_class,
            lambda f, k: f"{f.exits_per_class[k]:.2f} ({100 * f.accuracy_per_class[k]:.1f} %)",
        ),
        "## Per timestep",
        "ECE: expected calibration error of the mean logits' top probability, 15 bins.",
        markdown_table(
            ("t", "accuracy", "energy", "ECE"),
            [(str(t), percent(a), energy(e), f"{ece:.4f}") for t, (a, e, ece) in enumerate(per_t, 1)],
        ),
    ]
    if pictured:
        sections.append(f"## Easiest and hardest images, by {markdown_cell(c.sample_policy)}")
        sections.append("![images](exit-images.png)")
    return c.write(target, "exits", [*sections, f"Command: {markdown_code(c.command)}"])


def plot_comparison(c: Comparison, path: PathLike) -> None:
    """Accuracy against mean timesteps, energy and latency: a point a policy, its curve where it has one."""
    labels = ("mean timesteps", "energy per image (µJ)", f"ms per image ({c.latency})")
    with plots(path, "Exit policies compared", c.subject, labels, "accuracy (%)", legend=4) as panels:
        for index, f in enumerate(c.policies):
            color, marker = f"C{index % 10}", "osD^vP*X"[index // 10 * 4 % 8 + index % 4]
            accuracy = 100 * f.accuracy.mean
            bars = [[accuracy - 100 * f.accuracy.low], [100 * f.accuracy.high - accuracy]]
            costs = (f.timesteps.mean, f.energy_pj.mean / 1e6, f.latency_ms)
            for axes, cost in zip(panels, costs, strict=True):
                label = f.name if axes is panels[0] else None
                if cost is not None:
                    axes.errorbar([cost], [accuracy], yerr=bars, color=color, marker=marker, markersize=6, label=label)
            if f.curve is not None:
                along = 100 * f.curve.accuracy
                panels[0].plot(f.curve.mean_timesteps, along, color=color, linewidth=0.9, alpha=0.6)
                if f.curve.mean_energy_pj is not None:
                    panels[1].plot(f.curve.mean_energy_pj / 1e6, along, color=color, linewidth=0.9, alpha=0.6)
        panels[0].axvline(c.oracle_aet, color=GREEN, linestyle=":", label=f"oracle, {steps(c.oracle_aet)}")
        low = min(100 * f.accuracy.low for f in c.policies)
        high = max(100 * f.accuracy.high for f in c.policies)
        margin = 0.2 * (high - low) or 1.0  # of a point, where all are alike
        panels[0].set_ylim(low - margin, high + margin)  # the panels share it


def _by_policy(c: Comparison, columns: Iterable[str], cell: Callable[[PolicyFigures, str], str]) -> str:
    """A table with a row for each policy, cheapest first."""
    rows = [(markdown_cell(f.name), *(cell(f, column) for column in columns)) for f in c.cheapest_first]
    return markdown_table(("policy", *map(markdown_cell, columns)), rows)
