from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from seenn.analysis.report.chart import Chart
from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.figures import new_figure, save_png
from seenn.analysis.report.gallery import gallery, plot_gallery
from seenn.analysis.report.plots import accuracy_chart, exits_chart, tradeoff_chart
from seenn.metrics import exit_statistics

Make = Callable[..., Evaluation]


def charts(e: Evaluation) -> tuple[Chart, ...]:
    assert e.curve is not None
    return accuracy_chart(e), exits_chart(e), tradeoff_chart(e, e.curve)


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("network", ["snn.safetensors", "a$b$_{c"])  # a name is never a formula
def test_plots_are_readable_pngs(make_evaluation: Make, tmp_path: Path, number: int, network: str) -> None:
    charts(make_evaluation(network=network))[number].draw(tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        image.load()
        assert image.format == "PNG"
        assert image.width > 900
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]


def test_a_plot_repeats_byte_for_byte_and_shows_its_figures(make_evaluation: Make, tmp_path: Path) -> None:
    for name, e in (("a", make_evaluation()), ("b", make_evaluation()), ("c", make_evaluation(accuracy=0.5))):
        accuracy_chart(e).draw(tmp_path / f"{name}.png")
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_one_timestep_can_be_plotted(make_evaluation: Make, tmp_path: Path) -> None:
    one = make_evaluation(timesteps=1, accuracy_per_timestep=(0.75,), exit=exit_statistics(torch.ones(4).long(), 1))
    for chart in charts(one):
        chart.draw(tmp_path / "plot.png")


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
    plot_gallery(make_evaluation(), images.__getitem__, tmp_path / "right.png")
    plot_gallery(make_evaluation(hardest=()), images.__getitem__, tmp_path / "one group.png")
    with Image.open(tmp_path / "right.png") as both, Image.open(tmp_path / "one group.png") as one:
        assert both.height > one.height
    assert gallery(make_evaluation(easiest=(), hardest=()), images.__getitem__, "none.png") == []
    assert gallery(make_evaluation(), None, "none.png") == []


def test_plots_need_no_pyplot(make_evaluation: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails
    exits_chart(make_evaluation()).draw(tmp_path / "plot.png")
