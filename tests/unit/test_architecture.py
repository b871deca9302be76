"""Who may import whom: ``cli -> converter -> seenn``, never back; and what the front door must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seenn
from seenn.version import versions

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"seenn": {"converter", "cli", "timm"}, "converter": {"cli"}, "cli": set()}


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(str(node.module).split(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            found.update(str(a.value).split(".")[0] for a in node.args if isinstance(a, ast.Constant))
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_downwards(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {str(f.relative_to(ROOT)): sorted(bad) for f in files if (bad := imported(f) & FORBIDDEN[package])}
    assert not wrong


def test_the_front_door_loads_no_heavy_library() -> None:
    heavy = {"torch", "timm", "torchvision", "sklearn", "matplotlib", "onnx", "onnxruntime", "numpy"}
    program = f"import sys, cli.main; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_the_runtime_loads_heavy_libraries_only_when_they_are_used() -> None:
    heavy = {"timm", "torchvision", "sklearn", "matplotlib", "onnx", "onnxruntime"}
    program = f"import sys, seenn; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == seenn.__version__ == versions()["seenn"]


def test_what_the_runtime_exports_exists() -> None:
    assert all(hasattr(seenn, name) for name in seenn.__all__)
    assert sorted(seenn.__all__) == list(seenn.__all__)
