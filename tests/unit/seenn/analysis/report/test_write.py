from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.write import write_report
from seenn.errors import DataError

Make = Callable[..., Evaluation]
PAGES = {"report.json", "report.md", "report.html", "pages.json"}
PLOTS = {"accuracy.png", "exits.png", "tradeoff.png", "images.png"}


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_report_is_json_markdown_and_the_plots_it_shows(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    page = write_report(make_evaluation(), images.__getitem__, tmp_path / "new" / "report")
    assert page == tmp_path / "new" / "report" / "report.html"
    assert names(page.parent) == {*PAGES, *PLOTS}
    text = (page.parent / "report.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in text for name in PLOTS)
    assert "| spiking (SNN), early exit | 75.00 % | 2.00 |" in text
    assert "| 2 | 75.00 % | 2 |" in text
    assert "| `` a\\|b`c `` | 0.5000 | – |" in text
    assert json.loads((page.parent / "report.json").read_text()) == make_evaluation().to_json()


def test_a_new_report_leaves_no_plot_of_an_older_one(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    write_report(make_evaluation(), images.__getitem__, tmp_path)
    write_report(make_evaluation(curve=None, easiest=(), hardest=()), images.__getitem__, tmp_path)
    assert names(tmp_path) == {*PAGES, "accuracy.png", "exits.png"}
    assert "tradeoff.png" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_an_image_that_cannot_be_read_leaves_nothing(make_evaluation: Make, tmp_path: Path) -> None:
    def broken(index: int) -> torch.Tensor:
        raise DataError(f"image {index} cannot be decoded")

    with pytest.raises(DataError, match="image 0 cannot be decoded"):
        write_report(make_evaluation(), broken, tmp_path / "new")
    assert names(tmp_path) == set()


def test_a_report_that_fails_late_leaves_the_older_one_as_it_was(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    write_report(make_evaluation(), images.__getitem__, tmp_path)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(make_evaluation(accuracy=0.25, energy_pj=float("nan")), images.__getitem__, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
