"""README and docs are held to the code: commands parse, options exist, Python runs, models convert, links lead on."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
import torch

from cli.main import seenn as front_door
from converter.inspect import Inspection, inspect_model
from converter.load import ModelSpec, build_model
from converter.load.weights import write_weights
from seenn.data import load_data
from seenn.training import TrainConfig, train_ann

ROOT = Path(__file__).parents[2]
PAGES = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}
README, MODELS = PAGES[ROOT / "README.md"], PAGES[ROOT / "docs" / "models.md"]
TEXT = "\n".join(PAGES.values())


def command_lines() -> list[str]:
    """Every ``seenn COMMAND …`` in a shell block or a code span, without its comment."""
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", TEXT, re.S)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"(?<!\\)`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.S))  # an escaped one is no code
    return sorted({found for found in (*lines, *spans) if re.match(r"seenn [a-z]", found)})


def options() -> set[str]:
    """Every option of every command, both spellings."""
    return {
        spelling
        for command in front_door.commands.values()
        for parameter in command.params
        for spelling in (*parameter.opts, *parameter.secondary_opts)
    }


def listed(name: str) -> list[str]:
    """The code spans between ``<!-- name -->`` and ``<!-- /name -->``."""
    found = re.search(rf"<!-- {name} -->(.*?)<!-- /{name} -->", MODELS, re.S)
    assert found, f"docs/models.md has no {name} markers"
    return re.findall(r"`([^`]+)`", found[1])


@pytest.mark.parametrize("line", command_lines())
def test_every_command_is_one_that_seenn_takes(line: str) -> None:
    _, name, *arguments = shlex.split(line, comments=True)
    assert name in front_door.commands, f"no such command: {line}"
    if arguments:
        front_door.commands[name].make_context(name, arguments)  # parses and checks, runs nothing


def test_the_readme_walks_through_all_four_steps() -> None:
    assert {
        "seenn train-ann --model resnet18",
        "seenn convert --model resnet18 --ckpt ann.pth",
        "seenn calibrate-exit --threshold 0.95",
        "seenn evaluate",
    } <= {line.partition("#")[0].strip() for line in command_lines()}


def test_every_option_given_to_a_program_of_the_project_exists() -> None:
    calls = re.findall(r"`+(?:sh\n)?python\s+([\w/]+\.py)([^`]*)`", TEXT)
    assert calls
    for program, arguments in calls:
        shared = ROOT / "benchmarks" / "common.py"
        source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / program, shared))
        missing = [option for option in re.findall(r"--[a-z][a-z-]*", arguments) if f'"{option}"' not in source]
        assert not missing, program


def test_every_option_that_is_named_exists() -> None:
    prose = re.sub(r"```.*?```", "", TEXT, flags=re.S)
    spans = " ".join(
        span
        for span in re.findall(r"`([^`\n]+)`", prose)
        if not span.startswith(("pip ", "make ", "python ", "torchrun "))
    )
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", spans)) - {"--help"}  # click's own
    assert named
    assert named <= options()


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.S)
    spec = ModelSpec(name="resnet18", kwargs={"channels": (8, 8, 8, 8), "layers": (1, 1, 1, 1)}, num_classes=10)
    torch.manual_seed(0)
    loaded = build_model(spec, (1, 8, 8))  # stands in for the one that `seenn train-ann` writes
    train_ann(loaded.module, load_data("digits"), TrainConfig(epochs=2))
    write_weights(tmp_path / "ann.pth", loaded.module.state_dict(), {"model": loaded.record})
    monkeypatch.chdir(tmp_path)

    Path("example.py").write_text(source, encoding="utf-8")
    runpy.run_path("example.py", run_name="__main__")

    figures, *answers = capsys.readouterr().out.splitlines()
    line = r"[\d.]+ % of 359 test images after [\d.]+ steps, [\d.]+ % after 8; the ANN [\d.]+ %"
    assert re.fullmatch(line, figures)
    assert "tensor(" in answers[0]


def _inspect(name: str, *, strict: bool = False) -> Inspection:
    module = build_model(ModelSpec(name=name)).module
    size = 224 if name.startswith("vit") else 64
    return inspect_model(module, (3, size, size), strict=strict)


@pytest.mark.parametrize("name", listed("convertible"))
def test_models_that_are_called_convertible_are(name: str) -> None:
    found = _inspect(name)
    assert found.convertible
    assert found.sites > 0


@pytest.mark.parametrize("name", listed("smooth"))
def test_models_that_are_called_smooth_convert_with_spikes_everywhere_but_not_strictly(name: str) -> None:
    found = _inspect(name)
    assert found.convertible
    assert found.spiking_mac_share == 1.0
    assert not _inspect(name, strict=True).convertible


def test_files_that_are_pointed_to_exist() -> None:
    links = [(path, link) for path, text in PAGES.items() for link in re.findall(r"\]\(([^)#]+)\)", text)]
    local = [(path, link) for path, link in links if "://" not in link]
    assert local
    assert [(path.name, link) for path, link in local if not (path.parent / link).exists()] == []


def test_every_page_is_reached_from_the_readme() -> None:
    reached = set(re.findall(r"\]\((docs/[^)#]+)\)", README))
    missing = {str(path.relative_to(ROOT)) for path in PAGES} - reached - {"README.md"}
    assert missing <= {"docs/coverage.md"}  # from docs/models.md
