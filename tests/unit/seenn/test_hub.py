"""A folder for a model hub: what is written is read back, says what is known, and names no folder of this machine."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

import seenn
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Conv2d, Flatten, IFNeuron, Linear
from seenn.data import Preprocessing
from seenn.errors import CheckpointError, ModelError
from seenn.exits import GapExit
from seenn.snn import SNN

CHECK = {
    "split": "exit", "samples": 359, "ann_accuracy": 0.98, "agreement": 0.99, "accuracy_per_timestep": [0.9, 0.97]
}  # fmt: skip


@pytest.fixture
def snn() -> SNN:
    random = torch.Generator().manual_seed(0)
    nodes = [
        Node("conv", Conv2d(torch.randn(2, 1, 3, 3, generator=random)), (INPUT,)),
        Node("act", IFNeuron(0.5), ("conv",)),
        Node("flat", Flatten(), ("act",)),
        Node("head", Linear(torch.randn(3, 8, generator=random)), ("flat",)),
    ]
    return SNN(
        network=SpikingNetwork(OpGraph(nodes, "head"), (1, 4, 4)),
        preprocessing=Preprocessing(channels=1, height=4, width=4, mean=(0.4,), std=(0.3,)),
        manifest={
            "timesteps": 2,
            "class_names": ["cat", "dog", "fox"],
            "source": {"name": "resnet18", "file": "/home/somebody/ann.pth"},
            "data": {"spec": "mnist", "data_dir": "/home/somebody/data"},
            "direct": {"teacher": ["npz:/home/somebody/data.npz", "https://hub.test/a/b", "1/2 of 3/4"]},
            "check": CHECK,
        },
        policy=GapExit(threshold=0.5),
    )


def test_what_is_written_is_read_back(snn: SNN, tmp_path: Path) -> None:
    snn.save_pretrained(tmp_path / "snn")
    (tmp_path / "snn" / "LICENSE").write_text("own")
    snn.save_pretrained(tmp_path / "snn")  # over what is there
    found = seenn.from_pretrained(tmp_path / "snn")
    assert found.network.graph.fingerprint() == snn.network.graph.fingerprint()
    assert (found.policy, found.preprocessing, found.timesteps) == (snn.policy, snn.preprocessing, 2)
    assert {path.name for path in (tmp_path / "snn").iterdir()} == {
        "model.safetensors", "config.json", "README.md", "LICENSE"
    }  # fmt: skip
    written = [path.read_bytes() for path in (tmp_path / "snn").iterdir()]
    assert not any(b"somebody" in each for each in written)
    assert found.manifest["direct"]["teacher"] == ["npz:data.npz", "https://hub.test/a/b", "1/2 of 3/4"]


def test_the_configuration_speaks_as_timm_does(snn: SNN, tmp_path: Path) -> None:
    snn.save_pretrained(tmp_path)
    found = json.loads((tmp_path / "config.json").read_text())
    assert (found["architecture"], found["num_classes"], found["library_name"]) == ("resnet18", 3, "seenn")
    own = found["pretrained_cfg"]
    assert (own["input_size"], own["mean"], own["std"], own["crop_pct"]) == ([1, 4, 4], [0.4], [0.3], 1.0)
    assert own["label_names"] == ["cat", "dog", "fox"]
    assert found["seenn"]["policy"]["policy"] == "gap"


def test_the_card_has_the_figures_of_the_file_and_no_others(snn: SNN, tmp_path: Path) -> None:
    snn.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "| accuracy of the ANN | 98.00% | exit split, 359 images |" in card
    assert "| accuracy after 2 timesteps | 97.00% | exit split, 359 images |" in card
    assert "somebody" not in card
    replace(snn, manifest={"timesteps": 2}).save_pretrained(tmp_path)
    assert "None are recorded in the file." in (tmp_path / "README.md").read_text()


def test_what_is_no_network_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"has no model\.safetensors"):
        seenn.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="neither a folder nor the name of a repository"):
        seenn.from_pretrained(tmp_path / "nothing")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=r"somebody/something cannot be fetched \(\w+: .*or give a folder"):
        seenn.from_pretrained("hf-hub:somebody/something")


def test_the_folder_is_uploaded(snn: SNN, monkeypatch: pytest.MonkeyPatch) -> None:
    uploaded: dict[str, Any] = {}

    class Hub:
        """Stands in for the service, which tests do not reach."""

        def __init__(self, library_name: str) -> None:
            uploaded["library"] = library_name

        def create_repo(self, name: str, *, private: bool, exist_ok: bool) -> None:
            uploaded["created"] = (name, private, exist_ok)

        def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
            uploaded["files"] = sorted(path.name for path in Path(folder_path).iterdir())
            return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert snn.push_to_hub("me/snn", private=True) == "https://huggingface.co/me/snn"
    assert uploaded["created"] == ("me/snn", True, True)
    assert uploaded["files"] == ["README.md", "config.json", "model.safetensors"]
    with pytest.raises(ValueError, match="a repository is called user/model, got 'snn'"):
        snn.push_to_hub("snn")
