"""The easiest and the hardest images, to look at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seenn.analysis.report.figures import GREY, INK, VERMILLION, new_figure, save_png
from seenn.analysis.report.samples import Sampled, SampleExit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 8
_MAX_NAME = 14  # characters of a class name that fit above a tile


def plot_gallery(report: Sampled, images: Mapping[int, Tensor], path: str | os.PathLike[str]) -> None:
    """Grid of the easiest and hardest images with label, prediction, exit timestep and confidence.

    Args:
        images: the raw pixels by sample index, uint8 ``[C, H, W]`` with C = 1 or 3.

    Raises:
        ValueError: the report names no samples, an image is missing or not of that kind.
    """
    e = report
    groups = [
        (f"Easiest: first to exit, surest first (of {e.samples:,} images)", e.easiest),
        ("Hardest: last to exit, least sure first", e.hardest),
    ]
    groups = [(title, samples) for title, samples in groups if samples]
    _check_images([sample for _, samples in groups for sample in samples], images)
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
            _draw(tile, sample, images[sample.index], e.class_names)
    save_png(figure, path)


def _draw(tile: Axes, sample: SampleExit, image: Tensor, class_names: Sequence[str]) -> None:
    pixels = image.permute(1, 2, 0).cpu().numpy()
    tile.imshow(pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels, interpolation="nearest")
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


def _check_images(samples: Sequence[SampleExit], images: Mapping[int, Tensor]) -> None:
    if not samples:
        raise ValueError("plot_gallery: the evaluation names neither easiest nor hardest images")
    bad = []
    for index in (sample.index for sample in samples):
        image = images.get(index)
        if image is None:
            bad.append(f"{index} is missing")
        elif image.dtype != torch.uint8 or image.dim() != 3 or image.shape[0] not in (1, 3):
            bad.append(f"{index} is {image.dtype} {list(image.shape)}")
    if bad:
        raise ValueError(f"plot_gallery: image {', '.join(bad)}; expected raw torch.uint8 [C, H, W] with C = 1 or 3")
