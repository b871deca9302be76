"""What data and preprocessing options say, and what of it networks record."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

import seenn
from cli.calibrate_exit import calibrate_exit
from cli.convert import convert
from cli.evaluate import evaluate
from cli.groups import DataOptions
from cli.main import seenn as seenn_command
from cli.train_ann import train_ann
from cli.train_direct import train_direct
from converter.load.weights import read_weights
from seenn.data import load_data

RAW = (
    "from torch import nn\n"
    "def net(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))\n"
)
SIGNAL = (
    "from torch import nn\n"
    "def net(): return nn.Sequential(nn.Conv1d(2, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 2))\n"
    "def table(): return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))\n"
)


def run(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, "--device", "cpu", "--json"])


def bright(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures whose class is whether their left half is the brighter one."""
    random, labels = np.random.default_rng(0), np.arange(count) % 2
    pixels = random.integers(0, 128, (count, 8, 8), dtype=np.uint8)
    pixels[labels == 1, :, :4] += 100
    pixels[labels == 0, :, 4:] += 100
    return pixels, labels


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network trained on pixels from 0 to 255, an npz file and a folder of gray pictures."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "rawnet_of_a_test.py").write_text(RAW)
    (folder / "signalnet_of_a_test.py").write_text(SIGNAL)
    pixels, labels = bright(1200)
    np.savez(folder / "d.npz", images=pixels, labels=labels)
    for index in range(200):
        path = folder / "set" / "ab"[labels[index]] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[index]).save(path)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    x, y = torch.from_numpy(pixels)[:, None].float(), torch.from_numpy(labels)
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    torch.save(net.state_dict(), folder / "r.pth")
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def test_what_is_stated_is_recorded_and_no_guess(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    stated = ("--mean", "0", "--std", "1/255")
    done = run(convert, "--model", "rawnet_of_a_test:net", "--ckpt", "r.pth", "--data", "npz:d.npz", *stated, "-T", "2")
    assert done.exit_code == 0, done.output
    assert "guess" not in caplog.text
    assert json.loads(done.stdout)["ann_accuracy"] > 0.95
    preprocessing = seenn.load(here / "snn.safetensors").preprocessing
    assert preprocessing is not None
    assert (preprocessing.mean, preprocessing.std) == ((0.0,), (1 / 255,))


def test_a_guess_is_said_in_one_line_with_the_accuracy(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ("--model", "rawnet_of_a_test:net", "--ckpt", "r.pth", "--data", "npz:d.npz", "-T", "2", "--force")
    done = run(convert, *arguments)
    assert done.exit_code == 0, done.output
    assert "preprocessing is a guess (1×8×8, mean 0.4" in caplog.text
    assert "held-out images" in caplog.text


def test_labels_in_another_order_stop_the_conversion(here: Path) -> None:
    pixels, labels = bright(1200)
    np.savez("other.npz", images=pixels, labels=1 - labels)
    arguments = ("--model", "rawnet_of_a_test:net", "--ckpt", "r.pth", "--data", "npz:other.npz", "-T", "2")
    done = run(convert, *arguments, "--mean", "0", "--std", "1/255", "-o", "other.safetensors")
    assert done.exit_code == 1
    assert "not shown better than always answering one class" in done.stderr
    assert not Path("other.safetensors").exists()


def test_a_gray_folder_suits_a_network_of_one_channel_by_itself(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = ("--model", "rawnet_of_a_test:net", "--ckpt", "r.pth", "--data", "imagefolder:set", "-T", "2")
    done = run(convert, *arguments, "--mean", "0", "--std", "1/255")
    assert done.exit_code == 0, done.output
    assert "images are made 1×8×8 for the model, as it is for those; they are 3×8×8 by themselves" in caplog.text
    assert json.loads(done.stdout)["ann_accuracy"] > 0.9


def test_a_file_keeps_its_preprocessing_and_one_without_gets_what_is_stated(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = (
        "--model",
        "rawnet_of_a_test:net",
        "--ckpt",
        "r.pth",
        "--data",
        "npz:d.npz",
        "-T",
        "2",
        "-o",
        "a.safetensors",
    )
    assert run(convert, *arguments, "--mean", "0", "--std", "1/255").exit_code == 0
    done = run(calibrate_exit, "a.safetensors", "--threshold", "0.9", "--mean", "0.5")
    assert done.exit_code == 2
    assert "the network records its preprocessing, 1×8×8, mean 0, std 0.003922: leave out --input-size" in done.stderr
    replace(seenn.load("a.safetensors"), preprocessing=None).save("b.safetensors")
    done = run(calibrate_exit, "b.safetensors", "--threshold", "0.9", "--mean", "0", "--std", "1/255")
    assert done.exit_code == 0, done.output
    assert "records no preprocessing: taken is 1×8×8, mean 0, std 0.003922" in caplog.text
    assert seenn.load("b.safetensors").preprocessing == seenn.load("a.safetensors").preprocessing


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--mean", "0.5,0.5", "mean has 2 values, expected one for each of 1"),
        ("--std", "0", "std is (0.0,), expected numbers above 0"),
        ("--std", "1/0", "divides by zero"),
        ("--mean", "x", "not a valid"),
        ("--crop-pct", "0", "0<x<=1"),
        ("--input-size", "1,2,3,4", "the input size of images must be H,W or C,H,W"),
    ],
)
def test_values_out_of_range_are_wrong_usage(here: Path, option: str, value: str, message: str) -> None:
    arguments = ("--model", "rawnet_of_a_test:net", "--ckpt", "r.pth", "--data", "npz:d.npz", option, value)
    done = run(convert, *arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_training_takes_images_as_stated_and_records_it(here: Path) -> None:
    arguments = ("--model", "rawnet_of_a_test:net", "--data", "imagefolder:set", "--epochs", "1", "-o", "t.pth")
    done = run(train_ann, *arguments, "--in-chans", "1", "--mean", "0.5", "--std", "0.5")
    assert done.exit_code == 0, done.output
    record = torch.load("t.pth", weights_only=True)["seenn_record"]
    assert (record["preprocessing"]["channels"], record["preprocessing"]["mean"]) == (1, [0.5])


@pytest.mark.parametrize(("factory", "shape"), [("net", (2, 20)), ("table", (6,))])
def test_signals_and_tables_go_through_training_conversion_exits_and_report(
    here: Path, factory: str, shape: tuple[int, ...]
) -> None:
    random, labels = np.random.default_rng(0), np.arange(1200) % 2
    values = random.normal(size=(1200, *shape)) + 0.5 * (2 * labels - 1).reshape(-1, *[1] * len(shape))
    np.savez("signals.npz", X=values, y=labels)
    ann, file = f"{factory}.pth", f"{factory}.safetensors"
    name = f"signalnet_of_a_test:{factory}"
    done = run(train_ann, "--model", name, "--data", "npz:signals.npz", "--epochs", "4", "-o", ann)
    assert done.exit_code == 0, done.output
    done = run(convert, "--model", name, "--ckpt", ann, "-T", "4", "-o", file)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["agreement"] > 0.9
    assert run(calibrate_exit, file, "--threshold", "0.9").exit_code == 0
    done = run(evaluate, file, "--report", f"report-{factory}")
    assert done.exit_code == 0, done.output
    assert not Path(f"report-{factory}", "images.png").exists()
    assert json.loads(done.stdout)["accuracy"] > 0.8
    assert seenn.load(file).predict(values[:3].astype(np.float32)).labels.shape == (3,)


@pytest.mark.parametrize("task", ["labels", "values"])
def test_labels_that_are_no_classes_say_what_the_scores_are(
    here: Path, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    values = np.random.default_rng(0).normal(size=(400, 6))
    targets = values[:, :2] > 0 if task == "labels" else values[:, :2]
    np.savez("others.npz", X=values, y=targets)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    torch.save(net.state_dict(), "others.pth")
    typed = ["--model", "signalnet_of_a_test:table", "--ckpt", "others.pth", "--data", "npz:others.npz"]
    done = run(convert, *typed)
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert (answer["task"], answer["ann_accuracy"]) == (task, None)
    assert "without classes, nothing shows that images are prepared as the model wants them" in caplog.text
    done = run(evaluate, "snn.safetensors")
    assert done.exit_code == 1
    assert "classes" in done.stderr
    done = CliRunner().invoke(convert, typed)
    assert "wrote snn.safetensors; next: seenn predict snn.safetensors SAMPLES\n" in done.stdout


def test_a_guess_says_whether_it_is_the_datas_or_the_librarys() -> None:
    given = dict.fromkeys(field.name for field in fields(DataOptions))
    options = DataOptions(**{**given, "input_size": (), "mean": (), "std": ()})
    digits = seenn.load_data("digits")
    splits = replace(digits, guess="measured on the train split")
    own = splits.preprocessing
    assert options.prepared(splits, own).guess == "measured on the train split"
    assert options.prepared(splits, own, source="as the library has it").guess == "as the library has it"
    assert not options.prepared(replace(digits, guess=""), own, source="as the library has it").guess
    assert not replace(options, mean=(0.5,), std=(0.5,)).prepared(splits, own).guess


@pytest.mark.parametrize("command", [train_ann, train_direct])
@pytest.mark.parametrize("model", ["test_resnet", "rawnet_of_a_test:net", "spiking_small"])
def test_arrays_without_their_channel_are_learned_from_as_they_are_converted(
    here: Path, tmp_path: Path, command: Any, model: str
) -> None:
    if model == "spiking_small" and command is train_ann:
        return
    pixels, labels = bright(200)
    np.savez(tmp_path / "floats.npz", images=(pixels / 255).astype(np.float32), labels=labels)
    made = str(tmp_path / ("ann.pth" if command is train_ann else "snn.safetensors"))
    extra = () if command is train_ann else ("-T", "2")
    data = f"npz:{tmp_path / 'floats.npz'}"
    done = run(command, "--model", model, "--data", data, "--epochs", "1", "--batch-size", "32", "-o", made, *extra)
    assert done.exit_code == 0, (done.output, done.exception)
    if command is train_ann:
        assert read_weights(made).record["preprocessing"]["shape"] == [1, 8, 8]
    else:
        assert seenn.load(made).network.input_shape == (1, 8, 8)
        assert run(evaluate, made, "--report", str(tmp_path / "report")).exit_code == 0


def test_pictures_with_transparency_are_read_with_it_for_a_network_of_four_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for index in range(200):
        file = tmp_path / "set" / "ab"[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8, 4), dtype=np.uint8)).save(file)
    (tmp_path / "four_of_a_test.py").write_text(RAW.replace("Conv2d(1", "Conv2d(4"))
    net = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    torch.save(net.state_dict(), "four.pth")
    stated = ("--in-chans", "4", "--mean", "0.5,0.5,0.5,0.25", "--std", "0.5,0.5,0.5,0.5")
    what = ("--model", "four_of_a_test:net", "--ckpt", "four.pth", "--data", "imagefolder:set", "-T", "2", "--force")
    done = run(convert, *what, *stated)
    assert done.exit_code == 0, (done.output, done.exception)
    snn = seenn.load("snn.safetensors")
    pixels = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None]
    assert torch.equal(snn.batch(file).inputs, snn.batch(pixels).inputs)
    assert torch.equal(snn.batch(Image.open(file)).inputs, snn.batch(pixels).inputs)
    assert run(evaluate).exit_code == 0
    Image.open(file).convert("RGB").save("opaque.png")
    printed = CliRunner().invoke(seenn_command, ["predict", "snn.safetensors", str(file), "opaque.png"])
    assert printed.stdout.startswith(f"{file}: ")
    assert "opaque.png: images have 3 channels and the network takes 4" in printed.stderr
    assert load_data("imagefolder:set").train.images(1).shape[1] == 3
