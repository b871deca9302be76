"""Changes to the code that guards the claims: each must make a test fail.

    make mutants

Mutants are those of cosmic-ray (``pip install '.[mutants]'``) in the modules of ``GUARDED``: a fixed number of each,
drawn with a fixed seed before anything is run; and every one of ``BY_HAND``, in the C code. A mutant lives in a forked
process that has torch but not yet seenn, so that it costs its tests and no more. Survivors that compute the same are
listed in ``EQUIVALENT`` with the argument.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.abc
import importlib.machinery
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click

sys.path.insert(0, str(Path(__file__).parent))

ROOT = Path(__file__).parents[1]
COMMAND = "make mutants"
SAMPLE, SEED = 40, 0  # mutants of a module
SECONDS = 400  # of computing, for the tests of one; longer is a difference, too
EXITS = "tests/unit/seenn/exits"
COMPILED = "seenn.native"  # its C code
#: What guards exactness, calibration, guarantees, splits and resume, and its tests: first those that see most.
GUARDED: Mapping[str, Sequence[str]] = {
    "seenn.exits.guarantees.betting": (f"{EXITS}/test_guarantee.py",),
    "seenn.exits.guarantees.learn_then_test": (f"{EXITS}/test_guarantee.py",),
    "seenn.exits.calibration.find": (f"{EXITS}/test_calibrate.py", EXITS),
    "seenn.exits.calibration.replay": (f"{EXITS}/test_calibrate.py", EXITS),
    "seenn.exits.calibration.target": (f"{EXITS}/test_calibrate.py", EXITS),
    "seenn.data.rule": ("tests/unit/seenn/data/test_rule.py", "tests/unit/seenn/data/test_split.py"),
    "seenn.data.overlap": ("tests/unit/seenn/data/test_provenance.py", "tests/unit/seenn/data"),
    "seenn.runtime.lowering.scales": (
        "tests/unit/seenn/runtime/lowering/test_scales.py",
        "tests/unit/seenn/runtime/lowering",
        "tests/unit/seenn/runtime/test_engines.py",
    ),
    "seenn.training.state": ("tests/unit/seenn/training/test_state.py", "tests/unit/seenn/training/test_run.py"),
    COMPILED: (
        "tests/unit/seenn/core/ops/test_fused.py",
        "tests/equivalence/test_wide_sums.py",
        "tests/unit/seenn/native",
    ),
}
BY_HAND = Path(__file__).parent / "mutants_native.json"  # of each file: what is written once in it, and what instead
EQUIVALENT = Path(__file__).parent / "mutants_equivalent.json"


@dataclasses.dataclass(frozen=True)
class Mutant:
    """Another source of one file, and a name that says where and what."""

    name: str
    file: Path
    source: str

    @property
    def module(self) -> str:
        return ".".join(self.file.relative_to(ROOT).with_suffix("").parts)

    def replace(self, folder: Path) -> None:
        """In this process the file is this from now on; ``folder`` is for what has to lie somewhere."""
        if self.file.suffix == ".py":
            sys.meta_path.insert(0, Changed(self.module, self.source))
            return
        for path in self.file.parent.glob("*.[ch]"):
            shutil.copy(path, folder)
        (folder / self.file.name).write_text(self.source, encoding="utf-8")
        os.environ["SEENN_CACHE"] = str(folder)
        from seenn.native import library

        library.FOLDER = folder


class Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """One module, of another source."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(self, fullname: str, path: object, target: object = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, origin=str(_file(fullname)))

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = str(_file(self._name))
        exec(compile(self._source, module.__file__, "exec"), module.__dict__)  # noqa: S102 - our own code, changed


def _file(module: str) -> Path:
    return ROOT / f"{module.replace('.', '/')}.py"


def mutants(module: str) -> list[Mutant]:
    """All that there are."""
    if module == COMPILED:
        return by_hand()
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    source = _file(module).read_text(encoding="utf-8")
    found, runs = [], _run(source)
    for name in sorted(operator_names()):
        if (kind := get_operator(name)).arguments():
            continue  # of one variable, that somebody names
        occurrence = 0
        while (changed := mutate_code(source, kind(), occurrence)) is not None:
            if _parses(changed) and _run(changed) != runs:
                what = f"{name.removeprefix('core/')} {occurrence}: {_difference(source, changed)}"
                found.append(Mutant(f"{module} {what}", _file(module), changed))
            occurrence += 1
    return found


def by_hand() -> list[Mutant]:
    """Of the C code."""
    found = []
    for file, changes in json.loads(BY_HAND.read_text(encoding="utf-8")).items():
        path = ROOT / "seenn/native" / file
        source = path.read_text(encoding="utf-8")
        for old, new in changes:
            if source.count(old) != 1:
                raise click.ClickException(f"{BY_HAND.name}: {file} does not hold {old!r} once")
            what = f"{' '.join(old.split())} → {' '.join(new.split()) or 'nothing'}"
            found.append(Mutant(f"{COMPILED} {file}: {what}", path, source.replace(old, new)))
    return found


def drawn(module: str, sample: int) -> list[Mutant]:
    """Those that are run."""
    whole = mutants(module)
    if module == COMPILED:
        return whole
    return random.Random(f"{SEED} {module}").sample(whole, min(sample, len(whole)))


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:  # cosmic-ray takes the * of keyword arguments for a product
        return False
    return True


def _run(source: str) -> str:
    """What runs: annotations do not."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant("")
    return ast.dump(tree)


def _difference(before: str, after: str) -> str:
    """The first line that changed, as it is now."""
    for old, new in zip(before.splitlines(), after.splitlines(), strict=False):
        if old != new:
            return " ".join(new.split())
    return "lines at the end"


def survives(mutant: Mutant, tests: Sequence[str]) -> bool:
    """Whether every test passes with this source."""
    with tempfile.TemporaryDirectory(prefix="seenn-mutant-") as folder:
        process = os.fork()
        if not process:
            _test(mutant, Path(folder), tests)
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0


def _test(mutant: Mutant, folder: Path, tests: Sequence[str]) -> NoReturn:
    """Exits with pytest's code."""
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # each ends the process
        signal.alarm(20 * SECONDS)  # of waiting, too
        os.chdir(ROOT)
        mutant.replace(folder)
        import pytest

        # Plain asserts: else pytest loads whatever is called *_test itself.
        code = pytest.main(["-x", "-q", "--assert=plain", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
        loaded = mutant.file.suffix != ".py" or isinstance(sys.modules[mutant.module].__loader__, Changed)
        os._exit(int(code) if loaded else 4)
    except BaseException:  # whatever it is, the mutant is seen
        os._exit(3)


@click.command()
@click.option("--module", "chosen", multiple=True, type=click.Choice(list(GUARDED)), help="All when not given.")
@click.option("--sample", default=SAMPLE, show_default=True, help="Mutants of each.")
@click.option("--work", type=click.Path(file_okay=False), help="Folder where what is known is kept.")
@click.option("--out", help="Stem of the result files; benchmarks/results/mutants where all modules run.")
def main(chosen: Sequence[str], sample: int, work: str | None, out: str | None) -> None:
    """Change, test, write the table."""
    import bars  # noqa: F401 - before seenn is forgotten
    import torch

    torch.set_num_threads(1)
    kept = None if work is None else Path(work) / "mutants.json"
    known: dict[str, bool] = json.loads(kept.read_text()) if kept is not None and kept.is_file() else {}
    equivalent: dict[str, str] = json.loads(EQUIVALENT.read_text())
    for name in [name for name in sys.modules if name.partition(".")[0] in ("seenn", "converter", "cli")]:
        del sys.modules[name]  # each mutant imports them anew
    counts: dict[str, tuple[int, int]] = {}
    survivors: list[str] = []
    for module in chosen or GUARDED:
        made, tests, lived = drawn(module, sample), GUARDED[module], []
        same = dataclasses.replace(made[0], source=made[0].file.read_text(encoding="utf-8"))
        if not all(mutant.name in known for mutant in made) and not survives(same, tests):
            raise click.ClickException(f"{module}: its tests fail without any change, or do not load it")
        for mutant in made:
            if (name := mutant.name) not in known:
                started = time.monotonic()
                known[name] = survives(mutant, tests)
                click.echo(f"{'SURVIVES' if known[name] else 'seen'} {time.monotonic() - started:.0f} s {name}")
                if kept is not None:
                    kept.parent.mkdir(parents=True, exist_ok=True)
                    kept.write_text(json.dumps(known, indent=1))
            if known[name]:
                lived.append(name)
        survivors += [name for name in lived if name not in equivalent]
        counts[module] = len(made), sum(name in equivalent for name in lived)
    click.echo("\n".join(survivors) or "no survivors")
    if out is None and not chosen:
        out = "mutants"
    if out is None:
        raise SystemExit(bool(survivors))
    from bars import Row
    from common import RESULTS, conclude

    total, same = (sum(column) for column in zip(*counts.values(), strict=True))
    rows = [
        Row.at_most("mutants that no test sees, equivalent ones aside", len(survivors), 0, COMMAND),
        Row.at_most("equivalent mutants, share", same / total, 0.03, COMMAND),
        *(Row(f"{module}: mutants", number, None, True, COMMAND) for module, (number, _) in counts.items()),
    ]
    notes = [f"- survives: `{name}`" for name in survivors]
    notes += [f"- equivalent: `{name}`: {why}" for name, why in equivalent.items() if name.partition(" ")[0] in counts]
    conclude(str(RESULTS / out), "Mutants", rows, notes)


if __name__ == "__main__":
    main()
