"""seenn extended from outside: an op, a neuron, an exit rule, an engine, a data set, a recipe, an export format.

One file each; they are the templates that CONTRIBUTING.md points to. Nothing in seenn, converter or cli knows them.
"""

from __future__ import annotations

import ast
import copy
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import forked
import pytest
import torch
from torch import Tensor, nn

import seenn
from converter import RECIPES, convert
from seenn import SNN, UnsupportedError
from seenn.capture.handlers import _HANDLERS
from seenn.core.ops.base import _REGISTRY
from seenn.data import DATA_SETS, DataSplits
from seenn.exits import EXIT_RULES, default_rules
from seenn.export import FORMATS
from seenn.neurons import NEURONS
from seenn.runtime import ENGINES
from seenn.training import FinetuneConfig, TrainConfig, train_ann

HERE = Path(__file__).parent
EXTENSIONS = ("op", "neuron", "exit_rule", "engine", "data_set", "recipe", "format")
#: What an extension may import: these, and no module inside them.
PUBLIC = {
    "converter",
    "seenn",
    "seenn.capture",
    "seenn.core.ops",
    "seenn.core.ops.arguments",
    "seenn.data",
    "seenn.errors",
    "seenn.exits",
    "seenn.export",
    "seenn.neurons",
    "seenn.runtime",
    "seenn.surrogate",
}


@pytest.fixture(scope="module")
def plugin() -> Iterator[ModuleType]:
    """All seven, registered while this file is tested."""
    yield importlib.import_module("extension.plugin")
    registries = (ENGINES, EXIT_RULES, FORMATS, NEURONS, DATA_SETS, RECIPES)
    for table in (_REGISTRY, _HANDLERS, *(registry._found for registry in registries)):
        for name, thing in list(table.items()):
            if getattr(thing, "make", thing).__module__.startswith("extension."):
                del table[name]
    for module in [name for name in sys.modules if name.partition(".")[0] == "extension"]:  # to be imported anew
        del sys.modules[module]


@pytest.fixture(scope="module")
def data(plugin: ModuleType) -> DataSplits:
    return seenn.load_data("bars")


@pytest.fixture(scope="module")
def ann(data: DataSplits) -> nn.Module:
    torch.manual_seed(0)
    model = importlib.import_module("extension.model").Shifted()
    assert train_ann(model, data, TrainConfig(epochs=4)).best.accuracy > 0.8
    return model


@pytest.fixture(scope="module")
def converted(ann: nn.Module, data: DataSplits) -> Callable[[str], SNN]:
    """The classifier with binary neurons of a kind, its thresholds by the recipe from outside."""
    return lambda kind: convert(ann, data, neuron=kind, levels=1, recipe="deviation", timesteps=6)


class Sideways(nn.Module):
    """Shifts what is no image."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.fftshift(x, (1, 2)).relu().flatten(1)


@pytest.mark.parametrize("name", EXTENSIONS)
def test_an_extension_is_one_file_that_imports_public_names(name: str) -> None:
    tree = ast.parse((HERE / f"{name}.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    own = {node.module: [alias.name for alias in node.names] for node in imports}
    own |= {alias.name: [] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {module for module in own if str(module).partition(".")[0] in ("seenn", "converter", "cli", "extension")}
    assert ours
    assert ours <= PUBLIC
    assert not [imported for module in ours for imported in own[module] if imported.startswith("_")]


@pytest.mark.parametrize("kind", ["floor", "signed"])
def test_a_network_of_them_runs_on_every_engine_that_can(
    kind: str, converted: Callable[[str], SNN], data: DataSplits
) -> None:
    snn = converted(kind)
    kinds = [node.op.kind for node in snn.network.graph]
    assert "swapped_halves" in kinds
    assert kinds.count("floor_neuron") == (2 if kind == "floor" else 0)
    assert snn.manifest["conversion"]["recipe"] == {"name": "deviation", "per_channel": True, "deviations": 3.0}
    assert snn.manifest["check"]["agreement"] > 0.95
    images = data.test.images()
    labels = snn.predict(images, engine="reference").labels
    engines = ["one-by-one", "float32", "bfloat16", *(["int8"] if kind == "signed" else [])]
    for engine in engines:
        assert (snn.predict(images, engine=engine).labels == labels).double().mean() > 0.97, engine
    assert snn.make_engine().name == ("int8" if kind == "signed" else "float32")  # one-by-one runs only by its name


def test_what_an_engine_cannot_run_is_refused_by_name(converted: Callable[[str], SNN]) -> None:
    with pytest.raises(UnsupportedError, match=r"relu \(floor_neuron\): its floor has no integer form"):
        converted("floor").make_engine("int8")
    leaky = nn.Sequential(nn.Conv2d(1, 2, 3), nn.LeakyReLU(), nn.Flatten())
    with pytest.raises(
        UnsupportedError, match=r"have values below zero \(1\), which the spikes of floor neurons cannot"
    ):
        convert(leaky, torch.randn(16, 1, 4, 4), neuron="floor")
    with pytest.raises(UnsupportedError, match=r"shifts the axes \(1, 2\) — shift images \[B, C, H, W\] along"):
        convert(Sideways(), torch.randn(16, 1, 4, 4))


def test_a_file_holds_all_that_they_say(converted: Callable[[str], SNN], data: DataSplits, tmp_path: Path) -> None:
    snn = converted("floor").calibrate_exit(data.exit, "spread", max_accuracy_drop=0.01, engine="one-by-one")
    snn.save(tmp_path / "snn.safetensors")
    again = seenn.load(tmp_path / "snn.safetensors")
    assert again.network.graph.fingerprint() == snn.network.graph.fingerprint()
    assert again.policy == snn.policy
    assert again.sections["one-by-one"].json == {"samples": 60}
    assert again.make_engine("one-by-one").note == "in float64; it was shown 60 samples"
    before, after = (each.predict(data.test.images(), engine="one-by-one").exit_timestep for each in (snn, again))
    assert torch.equal(before, after)
    assert 1 < float(after.double().mean()) < 6
    broken = replace(snn, sections={"one-by-one": replace(snn.sections["one-by-one"], json="many")})
    with pytest.raises(seenn.CheckpointError, match="keeps a number of samples, got 'many'"):
        broken.save(tmp_path / "other.safetensors")


def test_a_network_of_them_is_exported(converted: Callable[[str], SNN], data: DataSplits, tmp_path: Path) -> None:
    snn = converted("floor").calibrate_exit(data.exit, "spread", threshold=4.0, engine="reference")
    images = data.test.images(limit=7)
    found = snn.export(tmp_path / "snn.onnx", to="onnx", images=images)
    assert found.compared["labels_and_exits_equal"] == 7
    assert snn.export(tmp_path / "snn.json", to="thresholds", images=images).compared == {"sites": 2}


def test_a_rule_takes_part_in_every_comparison(converted: Callable[[str], SNN], data: DataSplits) -> None:
    assert "spread" in default_rules()
    found = converted("floor").compare_exits(data, {"spread": default_rules()["spread"]}, engine="reference")
    assert [figures.name for figures in found.policies] == ["spread", "every step"]


def test_a_spiking_model_of_them_is_captured(ann: nn.Module) -> None:
    spiking = copy.deepcopy(ann)
    spiking.relu = NEURONS.get("floor").train(1)
    network, images = seenn.capture(spiking, torch.zeros(2, 1, 8, 8)), torch.rand(4, 1, 8, 8)
    assert [node.op.kind for node in network.graph][1:5] == ["floor_neuron", "swapped_halves", "conv2d", "floor_neuron"]
    labels = seenn.SNN(network=network).predict(images, engine="reference").labels
    assert torch.equal(seenn.SNN(network=network).predict(images).labels, labels)


def test_a_neuron_is_trained_step_by_step_by_its_own_rule(
    plugin: ModuleType, converted: Callable[[str], SNN], data: DataSplits
) -> None:
    neuron = NEURONS.get("floor").train(1)
    currents = torch.randn(6, 3, 5) - torch.tensor([3.0, 0, 0, 0, 0, 0]).view(6, 1, 1)  # far below the floor at first
    state, steps = neuron.initial_state(currents[0]), []
    for current in currents:
        output, state = neuron.step((current,), state)
        steps.append(output)
    assert torch.equal(neuron.unroll((currents,), neuron.initial_state(currents[0]))[0], torch.stack(steps))
    tuned = converted("floor").finetune(data, FinetuneConfig(timesteps=2))
    assert max(tuned.manifest["finetune"]["accuracy_per_timestep"]) > 0.8


def seenn_command(folder: Path, *arguments: str, path: tuple[Path, ...] = ()) -> tuple[int, str, str]:
    """``seenn …`` in a process of its own, with ``tests`` and ``path`` to import from: code, stdout, stderr."""
    places = [HERE.parents[1], HERE.parent, *path]
    settings = {"PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = forked.run("-m", "cli", *arguments, cwd=folder, env={**os.environ, **settings})
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands write, where every extension is named on the command line."""
    folder = tmp_path_factory.mktemp("commands")
    for line in (
        "train-ann --model extension.model:Shifted --data bars --epochs 4",
        "convert --model extension.model:Shifted --ckpt ann.pth --neuron floor --levels 1 --recipe deviation -T 6",
        "calibrate-exit --policy spread --max-accuracy-drop 0.01",
    ):
        code, _, talk = seenn_command(folder, *line.split(), "--plugin", "extension.plugin")
        assert code == 0, talk
    return folder


def answer(done: tuple[int, str, str]) -> dict[str, Any]:
    code, out, talk = done
    assert code == 0, talk
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_command_line_takes_each_by_its_name(written: Path) -> None:
    line = "evaluate --engine one-by-one --json --plugin extension.plugin"
    found = answer(seenn_command(written, *line.split()))
    assert found["engine"]["name"] == "one-by-one"
    assert found["data"] == "bars"
    assert found["policy"]["policy"] == "spread"
    assert found["accuracy"] > 0.8


def test_an_installed_plugin_needs_no_option(written: Path, tmp_path: Path) -> None:
    installed = tmp_path / "seenn_extension-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: seenn-extension\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[seenn.plugins]\nextension = extension.plugin\n")
    line = "inspect extension.model:Shifted --image-size 1,8,8 --json"
    assert answer(seenn_command(written, *line.split(), path=(tmp_path,)))["convertible"]
    found = answer(seenn_command(written, "evaluate", "--engine", "one-by-one", "--json", path=(tmp_path,)))
    assert (found["engine"]["name"], found["policy"]["policy"]) == ("one-by-one", "spread")


def test_a_file_alone_runs_no_plugin(written: Path) -> None:
    code, out, talk = seenn_command(written, "evaluate")
    assert (code, out) == (1, "")
    assert talk.splitlines() == [
        "error: snn.safetensors: node 'relu': unknown op 'floor_neuron'. "
        "Did you mean 'floored_neuron' or 'if_neuron' or 'lif_neuron'? "
        "A plugin's needs --plugin MODULE, in Python its import."
    ]
