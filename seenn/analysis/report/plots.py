"""The three curves of an evaluation: accuracy over time, when images exit, and what a threshold buys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import BLUE, GREEN, GREY, INK, VERMILLION, PathLike, plot, plot_fixed
from seenn.analysis.report.text import percent, steps
from seenn.metrics import ExitCurve, wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_TICKS = 16  # more timesteps than this: let matplotlib choose which to label


def plot_accuracy(e: Evaluation, path: PathLike) -> None:
    """Accuracy against t with its 95 % band, every image run for t steps; the ANN as a dashed line."""
    intervals = [wilson_interval(round(a * e.samples), e.samples) for a in e.accuracy_per_timestep]
    low, high = ([100 * bound for bound in bounds] for bounds in zip(*intervals, strict=True))
    with _accuracy_plot(e, path, "Accuracy against timesteps", "timesteps t") as axes:
        axes.fill_between(e.steps, low, high, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
        accuracy = [100 * a for a in e.accuracy_per_timestep]
        axes.plot(e.steps, accuracy, color=BLUE, marker="o", markersize=4, label="SNN, every image for t steps")


def plot_tradeoff(e: Evaluation, curve: ExitCurve, path: PathLike) -> None:
    """Accuracy against mean timesteps for every threshold, with the chosen one, fixed T and the oracle."""
    with _accuracy_plot(e, path, "What early exit costs", "mean timesteps per image") as axes:
        accuracy, label = 100 * curve.accuracy.numpy(), "early exit, every possible threshold"
        axes.plot(curve.mean_timesteps.numpy(), accuracy, color=BLUE, label=label)
        plot_fixed(axes, e.steps, e.accuracy_per_timestep)
        label = f"oracle: knows when it is right, {steps(e.oracle_aet)}"
        axes.axvline(e.oracle_aet, color=GREEN, linestyle=":", label=label)


def plot_exits(e: Evaluation, path: PathLike) -> None:
    """Share of images that exited at each t, with the mean marked."""
    with plot(path, "When images exit", e.subject, "exit timestep t", "images (%)", legend=0) as axes:
        bars = axes.bar(e.steps, [100 * count / e.samples for count in e.exit.histogram], color=BLUE, width=0.8)
        if e.timesteps <= _MAX_TICKS:
            labels = [f"{count:,}" if count else "" for count in e.exit.histogram]
            axes.bar_label(bars, labels, fontsize=8, color=GREY, padding=2)
        axes.axvline(e.mean_timesteps, color=VERMILLION, linewidth=1.5, linestyle="--")
        late = e.exit.mean > (1 + e.timesteps) / 2  # the text stands on the roomier side of its line
        axes.annotate(
            f"mean {e.mean_timesteps:.2f}\n95 % exit by t = {e.initial_steps + e.exit.p95}",
            (e.mean_timesteps, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-6 if late else 6, -4),
            textcoords="offset points",
            ha="right" if late else "left",
            va="top",
            fontsize=9,
            color=VERMILLION,
        )
        axes.margins(y=0.25)  # room for the text above the tallest bar
        _tick_timesteps(axes, e.steps)


@contextmanager
def _accuracy_plot(e: Evaluation, path: PathLike, title: str, xlabel: str) -> Iterator[Axes]:
    """A plot of accuracy against time, on which the ANN and the chosen exit are marked."""
    with plot(path, title, e.subject, xlabel, "accuracy (%)") as axes:
        yield axes
        if e.ann_accuracy is not None:
            label = f"ANN, {percent(e.ann_accuracy)}"
            axes.axhline(100 * e.ann_accuracy, color=INK, linestyle="--", linewidth=1.2, label=label)
        axes.plot(
            e.mean_timesteps,
            100 * e.accuracy,
            color=VERMILLION,
            linestyle="none",
            marker="*",
            markersize=15,
            markeredgecolor="white",
            label=f"chosen exit: {percent(e.accuracy)} after {steps(e.mean_timesteps)}",
        )
        _tick_timesteps(axes, e.steps)


def _tick_timesteps(axes: Axes, steps: range) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(steps) <= _MAX_TICKS:
        axes.set_xticks(steps)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
