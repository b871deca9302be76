"""Exit policies side by side: one table, one plot, one JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from seenn.analysis.report.figures import add_legend, new_panels, save_png
from seenn.analysis.report.gallery import plot_gallery
from seenn.analysis.report.markdown import markdown_cell, markdown_code, markdown_table
from seenn.analysis.report.samples import SampleExit
from seenn.analysis.report.text import energy, percent, steps
from seenn.files import write_text
from seenn.metrics import ExitCurve

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

    def with_pareto(self, costs: tuple[str, ...]) -> PolicyFigures:
        """The same, knowing where it is Pareto-best."""
        return replace(self, pareto=costs)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All policies on one split, and what holds for the network whatever stops it."""

    network: str
    data: str
    split: str
    latency: str  # how it was measured
    command: str
    samples: int
    timesteps: int  # T
    full_accuracy: float
    accuracy_per_timestep: tuple[float, ...]
    energy_per_timestep_pj: tuple[float, ...]
    ece_per_timestep: tuple[float, ...]  # of max softmax(S_t / t)
    oracle_aet: float
    policies: tuple[PolicyFigures, ...]
    left_out: Mapping[str, str]  # policies that could not take part, and why
    sample_policy: str  # whose exits order the easiest and hardest images
    easiest: Sequence[SampleExit]
    hardest: Sequence[SampleExit]
    class_names: tuple[str, ...]
    seed: int
    initial_steps: int = 0  # steps of every image before the first that answers; all mean timesteps include them

    def to_json(self) -> dict[str, Any]:
        """Every figure; curves as their Pareto fronts."""
        plain = {
            f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("policies", "easiest", "hardest")
        }
        samples = {name: [asdict(s) for s in getattr(self, name)] for name in ("easiest", "hardest")}
        return {**_lists(plain), "policies": [_policy_json(f) for f in self.policies], **samples}


def comparison_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells under ``COLUMNS``, cheapest first; brackets hold 95 % intervals."""
    rows: list[tuple[str, ...]] = []
    for f in sorted(comparison.policies, key=lambda f: f.timesteps.mean):
        a, t = f.accuracy, f.timesteps
        rows.append(
            (
                f.name,
                f"{100 * a.mean:.2f} [{100 * a.low:.2f}, {100 * a.high:.2f}]",
                f"{100 * f.below_full:.2f}",
                f"{t.mean:.2f} [{t.low:.2f}, {t.high:.2f}]",
                energy(f.energy_pj.mean),
                "–" if f.latency_ms is None else f"{f.latency_ms:.1f}",
                f"{100 * f.oracle_share:.0f} %",
                ", ".join(f.pareto) or "–",
            )
        )
    return rows


def write_comparison(comparison: Comparison, images: Mapping[int, Tensor], folder: str | os.PathLike[str]) -> Path:
    """Writes ``exits.md``, ``exits.json``, ``exits-compared.png`` and ``exit-images.png`` into ``folder``.

    Args:
        images: raw pixels of the easiest and hardest samples by index, uint8 ``[C, H, W]``.

    Returns:
        The path of ``exits.md``.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    if comparison.easiest or comparison.hardest:
        plot_gallery(comparison, images, target / "exit-images.png")
    plot_comparison(comparison, target / "exits-compared.png")
    write_text(target / "exits.md", _markdown(comparison))
    write_text(target / "exits.json", json.dumps(comparison.to_json(), indent=2, allow_nan=False) + "\n")
    return target / "exits.md"


def plot_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> None:
    """Accuracy against mean timesteps, energy and latency: a point a policy, its curve where it has one."""
    c = comparison
    title = f"{c.network} on {c.data} ({c.split}, {c.samples:,} images)"
    labels = ("mean timesteps", "energy per image (µJ)", f"ms per image ({c.latency})")
    figure, panels = new_panels("Exit policies compared", title, labels, "accuracy (%)")
    for index, f in enumerate(c.policies):
        color, marker = f"C{index % 10}", "osD^vP*X"[index // 10 * 4 % 8 + index % 4]
        accuracy = 100 * f.accuracy.mean
        bars = [[accuracy - 100 * f.accuracy.low], [100 * f.accuracy.high - accuracy]]
        costs = (f.timesteps.mean, f.energy_pj.mean / 1e6, f.latency_ms)
        curve = f.curve
        energies = None if curve is None or curve.mean_energy_pj is None else curve.mean_energy_pj / 1e6
        for axes, cost, along in zip(
            panels, costs, (None if curve is None else curve.mean_timesteps, energies, None), strict=True
        ):
            label = f.name if axes is panels[0] else None
            if cost is not None:
                axes.errorbar([cost], [accuracy], yerr=bars, color=color, marker=marker, markersize=6, label=label)
            if curve is not None and along is not None:
                axes.plot(along, 100 * curve.accuracy, color=color, linewidth=0.9, alpha=0.6)
    panels[0].axvline(c.oracle_aet, color="#009E73", linestyle=":", label=f"oracle, {steps(c.oracle_aet)}")
    low = min(100 * f.accuracy.low for f in c.policies)
    high = max(100 * f.accuracy.high for f in c.policies)
    margin = 0.2 * (high - low) or 1.0  # of a point, where all are alike
    for axes in panels:
        axes.set_ylim(low - margin, high + margin)
    add_legend(figure, columns=4)
    save_png(figure, path)


def _markdown(c: Comparison) -> str:
    cheapest = sorted(c.policies, key=lambda f: f.timesteps.mean)
    classes = list(cheapest[0].exits_per_class)
    groups = list(dict.fromkeys(group for f in cheapest for group in f.exits_by_difficulty))
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
        *(f"Left out: {markdown_cell(name)}: {markdown_cell(reason)}" for name, reason in c.left_out.items()),
        "![Exit policies compared](exits-compared.png)",
        "## Mean timesteps by difficulty",
        markdown_table(
            ("policy", *groups),
            [(markdown_cell(f.name), *(_steps_of(f.exits_by_difficulty, g) for g in groups)) for f in cheapest],
        ),
        "## Mean timesteps and accuracy by class",
        markdown_table(
            ("policy", *map(markdown_cell, classes)),
            [
                (
                    markdown_cell(f.name),
                    *(f"{f.exits_per_class[k]:.2f} ({100 * f.accuracy_per_class[k]:.1f} %)" for k in classes),
                )
                for f in cheapest
            ],
        ),
        "## Per timestep",
        "ECE: expected calibration error of the mean logits' top probability, 15 bins.",
        markdown_table(
            ("t", "accuracy", "energy", "ECE"),
            [(str(t), percent(a), energy(e), f"{ece:.4f}") for t, (a, e, ece) in enumerate(per_t, 1)],
        ),
    ]
    if c.easiest or c.hardest:
        sections += [
            f"## Easiest and hardest images, by {markdown_cell(c.sample_policy)}",
            "![images](exit-images.png)",
        ]
    return "\n\n".join([*sections, f"Command: {markdown_code(c.command)}"]) + "\n"


def _steps_of(groups: Mapping[str, float], group: str) -> str:
    return f"{groups[group]:.2f}" if group in groups else "–"


def _policy_json(f: PolicyFigures) -> dict[str, Any]:
    plain = {field.name: getattr(f, field.name) for field in fields(f) if field.name != "curve"}
    plain |= {name: asdict(getattr(f, name)) for name in ("accuracy", "timesteps", "energy_pj")}
    front = None
    if f.curve is not None:
        front = {name: values.tolist() for name, values in vars(f.curve.pareto()).items() if values is not None}
    return {**_lists(plain), "curve_front": front}


def _lists(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
