"""Options that every training command shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import seenn
from seenn.checkpoint import load


@pytest.mark.parametrize("option", ["--resume", "--tensorboard"])
def test_options_of_a_run_need_its_folder(option: str) -> None:
    result = CliRunner().invoke(seenn, ["train-ann", "--model", "resnet18", option])
    assert result.exit_code == 2
    assert f"{option} needs the run's folder: --run-dir DIR" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lr", "0"], "0.0 is not in the range x>0"),
        (["--lr", "nan"], "nan is not a finite number"),
        (["--epochs", "0"], "0.0 is not in the range x>0"),
        (["--ema", "1"], "1.0 is not in the range 0<x<1"),
        (["--mixup", "-1"], "-1.0 is not in the range x>=0"),
        (["--mixup", "0.2", "--batch-size", "33"], "--batch-size must be even, got 33"),
        (["--aa", "nope"], "timm knows no augmentation policy 'nope'"),
        (["--levels", "4"], "--levels goes with --activation qcfs"),
    ],
)
def test_values_out_of_range_are_wrong_usage(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(seenn, ["train-ann", "--model", "resnet18", *arguments])
    assert result.exit_code == 2
    assert message in result.output


@pytest.mark.parametrize(
    ("arguments", "augment"),
    [
        ([], {"flip": True, "shift": 2}),
        (["--no-flip", "--shift", "0"], {"flip": False, "shift": 0}),
        (["--shift", "3"], {"flip": True, "shift": 3}),
    ],
)
def test_mirroring_and_shifts_are_chosen_or_left_to_the_data(
    arguments: list[str], augment: dict[str, int], tmp_path: Path
) -> None:
    images, labels = np.random.default_rng(0).integers(0, 255, (90, 1, 28, 28), dtype=np.uint8), np.arange(90) % 3
    np.savez(tmp_path / "data.npz", images=images, labels=labels)
    options = ["--data", f"npz:{tmp_path / 'data.npz'}", "--epochs", "0.1", "--batch-size", "8", "-T", "1"]
    target = tmp_path / "snn.safetensors"
    result = CliRunner().invoke(seenn, ["train-direct", *options, "--width", "0.1", *arguments, "-o", str(target)])
    assert result.exit_code == 0, result.output
    assert load(target).manifest["direct"]["training"]["augment"] == augment


def test_a_batch_larger_than_the_data_is_refused() -> None:
    result = CliRunner().invoke(seenn, ["train-ann", "--model", "resnet18", "--batch-size", "5000"])
    assert result.exit_code == 1
    assert "a batch of 5000 is larger than the train split of 899 images: give a smaller --batch-size" in str(
        result.output
    )
