"""Two pictures of a benchmark: how fast at which accuracy, and how time grows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from seenn.analysis.bench.growth import Growth
from seenn.analysis.report.figures import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    add_legend,
    new_axes,
    new_panels,
    save_png,
)

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, INK, GREY)
MARKERS = "o*s^Dvph8X"


def plot_speed(points: Mapping[str, tuple[float, float]], subject: str, path: str | os.PathLike[str]) -> None:
    """Images/s against accuracy, one mark a contender; up and to the right is better.

    Args:
        points: images/s and accuracy (a fraction) by contender; the first is the one that it is about.
        subject: what was run on what.
        path: of the PNG.
    """
    figure, axes = new_axes("Images/s against accuracy", subject, "accuracy (%)", "images/s")
    for number, (name, (rate, accuracy)) in enumerate(points.items()):
        axes.plot(
            100 * accuracy,
            rate,
            linestyle="none",
            marker="*" if number == 0 else MARKERS[2 + number % 8],
            markersize=15 if number == 0 else 7,
            color=COLOURS[number % len(COLOURS)],
            label=f"{name}: {rate:.1f}/s",
        )
    axes.set_yscale("log")
    axes.margins(0.15)
    add_legend(figure)
    save_png(figure, path)


def plot_growth(growths: Sequence[Growth], subject: str, path: str | os.PathLike[str]) -> None:
    """Time against each thing that was varied, on logarithmic axes: linear growth is the slope of the dashed line."""
    figure, panels = new_panels(
        "How time grows", f"{subject}; dashed: linear", [growth.of for growth in growths], "time (ms)"
    )
    for axes, growth in zip(panels, growths, strict=True):
        sizes = list(growth.times)
        middle = [1000 * timing.median for timing in growth.times.values()]
        low, high = ([1000 * edge(t.seconds) for t in growth.times.values()] for edge in (min, max))
        axes.fill_between(sizes, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(sizes, middle, color=BLUE, marker="o", markersize=4)
        axes.plot(sizes, [middle[-1] * s / sizes[-1] for s in sizes], color=GREY, linestyle="--", linewidth=1)
        axes.annotate(f"slope {growth.slope:.2f}", (0.05, 0.93), xycoords="axes fraction", color=INK, fontsize=10)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
    save_png(figure, path)
