"""Two charts of a benchmark: how fast at which accuracy, and how time grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seenn.analysis.bench.timing import Growth
from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.figures import BLUE, GREEN, GREY, INK, ORANGE, VERMILLION

COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, INK, GREY)
MARKERS = "*s^Dvp8X"


def speed_chart(points: Mapping[str, tuple[float, float]], subject: str) -> Chart:
    """Images/s against accuracy, one mark a contender; up and to the right is better.

    Args:
        points: images/s and accuracy (a fraction) by contender; the first is the one that it is about.
        subject: what was run on what.
    """
    series = [
        Series(
            name=f"{name}: {rate:.1f}/s",
            style="marks",
            x=(100 * accuracy,),
            y=(rate,),
            color=COLOURS[number % len(COLOURS)],
            marker=MARKERS[number % 8 or (1 if number else 0)],
        )
        for number, (name, (rate, accuracy)) in enumerate(points.items())
    ]
    panel = Panel(xlabel="accuracy (%)", series=series)
    title = "Images/s against accuracy"
    return Chart(name="speed", title=title, subtitle=subject, ylabel="images/s", panels=(panel,), log_y=True)


def growth_chart(growths: Sequence[Growth], subject: str) -> Chart:
    """Time against each thing that was varied, on logarithmic axes: linear growth is the slope of the dashed line."""
    panels = []
    for growth in growths:
        sizes = list(growth.times)
        middle = [1000 * timing.median for timing in growth.times.values()]
        low, high = ([1000 * edge(t.seconds) for t in growth.times.values()] for edge in (min, max))
        linear = [middle[-1] * size / sizes[-1] for size in sizes]
        series = (
            Series(style="band", x=sizes, low=low, high=high),
            Series(x=sizes, y=middle, marker="o"),
            Series(x=sizes, y=linear, color=GREY, dashed=True, faint=True),
        )
        panels.append(Panel(xlabel=f"{growth.of} (slope {growth.slope:.2f})", series=series, log_x=True, ticks=sizes))
    subtitle = f"{subject}; dashed: linear"
    return Chart(
        name="growth", title="How time grows", subtitle=subtitle, ylabel="time (ms)", panels=panels, log_y=True
    )
