"""Every command in this process, on a narrow network: answers, refusals, exit codes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from small_snn import digits_snn, tiny_snn
from torch import Tensor, nn

from seenn import SNN, LIFNeuron, capture, load
from seenn.data import Preprocessing
from seenn.data.encoding import PoissonEncoding
from seenn.errors import OutputError
from seenn.models import build_spiking_model

Seenn = Callable[..., Any]
Checkpoint = Callable[..., Path]

CONVERT = ("convert", "--model", "resnet18", "--ckpt", "ann.pth")


@pytest.fixture
def converted(seenn: Seenn, checkpoint: Checkpoint) -> Any:
    """The outcome of a conversion whose ``snn.safetensors`` is in the current folder."""
    checkpoint()
    return seenn(*CONVERT, "--calibration-images", "64", "--check-images", "100", "--json")


def refused(outcome: Any, code: int, *texts: str) -> None:
    """One clear error, and nothing on stdout."""
    assert outcome.code == code, outcome
    (error,) = (block for block in ("\n" + outcome.err).split("\nerror: ") if block and not block.startswith("\n"))
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    for text in texts:
        assert text in error


def test_convert_answers_with_one_json_object(converted: Any) -> None:
    assert converted.code == 0, converted.err
    answer = json.loads(converted.out)
    assert answer["sites"] == len(answer["per_site"]) == 9
    assert answer["encoders"] == 0
    assert 0 <= answer["ann_accuracy"] <= 1
    assert len(answer["accuracy_per_timestep"]) == 8
    assert {"site", "channels", "threshold_min", "threshold_max", "relative_error"} <= set(answer["per_site"][0])
    assert answer["data"]["spec"] == "digits"


def test_convert_picks_the_fewest_spikes_that_are_good_enough(seenn: Seenn, checkpoint: Checkpoint) -> None:
    checkpoint()
    common = (*CONVERT, "--calibration-images", "64", "--check-images", "50", "--memory", "0.001")
    answer = json.loads(seenn(*common, "--timesteps", "2", "--min-agreement", "0.6", "--json").out)
    assert answer["agreement"] >= 0.6
    picked = answer["conversion"]["neuron"]["max_spikes"], answer["conversion"]["timesteps"]
    assert picked in [(one["levels"], one["timesteps"]) for one in answer["goal"]["tried"]]
    assert picked[1] == 2
    assert all(0 <= site["clipped_unseen"] <= 1 for site in answer["per_site"])
    few = ("--timesteps", "1", "--levels", "1", "--encoder-levels", "1")
    refused(
        seenn(*common, *few, "--min-agreement", "1"), 1, "min_agreement 1.0 is not reached; the best is T = 1 with 1"
    )


def test_exit_target_is_found_and_stored(seenn: Seenn, converted: Any) -> None:
    found = json.loads(seenn("calibrate-exit", "--max-accuracy-drop", "0.05", "--json").out)
    assert found["accuracy"] >= found["full_accuracy"] - 0.05
    shown = json.loads(seenn("inspect", "snn.safetensors", "--json").out)
    assert shown["policy"]["threshold"] == found["threshold"]
    assert shown["timesteps"] == 8


@pytest.mark.parametrize("command", ["evaluate", "calibrate-exit --threshold 0.9", "inspect snn.safetensors"])
def test_missing_network_says_what_to_run_first(command: str, seenn: Seenn) -> None:
    refused(seenn(*command.split()), 1, "there is no spiking network snn.safetensors here", "seenn convert --model")


def test_error_with_json_is_one_object(seenn: Seenn) -> None:
    failure = seenn("evaluate", "--json")
    assert failure.code == 1
    assert json.loads(failure.out)["error"]["type"] == "CheckpointError"
    assert failure.err.startswith("error: there is no spiking network")
    usage = seenn("calibrate-exit", "--threshold", "2", "--json")
    assert usage.code == 2
    assert "threshold is a probability" in json.loads(usage.out)["error"]["message"]


@pytest.mark.parametrize(
    "arguments",
    [
        "demo",
        "train-ann --model resnet18 --model-kwargs channels=(8,8,8,8),layers=(1,1,1,1) --epochs 0.2",
        "train-direct --width 0.25 -T 2 --epochs 0.1",
        "train-policy --limit 64 --epochs 1 --beta-sweep 2",
        "finetune --epochs 0.1 -T 2",
        "add-heads --limit 64",
        "calibrate-exit --target-timesteps 1.5",
        "compare-exits --limit 64 --latency-images 0",
        "evaluate --limit 64",
        "bench --limit 64 --repeats 1",
        "export --to integers",
        "inspect snn.safetensors",
        "doctor",
    ],
)
def test_with_json_one_object_is_on_stdout_and_all_else_on_stderr(
    arguments: str, seenn: Seenn, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits_snn().save("snn.safetensors")
    narrow = ("--model", "resnet18", "--model-kwargs", "channels=(8,8,8,8),layers=(1,1,1,1)")
    monkeypatch.setattr("cli.demo.MODEL", narrow)
    monkeypatch.setattr("cli.demo.EPOCHS", 2)
    command, *others = arguments.replace("demo", "demo").split()
    done = seenn(command, *others, "--json", "--device", "cpu")
    assert done.code == 0, done.err
    assert isinstance(json.loads(done.out), dict)
    assert done.out.startswith("{\n")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("calibrate-exit --threshold 0", "threshold is a probability in (0, 1], got 0.0"),
        ("calibrate-exit --threshold 1.5", "threshold is a probability in (0, 1], got 1.5"),
        ("calibrate-exit --threshold nan", "nan is not a finite number"),
        ("calibrate-exit --max-accuracy-drop nan", "nan is not a finite number"),
        ("calibrate-exit", "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005"),
        ("calibrate-exit --threshold 0.9 --max-accuracy-drop 0.1", "give exactly one of"),
        ("calibrate-exit --threshold 0.9 --risk disagreement", "--risk says what a target bounds, and --threshold is"),
        ("evaluate --batch-size 2000000", "'--batch-size': 2000000 is not in the range 1<=x<=1048576"),
        ("convert --model resnet18", "give the trained weights with --ckpt FILE"),
        ("convert --model resnet18 --pretrained", "name it with --data"),
        ("convert --model resnet18 --ckpt ann.pth -T 0", "0 is not in the range 1<=x<=4096"),
        ("convert --model resnet18 --ckpt ann.pth --percentile 99", "goes with --recipe percentile, not with mmse"),
        ("convert --model resnet18 --ckpt ann.pth --neuron if --levels 4", "if neurons take levels of 1, got 4"),
        ("convert --model resnet18 --ckpt ann.pth --device abacus", "unknown device 'abacus'"),
        ("convert --model resnet18 --ckpt ann.pth -o nowhere/snn.safetensors", "the folder nowhere does not exist"),
        ("convert --model resnet18 --ckpt ann.pth -o ann.pth", "ann.pth says .pth: name it ….safetensors"),
        ("train-ann --model resnet18 -o ann.txt", "ann.txt says .txt: name it ….pth"),
        ("train-ann --model resnet18 --lr nan", "nan is not a finite number"),
        ("train-ann --model resnet18 --model-kwargs depth", "depth"),
        ("evaluate --seed -1", "-1 is not in the range"),
        ("inspect resnet18 --input-size 3x224x224", "'3x224x224' has no commas: write 3,224,224"),
        ("convert", "Missing option '--model'"),
        ("convert --model resnet18 --min-agreement 98", "98.0 is not in the range 0<=x<=1"),
        ("levitate", "No such command 'levitate'"),
    ],
)
def test_wrong_usage(arguments: str, text: str, seenn: Seenn, tmp_path: Path) -> None:
    outcome = seenn(*arguments.split())
    refused(outcome, 2, text)
    assert outcome.err.rstrip().endswith("--help)")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        *(
            (f"{command} --data mnits --split-seed 1", "data 'mnits': unknown data set 'mnits'. Did you mean 'mnist'")
            for command in ("train-ann --model resnet18", "train-direct", "evaluate", "calibrate-exit --threshold 1",
                            "finetune", "add-heads", "compare-exits", "train-policy", "bench", "export --to onnx",
                            "convert --model resnet18 --pretrained")
        ),
        *(
            (f"{command} resnet81 --data npz:none.npz", "unknown model 'resnet81'. Did you mean 'resnet18")
            for command in ("train-ann --model", "train-direct --model", "train-policy --model", "bench --ann",
                            "convert --pretrained --model")
        ),
        ("inspect resnet81", "unknown model 'resnet81'. Did you mean 'resnet18"),
        ("inspect nosuchpackage:net", "cannot import 'nosuchpackage' for the model"),
        ("inspect torch.nn:Linaer", "'torch.nn' has no 'Linaer'. Did you mean 'Linear'"),
        *(
            (f"{command} --model-kwargs chanels=8", "unexpected keyword argument 'chanels'")
            for command in ("train-ann --model resnet18", "inspect resnet18", "train-policy", "bench --ann resnet18",
                            "train-direct --model resnet18", "inspect torchvision:resnet18")
        ),
        ("train-direct --model-kwargs chanels=8", "spiking_small takes no --model-kwargs: leave it out"),
        ("export --to nir --reader nosr --data npz:none.npz", "unknown reader 'nosr' of nir. Did you mean 'norse'"),
        ("evaluate --plugin nosuchplugin", "the plugin nosuchplugin cannot be imported"),
        ("evaluate --data digits:5", "digits takes no path"),
        ("evaluate --group-by 1", "has nothing to group by '1'"),
    ],
)  # fmt: skip
def test_a_name_that_nothing_has_is_wrong_usage_and_is_said_before_data_are_read(
    arguments: str, text: str, seenn: Seenn
) -> None:
    snn = tiny_snn()
    replace(snn, manifest={**snn.manifest, "data": {"spec": "digits"}}).save("snn.safetensors")
    refused(seenn(*arguments.split()), 2, text)


def test_files_that_are_not_there_are_said_before_data_are_read(seenn: Seenn, checkpoint: Checkpoint) -> None:
    checkpoint()
    tiny_snn().save("snn.safetensors")
    refused(seenn("convert", "--model", "none.onnx", "--data", "npz:none.npz"), 1, "none.onnx: no such file")
    bench = seenn("bench", "--ann", "resnet18", "--ckpt", "none.pth", "--data", "npz:none.npz")
    refused(bench, 1, "none.pth: no such file")


def test_too_few_images_to_calibrate_are_said_before_the_model_is_loaded(
    seenn: Seenn, caplog: pytest.LogCaptureFixture
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (100, 8, 8)).astype(np.uint8)
    np.savez("few.npz", images=pixels, labels=np.arange(100) % 4)
    few = "npz:few.npz has 100 images, of which 10 calibrate: too few, at least 16 are needed. Bring 160 images or more"
    refused(seenn("convert", "--model", "local-dir:none", "--pretrained", "--data", "npz:few.npz"), 1, few)
    arguments = ("--epochs", "1", "--batch-size", "16", "--model-kwargs", "channels=(8,8,8,8),layers=(1,1,1,1)")
    trained = seenn("train-ann", "--model", "resnet18", "--data", "npz:few.npz", *arguments)
    assert trained.code == 0, trained.err
    assert f"{few} in all, which convert will ask for" in caplog.text


def test_report_folder_is_checked_before_the_work(seenn: Seenn, converted: Any) -> None:
    Path("notes.txt").write_text("mine")
    refused(seenn("evaluate", "--report", "notes.txt"), 2, "notes.txt is not a folder")
    assert Path("notes.txt").read_text() == "mine"


def test_output_that_cannot_be_written_leaves_nothing(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint()
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o500)
    name = closed / ("n" * 300)  # the superuser may write there, but the name is too long for the disk
    outcome = seenn(*CONVERT, "--calibration-images", "16", "--check-images", "10", "-o", str(name))
    assert outcome.code in (1, 2)
    assert "error: " in outcome.err
    assert "not writable" in outcome.err or "cannot be written" in outcome.err
    assert list(closed.iterdir()) == []


def test_a_network_whose_report_fails_is_said_to_be_whole(
    seenn: Seenn, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OutputError("cannot write seenn-report: No space left on device")

    checkpoint()
    monkeypatch.setattr("seenn.analysis.report.conversion.write_conversion", full)
    images = ("--calibration-images", "16", "--check-images", "10", "-T", "1")
    refused(seenn(*CONVERT, *images), 1, "No space left on device; snn.safetensors is written and whole: use it")
    assert len(load("snn.safetensors").network.sites) > 0


def test_every_figure_counts_the_initial_steps(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint()

    def found(*arguments: str) -> Any:
        done = seenn(*arguments, "--json", "--device", "cpu")
        assert done.code == 0, done.err
        return json.loads(done.out)

    images = ("--calibration-images", "16", "--check-images", "32")
    made = found(*CONVERT, "--correction", "cos", "-T", "2", *images)
    assert (made["conversion"]["prepass"], made["conversion"]["timesteps"]) == (8, 2)
    assert made["conversion"]["neuron"]["kind"] == "if"
    exits = found("calibrate-exit", "--target-timesteps", "9.5")
    assert 9 <= exits["mean_timesteps"] <= 9.5
    figures = found("evaluate", "--limit", "64")
    assert (figures["initial_steps"], figures["timesteps"]) == (8, 2)
    assert 9 <= figures["mean_timesteps"] <= 10
    assert figures["oracle_aet"] >= 9
    assert (
        "Every image takes 8 steps before the first that answers" in (tmp_path / "seenn-report/report.md").read_text()
    )
    compared = found("compare-exits", "--policy", "confidence", "--limit", "64", "--latency-images", "0")["policies"]
    steps = {policy["name"]: policy["timesteps"]["mean"] for policy in compared}
    assert steps["every step"] == 10
    assert min(steps.values()) >= 9
    refused(seenn(*CONVERT, "--correction", "cos", "--neuron", "signed"), 2, "cos is for if neurons, got signed")
    refused(seenn(*CONVERT, "--prepass", "4"), 2, "goes with corrections that start from it, such as cos and srp")
    refused(seenn("finetune", "snn.safetensors"), 1, "initial steps")
    refused(seenn("evaluate", "--engine", "int8"), 1, "initial steps")


@pytest.mark.parametrize("command", ["train-ann --epochs 1", "inspect"])
def test_unknown_model_has_its_nearest_names(command: str, seenn: Seenn, tmp_path: Path) -> None:
    name = ["resnet81"] if command == "inspect" else ["--model", "resnet81"]
    refused(seenn(*command.split(), *name), 2, "unknown model 'resnet81'. Did you mean", "'resnet18")
    assert list(tmp_path.iterdir()) == []


def test_a_transformer_converts_as_typed_and_not_strictly(seenn: Seenn) -> None:
    arguments = ("inspect", "test_vit", "--model-kwargs", "depth=1", "--image-size", "3,160,160")
    strict = seenn(*arguments, "--strict")
    assert strict.code == 1
    assert "softmax: neither linear over time nor spikes" in strict.out
    typed = seenn(*arguments, "--json")
    assert typed.code == 0, typed.err
    answer = json.loads(typed.out)
    assert answer["problems"] == []
    assert answer["spiking_mac_share"] == 1.0
    assert set(answer["running_means"].values()) == {"softmax", "layer_norm", "gelu"}
    refused(seenn(*arguments, "--analog-islands"), 2, "--analog-islands is not needed any more: every value that is")


def export(net: nn.Module, images: Tensor, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own deprecation
        torch.onnx.export(net, (images,), path, dynamo=False)


@pytest.mark.parametrize(("layer", "code"), [(nn.ReLU(), 0), (nn.Sigmoid(), 1)])
def test_inspection_of_an_onnx_file_shows_what_would_become_of_it(
    layer: nn.Module, code: int, seenn: Seenn, tmp_path: Path
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), layer, nn.Flatten(), nn.Linear(16, 5)).eval()
    export(net, torch.randn(1, 3, 4, 4), tmp_path / "net.onnx")
    table, answer = seenn("inspect", "net.onnx", "--strict"), seenn("inspect", "net.onnx", "--strict", "--json")
    assert table.code == answer.code == code, table.err
    found = json.loads(answer.out)
    assert found["model"]["name"] == "net.onnx"
    assert found["input_shape"] == [3, 4, 4]
    assert [node["op"] for node in found["nodes"]] == ["conv2d", "sigmoid" if code else "relu", "flatten", "linear"]
    assert (found["sites"], found["neurons"]) == ((0, 16) if code else (1, 16))
    assert ("cannot be converted; 1 problem stands in the way" if code else "can be converted\n") in table.out


def test_a_network_in_which_nothing_spikes_says_so(seenn: Seenn, tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 10, 8), nn.GELU(), nn.Flatten()).eval()
    export(net, torch.randn(1, 1, 8, 8), tmp_path / "net.onnx")
    arguments = ("convert", "--model", "net.onnx", "--data", "digits", "--calibration-images", "16",
                 "--check-images", "20", "--timesteps", "2")  # fmt: skip
    told = seenn(*arguments)
    assert told.code == 0, told.err
    assert "WARNING: nothing in this network spikes, and it saves nothing over the ANN" in told.out
    answer = json.loads(seenn(*arguments, "--json").out)
    assert answer["spiking_mac_share"] == answer["neurons"] == 0


def test_a_missing_onnx_file_cannot_be_inspected(seenn: Seenn) -> None:
    refused(seenn("inspect", "none.onnx"), 1, "none.onnx: no such file")


def no_snn(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} <= {"ann.pth", "data.npz", "other.pth"}


def test_checkpoint_of_another_architecture(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint(conv1__weight=torch.zeros(64, 1, 5, 5), extra__weight=torch.zeros(2))
    refused(seenn(*CONVERT), 1, "extra.weight", "conv1.weight (64×1×5×5 float32, expected 64×1×3×3 float32)")
    assert no_snn(tmp_path)


def test_weights_that_are_not_finite(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint(fc__bias=torch.full((10,), float("nan")))
    refused(seenn(*CONVERT), 1, "NaN or infinite", "fc.bias (10 of 10)")
    assert no_snn(tmp_path)


def test_site_that_is_never_active(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint(bn1__weight=torch.zeros(64), bn1__bias=torch.full((64,), -1.0))
    refused(seenn(*CONVERT, "--force"), 1, "site 'act1' is never active on the calibration images")
    assert no_snn(tmp_path)


def test_too_few_calibration_images(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint()
    refused(seenn(*CONVERT, "--calibration-images", "15"), 1, "15 calibration images are too few")
    refused(seenn(*CONVERT, "--calibration-images", "9999"), 1, "9999 calibration images were asked for", "at most")
    assert no_snn(tmp_path)


def test_truncated_and_hostile_files(seenn: Seenn, checkpoint: Checkpoint, converted: Any, tmp_path: Path) -> None:
    path = checkpoint()
    path.write_bytes(path.read_bytes()[:5000])
    refused(seenn(*CONVERT), 1, "ann.pth: not a torch checkpoint, or damaged or truncated")
    torch.save({"fc.weight": torch.zeros(2), "payload": print}, path)
    refused(seenn(*CONVERT), 1, "ann.pth: the file pickles", "never runs")
    network = tmp_path / "snn.safetensors"
    network.write_bytes(network.read_bytes()[:-100])
    refused(seenn("evaluate"), 1, "snn.safetensors is not a readable safetensors file")


def arrays(n: int = 60, classes: int = 3) -> dict[str, Any]:
    pixels = np.random.default_rng(0).integers(0, 255, (n, 8, 8), np.uint8)
    return {"images": pixels, "labels": np.arange(n) % classes}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"images": np.zeros((0, 8, 8), np.uint8), "labels": np.zeros(0, np.int64)}, "data.npz"),
        ({"images": np.zeros((60, 2, 2, 8, 8), np.uint8)}, "have shape [60, 2, 2, 8, 8], expected [N, C, H, W]"),
        ({"labels": np.arange(59) % 3}, "59"),
        ({"labels": np.full(60, -1)}, "-1"),
        ({"labels": np.full(60, 7)}, "labels go up to 7"),
    ],
    ids=["empty", "shape", "lengths", "negative label", "classes without images"],
)
def test_bad_data(change: dict[str, Any], text: str, seenn: Seenn, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **{**arrays(), **change})
    refused(seenn("train-ann", "--model", "resnet18", "--data", "npz:data.npz", "--epochs", "1"), 1, text)
    assert no_snn(tmp_path)


def test_data_with_more_classes_than_the_model(seenn: Seenn, checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint()
    np.savez(tmp_path / "data.npz", **arrays(240, 12))
    refused(seenn(*CONVERT, "--data", "npz:data.npz"), 1, "the model knows 10 classes, npz:data.npz has 12")
    assert no_snn(tmp_path)


def test_image_files_reach_a_network_as_it_was_trained_to_see_them(seenn: Seenn, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = build_spiking_model("spiking_small", LIFNeuron, in_chans=1, num_classes=3, image_size=(8, 8), width=0.25)
    network = capture(module.eval(), torch.zeros(2, 1, 8, 8))
    preprocessing = Preprocessing(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    encoding = PoissonEncoding(timesteps=3, seed=4)
    manifest: dict[str, Any] = {"encoding": encoding.to_json(), "timesteps": 3}
    snn = SNN(network=network, preprocessing=preprocessing, manifest=manifest)
    snn.save("snn.safetensors")
    Image.fromarray(np.arange(0, 256, 4, np.uint8).reshape(8, 8)).save("a.png")
    done = seenn("predict", "snn.safetensors", "a.png", "--json")
    assert done.code == 0, done.err
    (found,) = json.loads(done.out)["predictions"]
    expected = snn.predict(Path("a.png"))
    assert (found["label"], found["exit_timestep"]) == (int(expected.labels), 3)
    assert found["confidence"] == pytest.approx(float(expected.confidence))
    replace(snn, manifest={**manifest, "data": {"frames": 3}}).save("snn.safetensors")
    refused(seenn("predict", "snn.safetensors", "a.png"), 1, "reads recordings of events, not image files")
