from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from seenn.analysis.report import Evaluation, plot_accuracy, plot_exits, plot_gallery, plot_tradeoff
from seenn.analysis.report.figures import new_figure, save_png
from seenn.metrics import exit_statistics

Make = Callable[..., Evaluation]


@pytest.mark.parametrize("plot", [plot_accuracy, plot_exits, plot_tradeoff])
@pytest.mark.parametrize("network", ["snn.safetensors", "a$b$_{c"])  # a name is never a formula
def test_plots_are_readable_pngs(
    make_evaluation: Make, tmp_path: Path, plot: Callable[..., None], network: str
) -> None:
    plot(make_evaluation(network=network), tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 900
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]


def test_a_plot_repeats_byte_for_byte_and_shows_its_figures(make_evaluation: Make, tmp_path: Path) -> None:
    plot_accuracy(make_evaluation(), tmp_path / "a.png")
    plot_accuracy(make_evaluation(), tmp_path / "b.png")
    plot_accuracy(make_evaluation(accuracy=0.5), tmp_path / "c.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_one_timestep_can_be_plotted(make_evaluation: Make, tmp_path: Path) -> None:
    one = make_evaluation(timesteps=1, accuracy_per_timestep=(0.75,), exit=exit_statistics(torch.ones(4).long(), 1))
    for plot in (plot_accuracy, plot_exits, plot_tradeoff):
        plot(one, tmp_path / "plot.png")


def test_a_tradeoff_needs_a_curve(make_evaluation: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the evaluation has no curve"):
        plot_tradeoff(make_evaluation(curve=None), tmp_path / "plot.png")


def test_a_failed_plot_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "plot.png"
    target.write_text("older")
    broken = new_figure()
    broken.text(0, 0, "$\\nonsense{$")
    with pytest.raises(ValueError, match="nonsense"):
        save_png(broken, target)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]


def test_gallery_draws_grey_and_colour_images(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    plot_gallery(make_evaluation(), images, tmp_path / "right.png")
    plot_gallery(make_evaluation(hardest=()), images, tmp_path / "one group.png")
    with Image.open(tmp_path / "right.png") as both, Image.open(tmp_path / "one group.png") as one:
        assert both.height > one.height


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: torch.zeros(1, 8, 8)}, r"image 0 is torch.float32 \[1, 8, 8\]; expected raw torch.uint8"),
        ({3: torch.zeros(2, 8, 8).byte()}, r"image 3 is torch.uint8 \[2, 8, 8\]; expected .* C = 1 or 3"),
    ],
)
def test_gallery_refuses_other_images(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path, change: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        plot_gallery(make_evaluation(), images | change, tmp_path / "images.png")


def test_gallery_names_all_missing_images(make_evaluation: Make, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="image 0 is missing, 3 is missing"):
        plot_gallery(make_evaluation(), {}, tmp_path / "images.png")
    with pytest.raises(ValueError, match="names neither easiest nor hardest"):
        plot_gallery(make_evaluation(easiest=(), hardest=()), {}, tmp_path / "images.png")


def test_plots_need_no_pyplot(make_evaluation: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    plot_exits(make_evaluation(), tmp_path / "plot.png")
