"""What every command shares."""

from __future__ import annotations

import io
import logging
from pathlib import Path

import click
import pytest
import torch

from cli.common import Console, Talk, command, text_table
from cli.convert import significant_loss
from cli.errors import Failure, show_error, usage
from cli.options import FiniteRange, OutputFolder
from cli.output import output_file
from seenn.errors import DataError


def failing(error: Exception) -> click.Command:
    @command("Fails.")
    def fail(console: Console) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [DataError("no images"), PermissionError("closed")])
def test_errors_on_purpose_become_failures_with_exit_code_1(error: Exception) -> None:
    with pytest.raises(Failure) as caught:
        failing(error).main([], standalone_mode=False)
    assert (caught.value.kind, caught.value.message) == (type(error).__name__, str(error))
    assert caught.value.exit_code == 1


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        failing(ZeroDivisionError()).main([], standalone_mode=False)


def test_a_stream_that_cannot_be_written_is_named() -> None:
    with pytest.raises(Failure) as caught:
        failing(OSError(28, "No space left on device")).main([], standalone_mode=False)
    assert caught.value.message.startswith("cannot write to standard output: No space left on device. ")


def test_an_error_is_told_where_nobody_takes_the_answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    show_error("DataError", "no images", as_json=True)
    assert capsys.readouterr().err == "error: no images\n"


def test_seed_fixes_the_random_numbers() -> None:
    drawn: list[torch.Tensor] = []

    @command("Draws.")
    def draw(console: Console) -> None:
        drawn.append(torch.rand(4))

    for seed in ("1", "1", "2"):
        draw.main(["--seed", seed, "--device", "cpu"], standalone_mode=False)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_unknown_device_is_wrong_usage() -> None:
    with pytest.raises(click.UsageError, match="unknown device 'abacus': use cpu, cuda, mps or auto"):
        failing(ZeroDivisionError()).main(["--device", "abacus"], standalone_mode=False)


def test_values_that_the_library_refuses_are_wrong_usage() -> None:
    with click.Context(click.Command("x")), pytest.raises(click.UsageError, match="too large"), usage():
        raise ValueError("too large")


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_numbers_must_be_finite(value: str) -> None:
    with pytest.raises(click.BadParameter, match=f"{value} is not a finite number"):
        FiniteRange(0).convert(value, None, None)


def test_output_paths_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert output_file(str(tmp_path / "a.snn")) == tmp_path / "a.snn"
    assert OutputFolder().convert(str(tmp_path / "a" / "b"), None, None) == str(tmp_path / "a" / "b")
    with pytest.raises(click.BadParameter, match="is a folder"):
        output_file(str(tmp_path))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # the superuser would be let in
    with pytest.raises(click.BadParameter, match="is not writable"):
        output_file(str(tmp_path / "a.snn"))
    with pytest.raises(click.BadParameter, match="is not writable"):
        OutputFolder().convert(str(tmp_path / "a" / "b"), None, None)


def test_log_records_are_lines_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Talk().handle(logging.LogRecord("seenn", logging.WARNING, "", 0, "%d channels", (3,), None))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: 3 channels\n")


def test_columns_are_as_wide_as_they_need_to_be() -> None:
    assert text_table({"node": "", "MACs": ","}, [("conv", 1024), ("a", None)]) == (
        "node   MACs\n----  -----\nconv  1,024\na"
    )


def test_a_file_is_not_called_what_it_is_not(tmp_path: Path) -> None:
    with pytest.raises(
        click.BadParameter, match=r"is a \.safetensors file, and .*a\.pth says \.pth: name it …\.safetensors"
    ):
        output_file(str(tmp_path / "a.pth"))
    assert output_file(str(tmp_path / "a.pth"), kind=".pth").name == "a.pth"


@pytest.mark.parametrize(
    ("ann", "snn", "agreement", "lost"),
    [
        (0.9, 0.5, 0.55, 0.4),
        (0.9, 0.89, 0.97, None),
        (0.9, 0.92, 0.9, None),
        (0.9, 0.9, 1.0, None),
        (None, 0.5, 0.5, None),
    ],
)
def test_a_loss_that_chance_does_not_explain_is_said(
    ann: float | None, snn: float, agreement: float, lost: float | None
) -> None:
    check = {"ann_accuracy": ann, "accuracy_per_timestep": [0.1, snn], "agreement": agreement, "samples": 359}
    assert significant_loss(check) == (None if lost is None else pytest.approx(lost))
