"""Two pictures of a benchmark: how fast at which accuracy, and how time grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seenn.analysis.bench.timing import Growth
from seenn.analysis.report.figures import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION, PathLike, plot, plots

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, INK, GREY)
MARKERS = "s^Dvph8X"


def plot_speed(points: Mapping[str, tuple[float, float]], subject: str, path: PathLike) -> None:
    """Images/s against accuracy, one mark a contender; up and to the right is better.

    Args:
        points: images/s and accuracy (a fraction) by contender; the first is the one that it is about.
        subject: what was run on what.
        path: of the PNG.
    """
    with plot(path, "Images/s against accuracy", subject, "accuracy (%)", "images/s") as axes:
        for number, (name, (rate, accuracy)) in enumerate(points.items()):
            axes.plot(
                100 * accuracy,
                rate,
                linestyle="none",
                marker=MARKERS[number % 8] if number else "*",
                markersize=7 if number else 15,
                color=COLOURS[number % len(COLOURS)],
                label=f"{name}: {rate:.1f}/s",
            )
        axes.set_yscale("log")
        axes.margins(0.15)


def plot_growth(growths: Sequence[Growth], subject: str, path: PathLike) -> None:
    """Time against each thing that was varied, on logarithmic axes: linear growth is the slope of the dashed line."""
    subtitle, labels = f"{subject}; dashed: linear", [growth.of for growth in growths]
    with plots(path, "How time grows", subtitle, labels, "time (ms)", legend=0) as panels:
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
