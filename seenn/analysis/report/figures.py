"""One look for every plot, without pyplot and without touching matplotlib's global state."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from seenn.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito, 'Color Universal Design' (2008): distinct for the common kinds of colour blindness.
BLUE, ORANGE, VERMILLION, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
INK, GREY = "#222222", "#767676"


def new_figure(width: float = 7.0, height: float = 4.4) -> Figure:
    """An empty figure of ``width`` by ``height`` inches that belongs to nobody but the caller."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=140, layout="constrained", facecolor="white")


def new_axes(title: str, subtitle: str, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """A figure with one plot in the house look; texts are literal, a ``$`` is no formula."""
    figure, (axes,) = new_panels(title, subtitle, (xlabel,), ylabel)
    return figure, axes


def new_panels(title: str, subtitle: str, xlabels: Sequence[str], ylabel: str) -> tuple[Figure, list[Axes]]:
    """The same with several plots side by side that share their vertical axis."""
    figure = new_figure(7.0 if len(xlabels) == 1 else 4.4 * len(xlabels), 4.4 if len(xlabels) == 1 else 5.2)
    panels = list(figure.subplots(1, len(xlabels), squeeze=False, sharey=True).flat)
    axes = panels[0]
    axes.set_title(title, loc="left", pad=22, fontsize=13, fontweight="bold", color=INK, parse_math=False)
    axes.annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 8),
        textcoords="offset points",
        fontsize=9,
        color=GREY,
        parse_math=False,
    )
    axes.set_ylabel(ylabel, color=INK)
    for axes, xlabel in zip(panels, xlabels, strict=True):
        axes.set_xlabel(xlabel, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=INK, labelsize=9)
        axes.grid(axis="y", color="#E5E5E5", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, panels


def add_legend(figure: Figure, columns: int = 2) -> None:
    """Names every labelled curve below the plot, where it covers none of them."""
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes ``figure`` atomically. The same figure gives the same bytes: no date, no version inside.

    Raises:
        OSError: the folder is missing or not writable, or the disk is full.
    """
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})
