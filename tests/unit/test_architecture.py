"""Who may import whom, inside the packages and between them; and what the front door must not load."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import seenn
from seenn.core.ops.base import op_class, op_kinds
from seenn.version import versions

ROOT = Path(__file__).parents[2]
FORBIDDEN = {"seenn": {"converter", "cli", "timm"}, "converter": {"cli"}, "cli": set()}

#: Layers, lowest first: a module imports its own layer and those above it in this list.
SEENN = (
    ("errors", "version", "registry", "files", "batch", "device", "distributed"),
    ("surrogate", "native"),
    ("core", "metrics", "models", "neurons"),
    ("capture", "data", "exits"),
    ("runtime",),
    ("analysis", "answers", "export", "training"),
    ("snn", "checkpoint", "deprecated", "hub", "__init__"),
)
#: Packages of one layer that may not see each other.
APART = (("exits", "data"), ("exits", "capture"), ("data", "capture"), ("core", "metrics"))


def imports(path: Path) -> list[tuple[str, bool]]:
    """Modules that a file imports, anywhere in it, and whether only a type checker sees it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found: list[tuple[str, bool]] = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # ``from seenn import native`` names a module; ``from seenn.core import ops`` too.
            names = [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            names = [str(a.value) for a in node.args if isinstance(a, ast.Constant)]
        found.extend((name, id(node) in for_types) for name in names)
    return found


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_downwards(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        str(file.relative_to(ROOT)): sorted(bad)
        for file in files
        if (bad := {name.partition(".")[0] for name, _ in imports(file)} & FORBIDDEN[package])
    }
    assert not wrong


def part_of(path: Path, package: str) -> str:
    """The package, or the module at the top, that a file is part of."""
    return path.relative_to(ROOT / package).with_suffix("").parts[0]


def test_every_part_of_the_runtime_has_its_layer() -> None:
    parts = {part_of(path, "seenn") for path in (ROOT / "seenn").rglob("*.py")}
    assert parts == {part for layer in SEENN for part in layer}


def test_layers_of_the_runtime_import_only_downwards() -> None:
    level = {part: number for number, layer in enumerate(SEENN) for part in layer}
    apart = {frozenset(pair) for pair in APART}
    wrong = []
    for path in sorted((ROOT / "seenn").rglob("*.py")):
        own = part_of(path, "seenn")
        for name, only_types in imports(path):
            package, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if package != "seenn" or other not in level or only_types:
                continue
            if level[other] > level[own] or frozenset((own, other)) in apart:
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_packages_of_one_layer_form_no_cycle() -> None:
    """Nowhere does a package import one that imports it back, types aside."""
    sees: dict[str, set[str]] = {}
    for path in (ROOT / "seenn").rglob("*.py"):
        own = part_of(path, "seenn")
        names = {name.split(".")[1] for name, types in imports(path) if name.startswith("seenn.") and not types}
        sees.setdefault(own, set()).update(names - {own})
    top = {*SEENN[-1]}
    both = [(a, b) for a, others in sees.items() for b in others if a in sees.get(b, set()) and not {a, b} <= top]
    assert not both


def test_what_runs_networks_does_not_know_one_engine() -> None:
    """Outside the runtime engines are what their seam says.

    But one file asks how fast the convolutions themselves are, and one writes the integers that int8 runs.
    """
    named = ("seenn/analysis/bench/machine.py", "seenn/export/formats/integers.py")
    inner = ("seenn.runtime.kernels", "seenn.runtime.lowering", "seenn.runtime.engines")
    wrong = []
    for path in (path for package in FORBIDDEN for path in (ROOT / package).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if not where.startswith("seenn/runtime/") and where not in named:
            wrong += [f"{where} imports {name}" for name, _ in imports(path) if name.startswith(inner)]
    assert not wrong, "\n".join(wrong)


def test_what_runs_networks_asks_no_op_for_its_class() -> None:
    """Ops say what engines need to know, or one from outside could not say it."""
    ops = {op_class(kind).__name__ for kind in op_kinds()}
    wrong = []
    for path in (ROOT / "seenn/runtime").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass", "type"):
                named = {ast.unparse(inner).rpartition(".")[2] for arg in node.args for inner in ast.walk(arg)}
                wrong += [f"{path.name}:{node.lineno} asks for {name}" for name in sorted(named & ops)]
    assert not wrong, "\n".join(wrong)


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


def test_the_package_travels_to_other_processes_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(seenn)) is seenn  # noqa: S301


def test_what_the_runtime_exports_exists() -> None:
    assert all(hasattr(seenn, name) for name in seenn.__all__)
    assert len(set(seenn.__all__)) == len(seenn.__all__)
