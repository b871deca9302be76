"""``report.html``: one file that needs nothing else, and shows everything as text."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch

from seenn.analysis.report.chart import Chart, Panel, Series
from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.folder import foreign_files
from seenn.analysis.report.html import shown_chart
from seenn.analysis.report.page import Heading, Lines, Page, Plot
from seenn.analysis.report.side_by_side import read_runs, rows, write_side_by_side
from seenn.analysis.report.write import write_report
from seenn.errors import DataError, OutputError

Make = Callable[..., Evaluation]
EVIL = "<script>alert(1)</script>"


class Reader(HTMLParser):
    """The tables, the scripts' kinds, and whatever is fetched from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables, self.scripts, self.fetched, self.text = 0, [], [], ""  # type: ignore[var-annotated]
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.inside = tag
        self.tables += tag == "table"
        if tag == "script":
            self.scripts.append(found.get("type"))
        self.fetched += [
            url for name in ("src", "href") if (url := found.get(name)) and url[:5] not in ("data:", "#part")
        ]

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.text += data


def test_the_page_is_complete_and_holds_what_comes_from_data_as_text(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    e = make_evaluation(class_names=(EVIL, "b"), network=EVIL, spike_rate_per_site={EVIL: 0.5}, command=EVIL)
    page = write_report(e, images.__getitem__, tmp_path)
    text = page.read_text(encoding="utf-8")
    found = Reader(text)
    assert found.tables == 4  # summary, timesteps, sites, provenance
    assert found.scripts == ["application/json"] * 3 + [None] * 2  # three charts; plotly and what draws them
    assert found.fetched == []
    assert EVIL not in text
    assert found.text.count(EVIL) >= 4
    assert "default-src 'none'" in text


def test_texts_of_a_chart_are_no_markup() -> None:
    series = Series(name="<b>x</b>", x=(1, 2), y=(1, 2), texts=("<a href=''>y</a>", "z"))
    chart = Chart(name="c", title="t", subtitle="s", ylabel="<i>y", panels=(Panel(xlabel="a & b", series=(series,)),))
    figure = shown_chart(chart)["figure"]
    assert figure["data"][0]["name"] == "&lt;b&gt;x&lt;/b&gt;"
    assert figure["data"][0]["text"][0].startswith("&lt;a")
    assert figure["layout"]["yaxis"]["title"]["text"] == "&lt;i&gt;y"


@pytest.mark.parametrize("style", ["line", "marks", "bars", "band", "vertical", "horizontal"])
def test_every_style_is_drawn_in_both_forms(style: Any, tmp_path: Path) -> None:
    series = Series(name="a", style=style, x=(1.0, 2.0), y=(1.0, 2.0), low=(0.5, 1.5), high=(1.5, 3.0), marker="s")
    chart = Chart(name="c", title="t", subtitle="s", ylabel="y", panels=(Panel(xlabel="x", series=(series,)),))
    chart.draw(tmp_path / "c.png")
    traces = shown_chart(chart)["figure"]["data"]
    assert [trace["name"] for trace in traces if trace.get("showlegend")] == ["a"]


def page(name: str, network: str, *blocks: Any) -> Page:
    return Page(name=name, title=f"page {name}", network=network, blocks=[Heading(name), *blocks])


def test_pages_of_one_network_stand_in_one_file(tmp_path: Path) -> None:
    chart = Chart(name="c", title="t", subtitle="s", ylabel="y", panels=(Panel(xlabel="x", series=()),))
    page("first", "n1", Plot(chart)).write(tmp_path, {})
    both = page("second", "n1").write(tmp_path, {}).read_text()
    assert both.index("page first</h1>") < both.index("page second</h1>")
    other = page("second", "n2").write(tmp_path, {}).read_text()
    assert "page first" not in other


@pytest.mark.parametrize(
    "damage",
    ["{", "[]", '{"a": 1}', '{"a": {"title": "t", "network": "n", "blocks": [{"kind": "script", "text": "x"}]}}',
     '{"a": {"title": "t", "network": "n", "blocks": [{"kind": "picture", "file": "../../etc/passwd", "title": ""}]}}'],
)  # fmt: skip
def test_a_damaged_list_of_pages_is_left_out_and_said(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "pages.json").write_text(damage)
    with caplog.at_level(logging.WARNING):
        text = page("own", "n", Lines(["fine"])).write(tmp_path, {}).read_text()
    assert "is damaged, and what it held is left out" in caplog.text
    assert "<p>fine</p>" in text
    assert list(json.loads((tmp_path / "pages.json").read_text())) == ["own"]


def test_runs_stand_side_by_side(make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path) -> None:
    write_report(make_evaluation(), images.__getitem__, tmp_path / "a")
    write_report(make_evaluation(accuracy=0.5, curve=None, ann_accuracy=None), images.__getitem__, tmp_path / "b")
    runs = read_runs([str(tmp_path / name) for name in "ab"])
    assert [row[0] for row in rows(runs)] == ["a", "b"]
    assert rows(runs)[1][2] == "50.00 %"
    found = Reader(write_side_by_side(runs, tmp_path / "both").read_text(encoding="utf-8"))
    assert found.tables == 2
    assert "DIFFERENT" not in found.text


def test_runs_on_other_samples_are_not_compared_silently(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    write_report(make_evaluation(), images.__getitem__, tmp_path / "a")
    write_report(make_evaluation(data="mnist"), images.__getitem__, tmp_path / "b")
    runs = read_runs([str(tmp_path / name) for name in "ab"])
    assert "on DIFFERENT samples" in write_side_by_side(runs, tmp_path / "both").read_text(encoding="utf-8")


@pytest.mark.parametrize("text", [None, "{", "[]", '{"data": "d"}'])
def test_what_is_no_report_is_refused(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(DataError, match=r"report.*: name folders that `seenn evaluate --report` wrote"):
        read_runs([str(tmp_path)])


def rendered(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page in a dark browser, after its scripts: the document, and what the console said."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium here")
    command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command += ["--virtual-time-budget=8000", "--enable-logging=stderr", "--blink-settings=preferredColorScheme=0"]
    done = subprocess.run([*command, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=300)
    return done.stdout, [line for line in done.stderr.splitlines() if ":CONSOLE" in line]


def test_a_browser_draws_every_chart_without_complaint_and_readable_on_dark_paper(
    make_evaluation: Make, images: dict[int, torch.Tensor], tmp_path: Path
) -> None:
    page = write_report(make_evaluation(network="#222222"), images.__getitem__, tmp_path / "report")
    document, said = rendered(page, tmp_path / "profile")
    assert said == []
    assert document.count('class="main-svg"') >= 3  # of three charts
    assert "#222222 on digits" in document
    assert "rgb(34, 34, 34)" not in document
    assert "stroke: rgb(232, 232, 232)" in document  # the ANN's line
    page.write_text(page.read_text(encoding="utf-8").replace("const charts", "none(); const charts"), encoding="utf-8")
    _, said = rendered(page, tmp_path / "profile")
    assert any("Uncaught ReferenceError" in line for line in said)


def test_files_that_seenn_did_not_write_are_never_replaced_by_a_report(tmp_path: Path) -> None:
    page = Page(name="own", title="t", network="n", blocks=[])
    (tmp_path / "own.md").write_text("mine")
    with pytest.raises(OutputError, match=r"has own\.md, and no pages\.json beside it: seenn did not write that; name"):
        page.write(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["own.md"]
    (tmp_path / "own.md").rename(tmp_path / "report.json")
    assert foreign_files(tmp_path) is not None
    (tmp_path / "report.json").write_text('{"mean_timesteps": 2}')  # as 0.1 wrote it, which knew no pages
    assert foreign_files(tmp_path) is None
    page.write(tmp_path, {})
    assert foreign_files(tmp_path) is None
    page.write(tmp_path, {})
