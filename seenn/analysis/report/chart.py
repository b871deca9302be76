"""Plots as data, drawn twice: as a PNG for Markdown, and interactively in HTML (``seenn.analysis.report.html``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from seenn.analysis.report.figures import BLUE, GREY, INK, PathLike, plots

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Style = Literal["line", "marks", "bars", "band", "vertical", "horizontal"]
_MAX_TICKS = 16  # more values than this: let matplotlib choose which to label


@dataclass(frozen=True, kw_only=True)
class Series:
    """Values that look alike. A ``band`` lies between ``low`` and ``high``; elsewhere these are error bars.

    ``vertical`` is a line at its only x, ``horizontal`` one at its only y.
    """

    name: str = ""  # in the legend; empty: not there
    style: Style = "line"
    x: Sequence[float] = ()
    y: Sequence[float] = ()
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    texts: Sequence[str] = ()  # beside each value
    color: str = BLUE
    marker: str = ""  # as matplotlib calls it: o, s, D, ^, v, P, X, *; empty: none
    dashed: bool = False
    faint: bool = False
    hollow: bool = False


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One plot; those of a chart share their vertical axis."""

    xlabel: str
    series: Sequence[Series]
    log_x: bool = False
    ticks: Sequence[float] = ()  # the only values that x takes, where they are few


@dataclass(frozen=True, kw_only=True)
class Chart:
    """One or more plots side by side. Texts are literal: no formula, no markup."""

    name: str  # of its PNG, without .png
    title: str
    subtitle: str
    ylabel: str
    panels: Sequence[Panel]
    log_y: bool = False
    ylim: tuple[float, float] | None = None  # None: as the values want

    @property
    def file(self) -> str:
        """Its PNG in the folder of a report."""
        return f"{self.name}.png"

    def draw(self, path: PathLike) -> None:
        """Writes the PNG.

        Raises:
            OutputError: the file cannot be written.
        """
        named = any(series.name for panel in self.panels for series in panel.series)
        columns = 0 if not named else 2 if len(self.panels) == 1 else 4
        labels = [panel.xlabel for panel in self.panels]
        with plots(path, self.title, self.subtitle, labels, self.ylabel, legend=columns) as drawn:
            for axes, panel in zip(drawn, self.panels, strict=True):
                for series in panel.series:
                    _draw(axes, series)
                _scale(axes, panel, self.log_y)
            if self.ylim is not None:
                drawn[0].set_ylim(*self.ylim)  # the panels share it


def fixed_steps(steps: Sequence[float], accuracies: Sequence[float]) -> Series:
    """White squares: the accuracy (a fraction) of running every image for the same number of steps."""
    percent, name = [100 * accuracy for accuracy in accuracies], "no early exit, the same t for every image"
    return Series(name=name, style="marks", x=steps, y=percent, color=GREY, marker="s", hollow=True)


def _draw(axes: Axes, s: Series) -> None:
    label = s.name or None
    if s.style == "band":
        axes.fill_between(s.x, s.low, s.high, color=s.color, alpha=0.15, linewidth=0, label=label)
    elif s.style == "bars":
        bars = axes.bar(s.x, s.y, color=s.color, width=0.8, label=label)
        if len(s.x) <= _MAX_TICKS:
            axes.bar_label(bars, s.texts, fontsize=8, color=GREY, padding=2)
    elif s.style in ("vertical", "horizontal"):
        line, at = (axes.axvline, s.x[0]) if s.style == "vertical" else (axes.axhline, s.y[0])
        line(at, color=s.color, linestyle="--" if s.dashed else ":", linewidth=1.2, label=label)
    else:
        style = "none" if s.style == "marks" else "--" if s.dashed else "-"
        width, alpha = (0.9, 0.6) if s.faint else (1.5, 1.0)
        errors = [[y - low, high - y] for low, y, high in zip(s.low, s.y, s.high, strict=False)]
        axes.errorbar(
            s.x,
            s.y,
            yerr=list(zip(*errors, strict=True)) or None,
            label=label,
            color=s.color,
            linestyle=style,
            linewidth=width,
            alpha=alpha,
            marker=s.marker,
            markersize=15 if s.marker == "*" else 5,
            mfc="white" if s.hollow else s.color,
        )
        for x, y, text in zip(s.x, s.y, s.texts, strict=bool(s.texts)):
            axes.annotate(text, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=8, color=INK)


def _scale(axes: Axes, panel: Panel, log_y: bool) -> None:
    from matplotlib.ticker import MaxNLocator

    if panel.log_x:
        axes.set_xscale("log", base=2)
    if log_y:
        axes.set_yscale("log")
    axes.margins(y=0.15)
    if panel.ticks and (panel.log_x or len(panel.ticks) <= _MAX_TICKS):
        axes.set_xticks(panel.ticks, [f"{tick:g}" for tick in panel.ticks])
    elif panel.ticks:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
