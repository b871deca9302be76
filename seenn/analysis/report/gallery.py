"""The easiest and the hardest images, to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from seenn.analysis.report.base import Report
from seenn.analysis.report.figures import GREY, INK, VERMILLION, PathLike, new_figure, save_png
from seenn.analysis.report.page import Picture
from seenn.analysis.report.samples import SampleExit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GALLERY = "images.png"
_COLUMNS = 8
_MAX_NAME = 14  # characters of a class name that fit above a tile
#: In inches: a tile's width, an image's longer side, two lines of text above it, between it and them, all of a row, and
#: what is above a group.
_TILE, _IMAGE, _LINES, _GAP, _ROW, _HEADING = 1.25, 1.1, 0.34, 0.04, 1.75, 0.4


def gallery(report: Report, raw: Callable[[int], Tensor] | None, file: str, by: str = "") -> list[Picture]:
    """The block of a page that shows them; none where samples are no pictures (``raw``: None), or none is named."""
    if raw is None or not (report.easiest or report.hardest):
        return []
    return [Picture(file, f"Easiest and hardest images{by}", lambda path: plot_gallery(report, raw, path))]


def plot_gallery(report: Report, raw: Callable[[int], Tensor], path: PathLike) -> None:
    """Grid of the easiest and hardest images with label, prediction, exit timestep and confidence.

    Args:
        raw: the pixels of a sample by its index, uint8 ``[C, H, W]``, gray unless C = 3.

    Raises:
        DataError: an image cannot be read.
    """
    groups = [
        (f"Easiest: first to exit, surest first (of {report.samples:,} images)", report.easiest),
        ("Hardest: last to exit, least sure first", report.hardest),
    ]
    groups = [(title, samples) for title, samples in groups if samples]
    rows = [-(-len(samples) // _COLUMNS) for _, samples in groups]
    width, height = _TILE * _COLUMNS, _HEADING * len(groups) + _ROW * sum(rows)
    figure = new_figure(width, height)
    figure.set_layout_engine("none")  # all places are known
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 0.0
    for (title, samples), count in zip(groups, rows, strict=True):
        axes.text(0.1, top + _HEADING / 2, title, va="center", fontsize=11, fontweight="bold", color=INK)
        top += _HEADING
        for k, sample in enumerate(samples):
            corner = (_TILE * (k % _COLUMNS), top + _ROW * (k // _COLUMNS))
            _draw(axes, corner, sample, raw(sample.index), report.class_names)
        top += _ROW * count
    axes.set(xlim=(0, width), ylim=(height, 0))
    save_png(figure, path)


def _draw(
    axes: Axes, corner: tuple[float, float], sample: SampleExit, image: Tensor, class_names: Sequence[str]
) -> None:
    """One tile, its upper left corner at ``corner``; ``axes`` measure inches, downwards."""
    middle, top = corner[0] + _TILE / 2, corner[1] + _LINES
    high, wide = (_IMAGE * side / max(image.shape[1:]) for side in image.shape[1:])
    left, upper = middle - wide / 2, top + (_IMAGE - high) / 2
    extent = (left, left + wide, upper + high, upper)
    if len(image) == 3:
        axes.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest", extent=extent, aspect="auto")
    else:
        gray = image.float().mean(0).numpy()
        axes.imshow(gray, interpolation="nearest", extent=extent, aspect="auto", cmap="gray", vmin=0, vmax=255)
    label, prediction = (_name(k, class_names) for k in (sample.label, sample.prediction))
    answer = label if sample.correct else f"{label}\ntaken for {prediction}"
    color = INK if sample.correct else VERMILLION
    axes.text(middle, upper - _GAP, answer, ha="center", va="bottom", fontsize=7.5, color=color, parse_math=False)
    caption = f"t = {sample.exit_timestep} · {100 * sample.confidence:.0f} % sure"
    axes.text(middle, upper + high + _GAP, caption, ha="center", va="top", fontsize=7.5, color=GREY)


def _name(k: int, class_names: Sequence[str]) -> str:
    name = class_names[k] if k < len(class_names) else f"class {k}"
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
