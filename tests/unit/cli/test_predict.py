"""``seenn predict``: what it takes, what it prints, and its exit codes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from small_snn import deep_network, tiny_snn
from torch import nn

from cli.main import seenn
from converter import convert
from seenn.answers import FORMATS, arrays
from seenn.checkpoint import load
from seenn.data.numbers import Numbers
from seenn.exits import ConfidenceExit, FixedExit


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``snn.safetensors``, ten pictures in ``p`` and a damaged one in ``bad.png``."""
    monkeypatch.chdir(tmp_path)
    tiny_snn().save("snn.safetensors")
    Path("p").mkdir()
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(f"p/{number}.png")
    Path("bad.png").write_bytes(b"damaged")
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(seenn, ["predict", "snn.safetensors", *arguments])


@pytest.mark.usefixtures("folder")
def test_answers_are_printed_a_line_each_and_what_cannot_be_read_is_told() -> None:
    done = run("p/3.png", "bad.png", "p/4.png")
    assert done.exit_code == 0
    first, second = done.stdout.splitlines()
    assert first.startswith("p/3.png: ")
    assert second.startswith("p/4.png: ")
    assert "warning: bad.png: is damaged or no BMP" in done.stderr
    assert "warning: of 3 inputs 1 could not be read\n" in done.stderr
    Path("worse.png").write_bytes(b"damaged")
    quiet = run("p/3.png", "bad.png", "worse.png", "p/4.png", "-q")
    assert [line.partition(": is")[0] for line in quiet.stderr.splitlines()] == [
        "warning: bad.png",
        "warning: worse.png",
        "warning: of 4 inputs 2 could not be read",
    ]


@pytest.mark.usefixtures("folder")
def test_answers_of_networks_with_heads_are_printed_with_the_exit_and_its_cost() -> None:
    first, depth = Path("p/3.png"), deep_network()
    replace(tiny_snn(), network=depth, policy=FixedExit(timesteps=1, segment=2)).save("snn.safetensors")
    cost = 100 * depth.exit_costs[1] / 4
    assert run(str(first)).stdout.endswith(f", 1 step, exit 2, {cost:.1f} % of the cost of all)\n")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_networks_of_labels_and_of_quantities_answer_in_values(suffix: str) -> None:
    tiny = tiny_snn()
    pixels = [Path(f"p/{number}.png") for number in range(10)]
    for task in ("labels", "values"):
        snn = replace(tiny, policy=None, manifest={**tiny.manifest, "task": task})
        snn.save("snn.safetensors")
        scores = snn.predict(pixels).logits_sum.double() / 4
        found = task == "labels"
        expected = scores.sigmoid() if found else scores
        assert run("p", "-o", f"{task}.{suffix}").exit_code == 0
        for row, values in zip(FORMATS[suffix].read(Path(f"{task}.{suffix}")), expected.tolist(), strict=True):
            assert row["values"] == pytest.approx(values)
            names = "|".join(
                name for name, value in zip(("cat", "dog\\nhouse", "eel"), values, strict=True) if value > 0.5
            )
            assert row["label"] is None
            assert (row["class"] or "") == (names if found else "")
            assert (row["confidence"] is None) != found
        printed = run("p/3.png").stdout
        assert printed.endswith(", 4 steps)\n" if found else "  (4 steps)\n")


@pytest.mark.usefixtures("folder")
def test_a_network_without_preprocessing_takes_what_is_stated(caplog: pytest.LogCaptureFixture) -> None:
    tiny = tiny_snn()
    recorded = json.loads(run("p", "--json").stdout)["predictions"]
    mean, std = (",".join(map(str, getattr(tiny.preprocessing, name))) for name in ("mean", "std"))
    other = run("p", "--mean", "0.25", "--std", "0.125")
    assert other.exit_code == 2
    assert "the network records its preprocessing" in other.output
    replace(tiny, preprocessing=None).save("snn.safetensors")
    refused = run("p")
    assert refused.exit_code == 1
    assert "does not record how pictures are prepared: state --mean and --std as in training" in refused.stderr
    assert run("p", "-o", "a.csv").exit_code == 1
    assert not list(Path().glob("a.csv*"))
    stated = run("p", "--mean", mean, "--std", std, "--json")
    assert "the network records no preprocessing: taken is" in caplog.text
    assert json.loads(stated.stdout)["predictions"] == recorded


@pytest.fixture
def signals(folder: Path) -> np.ndarray[Any, Any]:
    """``snn.safetensors`` for signals of two channels, and twelve of these."""
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
    convert(net, torch.randn(32, 2, 8), timesteps=2, force=True).save(folder / "snn.safetensors")
    return np.random.default_rng(0).standard_normal((12, 2, 8), dtype=np.float32)


@pytest.mark.usefixtures("signals")
def test_a_network_of_numbers_is_told_apart_from_one_of_pictures() -> None:
    for stated in ((), ("--mean", "0", "--std", "1")):
        refused = run("p", "-o", "a.csv", *stated)
        assert refused.exit_code == 1
        assert "snn.safetensors reads samples of shape [2, 8], not image files: store them as .npy" in refused.stderr
    numbers = replace(tiny_snn(), preprocessing=Numbers(shape=(1, 8, 8)))
    numbers.save("snn.safetensors")
    refused = run("p", "-o", "a.csv")
    assert "snn.safetensors reads samples of shape [1, 8, 8], not image files" in refused.stderr
    np.save("raw.npy", np.zeros((3, 8, 8), np.uint8))
    refused = run("raw.npy", "-o", "a.csv")
    assert "raw.npy[0]: this has pictures, and the network takes numbers of shape [1, 8, 8]" in refused.stderr
    assert not list(Path().glob("a.csv*"))


def test_signals_are_answered_from_arrays(signals: np.ndarray[Any, Any]) -> None:
    expected = load("snn.safetensors").predict(torch.from_numpy(signals)).labels.tolist()
    np.save("many.npy", signals.astype(">f8"))
    np.savez("many.npz", x=signals, y=np.zeros(12))
    np.save("one.npy", signals[7])
    found = json.loads(run("many.npy", "many.npz", "one.npy", "--json").stdout)["predictions"]
    assert [row["path"] for row in found] == [
        *(f"many.npy[{number}]" for number in range(12)),
        *(f"many.npz[{number}]" for number in range(12)),
        "one.npy",
    ]
    assert [row["label"] for row in found] == [*expected, *expected, expected[7]]
    signals[(0, 3), 0, 0] = np.nan
    np.save("many.npy", signals)
    partly = json.loads(run("many.npy", "--json").stdout)["predictions"]
    assert [row["label"] for row in partly] == [None, *expected[1:3], None, *expected[4:]]
    assert "many.npy[3]: 1 numbers are NaN or infinite" in partly[3]["error"]
    np.save("one.npy", signals[0])
    Path("cut.npy").write_bytes(Path("many.npy").read_bytes()[:200])
    several = json.loads(run("one.npy", "cut.npy", "many.npz", "--json").stdout)["predictions"]
    assert [row["label"] for row in several] == [None, None, *expected]


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 3, 8), np.float32)}, "many.npz[0]: 3×8 numbers a sample, the network takes 2×8"),
        ({"x_train": np.zeros((5, 2, 8)), "x_test": np.zeros((5, 2, 8))}, "many.npz: has the arrays x_train, x_test"),
        ({"x": np.zeros((0, 2, 8))}, "many.npz: x has shape [0, 2, 8]: there are no samples in it; leave it out"),
        ({"x": np.array([{}, {}])}, "many.npz: x holds Python objects"),
        ({"x": np.array([["a"]])}, "many.npz: x[0]: images are <U1, expected"),
        ({}, "many.npz: has the arrays (none): expected one of samples, called images"),
    ],
)
def test_arrays_that_the_network_does_not_take_are_refused_before_any_work(
    arrays: dict[str, np.ndarray[Any, Any]], message: str
) -> None:
    np.savez("many.npz", allow_pickle=True, **arrays)
    told = {"many.npz": message}
    if "x" in arrays:
        np.save("many.npy", arrays["x"])
        told["many.npy"] = message.replace("npz: x", "npy").replace("npz", "npy")
    for name, expected in told.items():
        refused = run(name, "-o", "a.csv")
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert expected in refused.stderr
    assert not list(Path().glob("a.csv*"))


@pytest.mark.usefixtures("folder")
def test_pictures_may_come_as_arrays_of_pixels_or_prepared() -> None:
    files = sorted(Path("p").iterdir())
    pixels = np.stack([np.asarray(Image.open(path)) for path in files])
    np.save("raw.npy", pixels)
    prepared = load("snn.safetensors").preprocessing
    assert prepared is not None
    np.savez("prepared.npz", images=prepared.prepare(pixels[..., None]).numpy())
    expected = [row["label"] for row in json.loads(run("p", "--json").stdout)["predictions"]]
    mixed = json.loads(run("raw.npy", "p", "prepared.npz", "bad.png", "--json").stdout)["predictions"]
    assert [row["label"] for row in mixed] == [*expected * 3, None]
    np.save("one.npy", np.repeat(pixels[3][..., None], 3, -1))
    np.savez("grays.npz", images=pixels[:3])
    found = json.loads(run("one.npy", "grays.npz", "--json").stdout)["predictions"]
    assert [row["path"] for row in found] == ["one.npy", *(f"grays.npz[{number}]" for number in range(3))]
    assert [row["label"] for row in found] == [expected[3], *expected[:3]]
    np.save("wild.npy", np.full((2, 1, 8, 8), 300.0))
    assert "wild.npy[0]: images have values from 300 to 300, but prepared" in run("wild.npy").stderr


@pytest.mark.parametrize("shape", [(8, 8, 8), (3, 8, 3)])
def test_an_array_of_just_the_shape_of_an_input_is_one_sample(shape: tuple[int, ...], tmp_path: Path) -> None:
    sample = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    np.save(tmp_path / "one.npy", sample)
    ((name, read),) = arrays.rows(tmp_path / "one.npy", shape)
    assert name == str(tmp_path / "one.npy")
    assert np.array_equal(read().numpy(), sample)


@pytest.mark.usefixtures("folder")
def test_a_list_without_names_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seenn.answers.pictures._lines", lambda: iter(()))
    done = run("-")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "warning: stdin names no inputs" in done.stderr


@pytest.mark.usefixtures("folder")
def test_a_file_of_answers_agrees_with_what_is_printed() -> None:
    printed = json.loads(run("p", "bad.png", "--json").stdout)
    done = run("p", "bad.png", "-o", "a.csv", "--json")
    written = json.loads(done.stdout)
    with open("a.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = [{name: "" if v is None else str(v) for name, v in row.items()} for row in printed["predictions"]]
    assert rows == expected
    assert written["answers"] == "a.csv"
    assert written["engine"] == printed["engine"]
    assert {name: written[name] for name in ("inputs", "answered", "unreadable")} == {
        **{"inputs": 11, "answered": 10, "unreadable": 1}
    }
    assert "of 11 inputs 1 could not be read; the first: bad.png: is damaged" in done.stderr


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("p", "bad.png"), 0),
        (("p", "bad.png", "--strict"), 1),
        (("p", "--strict"), 0),
        (("bad.png",), 1),
        (("p", "bad.png", "--strict", "-o", "a.jsonl"), 1),
        (("bad.png", "-o", "a.jsonl"), 1),
    ],
)
def test_exit_codes(arguments: tuple[str, ...], code: int) -> None:
    assert run(*arguments).exit_code == code


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("p", "--resume"), 2, "--resume and --format are of a file of answers: add -o FILE"),
        (("p", "--format", "csv"), 2, "are of a file of answers: add -o FILE"),
        (("p", "-o", "a.txt"), 2, r"-o a.txt does not end in .csv, .jsonl, .parquet: add --format"),
        (("p", "-o", "none/a.csv"), 2, "the folder none does not exist"),
        (("p", "-o", "p"), 2, "p is a folder, not a file"),
        (("gone", "gone.tar"), 1, "gone, gone.tar: no such file, folder or pattern; check the spelling"),
    ],
)
def test_what_cannot_be_done_is_refused_before_any_work(arguments: tuple[str, ...], code: int, message: str) -> None:
    done = run(*arguments)
    assert (done.exit_code, "engine:" in done.stderr) == (code, False)
    assert message in done.stderr
    assert not list(Path().glob("a.*"))


@pytest.mark.usefixtures("folder")
def test_another_network_does_not_go_on_with_the_answers() -> None:
    assert run("p", "-o", "a.csv").exit_code == 0
    assert run("p", "-o", "a.csv", "--resume").exit_code == 0
    for options in (("-T", "2"), ("--engine", "reference")):
        done = run("p", "-o", "a.csv", "--resume", *options)
        assert done.exit_code == 1
        assert "a.csv was begun with other options: " in done.stderr
    snn = load("snn.safetensors")
    replace(snn, policy=ConfidenceExit(threshold=0.8)).save("snn.safetensors")
    done = run("p", "-o", "a.csv", "--resume")
    assert done.exit_code == 1
    assert "a.csv was begun with other options: snn was " in done.stderr


def test_pictures_unlike_those_of_the_calibration_are_said(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    snn = replace(tiny_snn(), policy=None)
    pictures = np.random.default_rng(0).integers(0, 256, (200, 8, 8), dtype=np.uint8)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(f"like{number:03}.png")
        Image.fromarray(pixels // 16).save(f"unlike{number:03}.png")
    calibration = snn.batch([Path(f"like{number:03}.png") for number in range(200)]).inputs
    labels = torch.arange(200) % 3
    snn.calibrate_exit((calibration, labels), threshold=0.7, engine="float32").save("snn.safetensors")

    def drift(*arguments: str) -> Any:
        return json.loads(run(*arguments, "--json", "--engine", "float32").stdout)["drift"]

    assert drift("like*.png") == {"alarm": False, "p_value": 1.0, "false_alarm_rate": 0.01, "images": 200}
    assert drift("unlike*.png", "--drift-alarm", "0") is None
    assert "unlike" not in caplog.text
    for more, rate, images in (((), 0.01, 200), (("-o", "a.csv", "--drift-alarm", "0.001"), 0.001, 200)):
        found = drift("unlike*.png", *more)
        assert found == {"alarm": True, "p_value": found["p_value"], "false_alarm_rate": rate, "images": images}
        assert f"the images, {images} so far, are unlike those that exits were calibrated on" in caplog.text
    assert run("unlike001.png", "--drift-alarm", "1").exit_code == 2

    # Names on stdin come in time: they are watched on the way, where pictures of one kind come one after the other.
    first = snn.predict(calibration, engine="float32", policy=FixedExit(timesteps=1)).logits_sum.topk(2).values
    order = (first[:, 0] - first[:, 1]).argsort().tolist()
    Path("names").write_text("".join(f"like{number:03}.png\n" for number in order), encoding="utf-8")
    with Path("names").open(encoding="utf-8") as names:
        monkeypatch.setattr("sys.stdin", names)
        seenn.main(["predict", "snn.safetensors", "-", "--json", "--engine", "float32"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["drift"]["alarm"] is True
    snn.save("snn.safetensors")
    assert drift("unlike001.png") is None


@pytest.mark.usefixtures("folder")
def test_a_picture_before_the_network_is_told() -> None:
    done = CliRunner().invoke(seenn, ["predict", "p/3.png", "snn.safetensors"])
    assert done.exit_code == 2
    assert "p/3.png is a picture: name the network first, seenn predict SNN PICTURES" in done.stderr
