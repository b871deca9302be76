"""Options that every training verb shares."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from cli.main import seenn


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


def test_a_batch_larger_than_the_data_is_refused() -> None:
    result = CliRunner().invoke(seenn, ["train-ann", "--model", "resnet18", "--batch-size", "5000"])
    assert result.exit_code == 1
    assert "a batch of 5000 is larger than the train split of 899 images; use a smaller one" in str(result.output)
