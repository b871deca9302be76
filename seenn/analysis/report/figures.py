"""One look for every plot, without pyplot and without touching matplotlib's global state."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from seenn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike[str]

# Okabe and Ito, 'Color Universal Design' (2008): distinct for the common kinds of colour blindness.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
INK, GREY = "#222222", "#767676"
#: For things side by side: matplotlib's ten.
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#bcbd22", "#17becf")


def new_figure(width: float = 7.0, height: float = 4.4) -> Figure:
    """An empty figure of ``width`` by ``height`` inches that belongs to nobody but the caller."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor="white")


@contextmanager
def plot(path: PathLike, title: str, subtitle: str, xlabel: str, ylabel: str, *, legend: int = 2) -> Iterator[Axes]:
    """One plot in the house look, written to ``path`` once it is drawn; see ``plots``."""
    with plots(path, title, subtitle, (xlabel,), ylabel, legend=legend) as (axes,):
        yield axes


@contextmanager
def plots(
    path: PathLike, title: str, subtitle: str, xlabels: Sequence[str], ylabel: str, *, legend: int = 2
) -> Iterator[list[Axes]]:
    """Several plots side by side that share their vertical axis. Texts are literal, a ``$`` is no formula.

    Args:
        path: of the PNG.
        legend: its columns, below the plots, where it covers no curve; 0: none.

    Raises:
        OutputError: the file cannot be written.
    """
    figure = new_figure() if len(xlabels) == 1 else new_figure(4.4 * len(xlabels), 5.2)
    panels = list(figure.subplots(1, len(xlabels), squeeze=False, sharey=True).flat)
    first = panels[0]
    first.set_title(title, loc="left", pad=22, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    first.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        fontsize=9,
        color=GREY,
        parse_math=False,
    )
    first.set_ylabel(ylabel, color=INK)
    for axes, xlabel in zip(panels, xlabels, strict=True):
        axes.set_xlabel(xlabel, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
        axes.set_axisbelow(True)
    yield panels
    if legend:
        figure.legend(loc="outside lower center", ncols=legend, frameon=False, fontsize=9)
    save_png(figure, path)


def save_png(figure: Figure, path: PathLike) -> None:
    """Writes ``figure`` atomically. The same figure gives the same bytes: no date, no version inside.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    with atomic_path(path) as temporary:
        canvas = FigureCanvasAgg(figure)
        canvas.print_png(temporary, metadata={"Software": None})  # type: ignore[no-untyped-call] # savefig draws twice
