"""The ImageNet benchmark runs on a folder of the same layout."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import timm
import torch
from click.testing import CliRunner
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import imagenet

CLASSES = ("n01440764", "n01443537", "n01484850")


def _pictures(root: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / name / f"{number}.JPEG")


def test_networks_stand_beside_published_figures(tmp_path: Path) -> None:
    _pictures(tmp_path / "images/val", 60)
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=len(CLASSES))
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    arguments = ["--data-dir", tmp_path / "images", "--model", "resnet10t", "--ckpt", tmp_path / "weights.pth"]
    arguments += ["-T", "2", "--levels", "4", "--engine", "reference", "--out", tmp_path / "results"]
    run = CliRunner().invoke(imagenet.main, list(map(str, arguments)))
    assert run.exit_code == 0, run.output
    rows = {row["name"]: row["value"] for row in json.loads((tmp_path / "results.json").read_text())}
    assert rows["resnet10t, T = 2, 4 levels: share of MACs fed by spikes"] == 1.0
    assert 1.0 <= rows["resnet10t, T = 2, 4 levels: mean timesteps with exits"] <= 2.0
    assert "arXiv:2303.04347" in (tmp_path / "results.md").read_text()


def test_each_network_has_its_own_weights_or_none_has(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"")
    arguments = ["--data-dir", str(tmp_path), "--model", "a", "--model", "b", "--ckpt", str(tmp_path / "weights.pth")]
    run = CliRunner().invoke(imagenet.main, arguments)
    assert run.exit_code == 2
    assert "1 --ckpt for 2 --model" in run.output
