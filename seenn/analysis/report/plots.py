"""The three curves of an evaluation: accuracy over time, when images exit, and what a threshold buys."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import BLUE, GREEN, GREY, INK, VERMILLION, add_legend, new_axes, save_png
from seenn.analysis.report.text import percent, steps
from seenn.metrics import wilson_interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MAX_TICKS = 16  # more timesteps than this: let matplotlib choose which to label


def plot_accuracy(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Accuracy against t with its 95 % band, every image run for t steps; the ANN as a dashed line."""
    e = evaluation
    figure, axes = new_axes("Accuracy against timesteps", _subject(e), "timesteps t", "accuracy (%)")
    t = e.steps
    intervals = [wilson_interval(round(a * e.samples), e.samples) for a in e.accuracy_per_timestep]
    low, high = ([100 * bound for bound in bounds] for bounds in zip(*intervals, strict=True))
    axes.fill_between(t, low, high, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
    accuracy = [100 * a for a in e.accuracy_per_timestep]
    axes.plot(t, accuracy, color=BLUE, marker="o", markersize=4, label="SNN, every image for t steps")
    _mark_ann(axes, e)
    _mark_choice(axes, e)
    _tick_timesteps(axes, e.steps)
    add_legend(figure)
    save_png(figure, path)


def plot_exits(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Share of images that exited at each t, with the mean marked."""
    e = evaluation
    figure, axes = new_axes("When images exit", _subject(e), "exit timestep t", "images (%)")
    t = e.steps
    shares = [100 * count / e.samples for count in e.exit.histogram]
    bars = axes.bar(t, shares, color=BLUE, width=0.8)
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
    save_png(figure, path)


def plot_tradeoff(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Accuracy against mean timesteps for every threshold, with the chosen one, fixed T and the oracle.

    Raises:
        ValueError: the evaluation has no curve.
    """
    e = evaluation
    if e.curve is None:
        raise ValueError("plot_tradeoff: the evaluation has no curve; its exit policy has no threshold to vary")
    figure, axes = new_axes("What early exit costs", _subject(e), "mean timesteps per image", "accuracy (%)")
    axes.plot(
        e.curve.mean_timesteps.numpy(),
        100 * e.curve.accuracy.numpy(),
        color=BLUE,
        label="early exit, every possible threshold",
    )
    axes.plot(
        e.steps,
        [100 * a for a in e.accuracy_per_timestep],
        color=GREY,
        linestyle="none",
        marker="s",
        markersize=5,
        markerfacecolor="white",
        label="no early exit, the same t for every image",
    )
    axes.axvline(
        e.oracle_aet,
        color=GREEN,
        linestyle=":",
        label=f"oracle: knows when it is right, {steps(e.oracle_aet)}",
    )
    _mark_ann(axes, e)
    _mark_choice(axes, e)
    _tick_timesteps(axes, e.steps)
    add_legend(figure)
    save_png(figure, path)


def _subject(e: Evaluation) -> str:
    return f"{e.network} on {e.data} ({e.split}, {e.samples:,} images)"


def _mark_ann(axes: Axes, e: Evaluation) -> None:
    if e.ann_accuracy is not None:
        label = f"ANN, {percent(e.ann_accuracy)}"
        axes.axhline(100 * e.ann_accuracy, color=INK, linestyle="--", linewidth=1.2, label=label)


def _mark_choice(axes: Axes, e: Evaluation) -> None:
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


def _tick_timesteps(axes: Axes, steps: range) -> None:
    from matplotlib.ticker import MaxNLocator

    if len(steps) <= _MAX_TICKS:
        axes.set_xticks(steps)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
