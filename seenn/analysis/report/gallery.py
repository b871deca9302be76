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
    figure = new_figure(1.25 * _COLUMNS, 0.5 * len(groups) + 1.75 * sum(rows))
    for part, (title, samples), count in zip(
        figure.subfigures(len(groups), 1, squeeze=False, height_ratios=rows).flat, groups, rows, strict=True
    ):
        part.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=INK)
        tiles = part.subplots(count, _COLUMNS, squeeze=False).flat
        for tile in tiles[: count * _COLUMNS]:
            tile.set_axis_off()
        for tile, sample in zip(tiles, samples, strict=False):
            _draw(tile, sample, raw(sample.index), report.class_names)
    save_png(figure, path)


def _draw(tile: Axes, sample: SampleExit, image: Tensor, class_names: Sequence[str]) -> None:
    if len(image) == 3:
        tile.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    else:
        tile.imshow(image.float().mean(0).numpy(), interpolation="nearest", cmap="gray", vmin=0, vmax=255)
    label, prediction = (_name(k, class_names) for k in (sample.label, sample.prediction))
    answer = label if sample.correct else f"{label}\ntaken for {prediction}"
    tile.set_title(answer, fontsize=7.5, color=INK if sample.correct else VERMILLION, parse_math=False)
    tile.text(
        0.5,
        -0.04,
        f"t = {sample.exit_timestep} · {100 * sample.confidence:.0f} % sure",
        transform=tile.transAxes,
        ha="center",
        va="top",
        fontsize=7.5,
        color=GREY,
    )


def _name(k: int, class_names: Sequence[str]) -> str:
    name = class_names[k] if k < len(class_names) else f"class {k}"
    return name if len(name) <= _MAX_NAME else f"{name[: _MAX_NAME - 1]}…"
