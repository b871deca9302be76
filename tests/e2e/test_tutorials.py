"""Pages do what they say: tutorials from the first block to the last, other pages every block of Python."""

from __future__ import annotations

import re
from pathlib import Path

import forked
import pytest
from PIL import Image
from small_snn import digits_snn

from seenn.data import load_data

ROOT = Path(__file__).parents[2]
PAGES = sorted(page for page in (ROOT / "docs" / "tutorials").glob("*.md") if page.name != "index.md")
#: README's is run where it stands beside the commands that it follows: tests/unit/test_readme.py.
OTHERS = sorted(
    page
    for page in (ROOT / "docs").rglob("*.md")
    if page not in PAGES and "\n```python" in page.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_tutorial_runs(page: Path, tmp_path: Path) -> None:
    run = forked.run(ROOT / "tests" / "tutorial.py", page, cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.splitlines()[-1].split()[0]) >= 4


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.stem)
def test_every_block_of_python_runs_beside_a_network_and_photographs(page: Path, tmp_path: Path) -> None:
    digits = load_data("digits")
    digits_snn().calibrate_exit(digits.exit, threshold=0.5).save(tmp_path / "snn.safetensors")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        Image.fromarray(digits.test.raw(number)[0].numpy()).save(tmp_path / "photos" / f"{number}.png")
    run = forked.run(ROOT / "tests" / "tutorial.py", page, "--python", cwd=tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    blocks = page.read_text(encoding="utf-8").count("\n```python")
    assert run.stdout.splitlines()[-1] == f"{blocks} blocks"


def test_no_block_of_python_is_written_so_that_it_is_not_run() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    kinds = {kind for page in pages for kind in re.findall(r"^\s*```(\w*)", page.read_text(encoding="utf-8"), re.M)}
    assert kinds <= {"", "python", "sh", "toml", "text", "console", "json", "html"}
    indented = [page.name for page in pages if re.search(r"^[ \t]+```python", page.read_text(encoding="utf-8"), re.M)]
    assert indented == []


def test_the_site_lists_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    docs = ROOT / "docs"
    pages = [page.relative_to(docs).as_posix() for page in docs.rglob("*.md")]
    assert len(pages) > 15
    assert [page for page in pages if page not in site] == []
