"""What the site has beside the pages of ``docs/``: the README, files that pages point to, reference and figures."""

from __future__ import annotations

import importlib
import inspect
import posixpath
import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).parent))
from figures import FIGURES, drawn

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
HOME = "README.md"
#: Packages with a page each. Who offers what another one offers, too, points there: the first in this order has it.
REFERENCE = (
    "converter.load",
    "converter",
    "seenn.core.ops",
    "seenn.runtime",
    "seenn.exits",
    "seenn.data",
    "seenn.training",
    "seenn",
)
PACKAGES = ("seenn", "converter")
LINK = re.compile(r"(?<=\]\()([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the README as home, what pages link to outside ``docs/``, and the figures."""
    due = [ROOT / HOME, *(Path(file.abs_src_path) for file in files.documentation_pages() if file.abs_src_path)]
    known = set(due)
    for path in due:
        if path.suffix == ".md":
            new = [target for target in dict.fromkeys(_outside(path)) if target not in known]
            known.update(new)
            due += new
        if DOCS not in path.parents:
            content = (
                {"content": path.read_text(encoding="utf-8")} if path.suffix == ".md" else {"abs_src_path": str(path)}
            )
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), **content))
    defined: set[str] = set()
    for package in REFERENCE:
        files.append(File.generated(config, f"api/{package}.md", content=_reference(package, defined)))
    for name, draw in FIGURES.items():
        files.append(File.generated(config, f"figures/{name}.svg", content=drawn(draw)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to where the file is on the site: what is in ``docs/`` of the checkout is at the top of the site."""
    uri = page.file.src_uri
    own = DOCS / uri if (DOCS / uri).is_file() else ROOT / uri

    def lead(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(own.parent.as_posix(), found[0]))
        for top in (DOCS, ROOT):
            if target.startswith(f"{top.as_posix()}/"):
                return posixpath.relpath(Path(target).relative_to(top).as_posix(), posixpath.dirname(uri) or ".")
        return found[0]

    return LINK.sub(lambda found: found[0] if "://" in found[0] else lead(found), markdown)


def _reference(package: str, defined: set[str]) -> str:
    """A page of every class and function that a package offers; those in ``defined`` have a place elsewhere."""
    offered = importlib.import_module(package)
    names = getattr(offered, "__all__", None) or [name for name in dir(offered) if not name.startswith("_")]
    found = [getattr(offered, name) for name in sorted(names)]
    paths = dict.fromkeys(
        f"{each.__module__}.{each.__qualname__}"
        for each in found
        if (inspect.isclass(each) or inspect.isfunction(each)) and each.__module__.partition(".")[0] in PACKAGES
    )
    own = [path for path in paths if path not in defined]
    elsewhere = ", ".join(f"[`{path.rpartition('.')[2]}`][{path}]" for path in paths if path in defined)
    defined.update(own)
    parts = [
        f"# {package}",
        (inspect.getdoc(offered) or "").replace("\n::\n", "\n"),
        *([f"Also here: {elsewhere}."] if elsewhere else []),
    ]
    return "\n\n".join([*parts, *(f"::: {path}" for path in own)]) + "\n"


def _outside(page: Path) -> list[Path]:
    """Files of the checkout, but not of ``docs/``, that a page links to."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    targets = [(page.parent / link).resolve() for link in links if "://" not in link]
    return [path for path in targets if path.is_file() and ROOT in path.parents and DOCS not in path.parents]
