"""Completion, doctor, --quiet, and options from files."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from cli.main import seenn
from cli.output import output_file
from seenn.core.ops import IFNeuron

from .test_engines import write


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_for_the_shell(shell: str) -> None:
    done = CliRunner().invoke(seenn, ["completion", shell])
    assert done.exit_code == 0, done.output
    assert "_SEENN_COMPLETE" in done.stdout
    assert f"{shell}_complete" in done.stdout


def test_tab_completes_options() -> None:
    done = CliRunner().invoke(
        seenn,
        [],
        prog_name="seenn",
        env={"_SEENN_COMPLETE": "bash_complete", "COMP_WORDS": "seenn convert --timest", "COMP_CWORD": "2"},
    )
    assert "--timesteps" in done.stdout


def test_doctor_looks_at_every_engine_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    found = json.loads(CliRunner().invoke(seenn, ["doctor", "--json"]).stdout)
    assert {"seenn", "torch", "python", "CPU", "compiled code", "cache", "GPU", "engine int8"} <= set(found)
    assert found["engine reference"]["ok"] is True
    monkeypatch.setattr("seenn.native.library._compiler", lambda: None)
    done = CliRunner().invoke(seenn, ["doctor"])
    assert done.exit_code == 0
    assert "compiled code: install a C compiler" in done.stdout


@pytest.mark.parametrize("option", ["--config", "--write-config"])
def test_options_are_in_regular_files(tmp_path: Path, option: str) -> None:
    os.mkfifo(tmp_path / "pipe")  # to read it would wait for ever
    done = CliRunner().invoke(seenn, ["inspect", "resnet18", option, str(tmp_path / "pipe")])
    assert done.exit_code != 0
    assert isinstance(done.exception, SystemExit)
    assert "not a regular file" in done.output


def test_options_are_written_to_a_file_and_read_from_it(tmp_path: Path) -> None:
    run = tmp_path / "run.toml"
    run.write_text("[evaluate]\nlimit = 3\n")
    options = ["resnet18", "--image-size", "1,8,8", "--num-classes", "10", "--json"]
    done = CliRunner().invoke(seenn, ["inspect", *options, "--write-config", str(run)])
    assert done.exit_code == 0, done.output
    assert done.stdout == ""
    table = tomllib.loads(run.read_text())
    assert table["evaluate"] == {"limit": 3}
    assert table["inspect"]["num-classes"] == 10
    typed = CliRunner().invoke(seenn, ["inspect", *options])
    read = CliRunner().invoke(seenn, ["inspect", "--config", str(run)])
    assert read.exit_code == 0, read.output
    assert json.loads(read.stdout) == json.loads(typed.stdout)
    wins = CliRunner().invoke(seenn, ["inspect", "--config", str(run), "--num-classes", "7"])
    assert json.loads(wins.stdout)["parameters"] != json.loads(typed.stdout)["parameters"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[inspect", "cannot be read as TOML"),
        ("[convert]", r"has no table [inspect]: it has convert"),
        ("[inspect]\ninput-sise = '1,8,8'", "has no option 'input-sise'. Did you mean 'input-size'?"),
        ("[inspect]\nnum-classes = 'many'", "Invalid value for '--num-classes'"),
    ],
)
def test_a_file_that_says_something_else_is_wrong_usage(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    done = CliRunner().invoke(seenn, ["inspect", "resnet18", "--config", str(tmp_path / "run.toml")])
    assert done.exit_code == 2
    assert message in done.output


def test_quiet_and_verbose_contradict_each_other() -> None:
    done = CliRunner().invoke(seenn, ["inspect", "resnet18", "--quiet", "--verbose"])
    assert done.exit_code == 2
    assert "--quiet and --verbose contradict each other: give one" in done.output


def test_what_is_replaced_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = str(tmp_path / "snn.safetensors")
    output_file(path)
    Path(path).touch()
    output_file(path, updates=path)
    assert not caplog.text
    output_file(path)
    assert "snn.safetensors is there already: it is replaced in the end" in caplog.text


def test_home_is_where_no_shell_has_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    done = CliRunner().invoke(seenn, ["inspect", "resnet18", "--write-config", "~/written.toml"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "written.toml").is_file()


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that commands read; nothing in it may change."""
    monkeypatch.chdir(tmp_path)
    write("snn.safetensors", IFNeuron(0.5, max_spikes=2))
    torch.save({}, "ann.pth")
    os.link("ann.pth", "own")
    os.symlink("ann.pth", "link")
    Path("net_of_manners.py").write_text("from torch import nn\ndef net(): return nn.Flatten()\n")
    Path("table").write_text("path,label\n")
    Path("a.npz").write_bytes(b"arrays")
    Path("names").write_text("cat\ndog\n")
    Path("run").write_text("[calibrate-exit]\nthreshold = 0.9\n[finetune]\nepochs = 1\n")
    for name in ("weights", "site", "old"):
        Path(name).mkdir()
    Path("weights/model.safetensors").write_bytes(b"weights")
    Path("site/report.html").write_text("mine")
    return tmp_path


CONVERT, TRAIN = "convert --model net_of_manners:net --ckpt ann.pth", "train-direct --model net_of_manners:net"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{CONVERT} -o net_of_manners.py", "net_of_manners.py says .py: name it ….safetensors"),
        (f"{CONVERT} -o link", "link is the input of --ckpt, which would be lost: name another"),
        (f"{CONVERT} --data manifest:table -o table", "table is the input of --data, which would be lost"),
        (f"{CONVERT} --data manifest:T.csv -o T.csv", "T.csv says .csv: name it ….safetensors"),
        (f"{CONVERT} --class-names names -o ./names", "names is the input of --class-names, which would be lost"),
        ("convert --model m --ckpt weights -o weights/model.safetensors", "is a file of weights, the input of --ckpt"),
        ("convert --model local-dir:weights --pretrained -o weights/model.safetensors", "the input of --model"),
        ("calibrate-exit --config run -o run", "run is the input of --config, which would be lost"),
        ("finetune --config run -o run", "run is the input of --config, which would be lost"),
        ("finetune -o snn.safetensors", "snn.safetensors is the input of SNN, which would be lost"),
        ("finetune -o net_of_manners.py", "says .py: name it ….safetensors"),
        (f"{TRAIN} -o script.py", "script.py says .py: name it ….safetensors"),
        ("export --to onnx -o ann.pth", "what is written is a .onnx file, and ann.pth says .pth: name it ….onnx"),
        ("export --to onnx -o pic.png", "pic.png says .png: name it ….onnx"),
        ("export ./snn.safetensors --to integers --data npz:a.npz -o a.npz", "a.npz is the input of --data"),
        ("export --to nir -o table", "table is not a folder: name another"),
        ("evaluate --report site", "site has report.html, and no pages.json beside it: seenn did not write that"),
        ("report old --report old", "old is the input of FOLDERS, which would be lost: name another"),
    ],
)
def test_no_output_replaces_an_input_or_a_file_of_another_kind(inputs: Path, line: str, message: str) -> None:
    before = {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()}
    done = CliRunner().invoke(seenn, line.split())
    assert (done.exit_code, message in done.output) == (2, True), done.output
    assert {path: path.read_bytes() for path in inputs.rglob("*") if path.is_file()} == before


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    ("line", "folder"),
    [
        (f"{CONVERT} --neuron burst --report burst", "burst"),
        (f"{CONVERT} --data digits --device cpu --report digits", "digits"),
        (f"{CONVERT} --data digits --device cpu --report cpu", "cpu"),
        ("convert --model resnet18 --ckpt ann.pth --data digits --report resnet18", "resnet18"),
        ("convert --model nets:make --ckpt ann.pth --data digits -o nets/snn.safetensors", "nets"),
    ],
)
def test_outputs_may_be_called_as_something_that_is_no_file(line: str, folder: str) -> None:
    Path(folder).mkdir()
    Path(folder, "snn.safetensors").touch()  # of an earlier run
    done = CliRunner().invoke(seenn, line.split())
    assert "Error: " in done.output  # of the weights, which come after
    assert "would be lost" not in done.output


@pytest.mark.usefixtures("inputs")
def test_the_network_itself_may_be_written_anew_by_another_spelling(caplog: pytest.LogCaptureFixture) -> None:
    done = CliRunner().invoke(
        seenn, ["calibrate-exit", "snn.safetensors", "--threshold", "0.9", "-o", "./snn.safetensors"]
    )
    assert done.exit_code == 0, done.output
    assert "is replaced" not in caplog.text
    done = CliRunner().invoke(seenn, ["export", "--to", "integers", "--images", "5", "-o", "a.npz"])
    assert done.exit_code == 0, done.output
    assert "a.npz is there already: it is replaced in the end" in caplog.text
