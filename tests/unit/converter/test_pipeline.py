"""A model and data in, an SNN with its evidence out: what calibrates, what checks, and what is recorded."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import seenn
from converter import ConvertConfig, convert
from converter.load import LoadedModel, ModelSpec, build_model
from converter.load.weights import write_weights
from converter.pipeline import _share
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, load_data
from seenn.errors import CalibrationError, DataError
from seenn.runtime import Session, make_engine

SMALL: dict[str, Any] = {"channels": (8, 8, 8, 8), "layers": (1, 1, 1, 1), "stem_width": 8}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> DataSplits:
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("pipeline") / "data.npz"
    np.savez(path, images=random.integers(0, 255, (400, 8, 8)).astype(np.uint8), labels=np.arange(400) % 4)
    return load_data(f"npz:{path}")


@pytest.fixture
def module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()


def test_splits_calibrate_on_one_and_check_on_another(module: nn.Module, splits: DataSplits, tmp_path: Path) -> None:
    snn = convert(module, splits, timesteps=4, check_images=30)
    record = snn.manifest
    assert record["source"] == {"name": "module:Sequential"}
    assert record["data"] == splits.manifest()
    assert record["class_names"] == list(splits.class_names)
    assert (record["timesteps"], record["conversion"]["neuron"]["kind"]) == (4, "signed")
    assert record["calibration_images"] == len(splits.calibration)
    assert (record["check"]["split"], record["check"]["samples"]) == ("exit", 30)
    assert len(record["check"]["accuracy_per_timestep"]) == 4
    assert record["check"]["float64_difference"] < 1e-12
    assert [site["site"] for site in record["per_site"]] == ["1"]
    assert record["per_site"][0]["relative_error"] < 0.2
    assert record["spiking"]["spiking_mac_share"] == 1.0
    json.dumps(record, allow_nan=False)
    assert snn.preprocessing == splits.preprocessing
    snn.save(tmp_path / "snn.safetensors")
    images = splits.test.batch(limit=8).inputs
    loaded = seenn.load(tmp_path / "snn.safetensors")
    assert torch.equal(loaded.predict(images).labels, snn.predict(images).labels)


def test_a_model_by_name_brings_its_weights_and_their_data(splits: DataSplits, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ann = build_model(ModelSpec(name="resnet18", kwargs=SMALL, num_classes=4), (1, 8, 8))
    record = {"model": ann.record, "preprocessing": splits.preprocessing.to_json(), "data": splits.manifest()}
    write_weights(tmp_path / "ann.pth", ann.module.state_dict(), record)
    snn = convert("resnet18", weights=tmp_path / "ann.pth", correction="none", timesteps=2, check_images=8)
    assert (snn.manifest["source"]["name"], snn.manifest["source"]["file"]) == ("resnet18", "ann.pth")
    assert snn.manifest["data"]["fingerprints"] == splits.manifest()["fingerprints"]
    again = convert("resnet18", splits, weights=tmp_path / "ann.pth", correction="none", timesteps=2, check_images=8)
    assert again.network.graph.fingerprint() == snn.network.graph.fingerprint()


@pytest.mark.parametrize(
    ("count", "options", "calibrate", "held_out"),
    [
        (50, {}, 40, 10),
        (18, {}, 16, 2),
        (50, {"check_images": 4}, 46, 4),
        (50, {"calibration_images": 20}, 20, 30),
        (900, {"check_images": 100}, 512, 100),
    ],
)
def test_images_are_divided_into_those_that_calibrate_and_those_held_out(
    count: int, options: dict[str, int], calibrate: int, held_out: int, module: nn.Module
) -> None:
    images = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    record = convert(module, images, timesteps=2, **options).manifest
    assert record["calibration_images"] == calibrate
    assert (record["check"]["split"], record["check"]["samples"]) == ("held out", held_out)
    assert record["check"]["ann_accuracy"] is None
    assert "data" not in record


def test_labels_of_a_batch_or_a_split_give_accuracies(module: nn.Module, splits: DataSplits) -> None:
    batch = splits.train.batch(limit=60)
    assert batch.labels is not None
    labels = module(batch.inputs).argmax(-1)
    assert convert(module, Batch(batch.inputs, labels), timesteps=2).manifest["check"]["ann_accuracy"] == 1.0
    found = convert(module, splits.train, timesteps=2, check_images=7)
    assert found.manifest["check"]["samples"] == 7
    assert found.preprocessing == splits.preprocessing


@pytest.mark.parametrize("kind", ["pair", "arrays", "data set", "batch", "images alone"])
def test_data_sorted_by_class_calibrate_and_check_on_every_class(kind: str, module: nn.Module) -> None:
    images = torch.randn(1200, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    module[3].bias.data -= module(images).mean(0)
    answers = module(images).argmax(1)
    order = answers.argsort(stable=True)
    images, labels = images[order].detach(), answers[order]
    data = {
        "pair": (images, labels),
        "arrays": (images.numpy(), labels.numpy()),
        "data set": TensorDataset(images, labels),
        "batch": Batch(images, labels),
        "images alone": images,
    }[kind]
    shares = _share(data, None, None, 1000)
    calibrating = shares.calibration.first(len(shares.calibration))
    checking = torch.cat([batch.inputs for batch in shares.check(64)])
    assert (len(calibrating), len(checking)) == (512, 240)
    assert len({*calibrating.flatten(1)[:, 0].tolist()} & {*checking.flatten(1)[:, 0].tolist()}) == 0
    expected = labels.bincount(minlength=4) / 1200
    for part in (calibrating, checking):
        found = module(part).argmax(1).bincount(minlength=4) / len(part)
        assert (found - expected).abs().max() < (0.15 if kind == "images alone" else 0.07)
    assert torch.equal(_share(data, None, None, 1000).calibration.first(512), calibrating)
    snn = convert(module, data, timesteps=2)
    assert snn.manifest["check"]["ann_accuracy"] == (None if kind == "images alone" else 1.0)


def test_labels_of_more_classes_than_outputs_are_refused_as_in_an_evaluation(module: nn.Module) -> None:
    images = torch.randn(80, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = module(images).argmax(1)
    snn = convert(module, (images, labels), timesteps=2)
    labels[7] = 4
    message = "has 5 classes, and the (model|network) knows 4: name data of its own classes .*, number labels from 0"
    with pytest.raises(DataError, match=message):
        convert(module, (images, labels), timesteps=2)
    with pytest.raises(DataError, match=message):
        snn.evaluate((images.flip(3), labels))


def test_without_held_out_images_there_is_no_check(module: nn.Module, caplog: pytest.LogCaptureFixture) -> None:
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with caplog.at_level(logging.WARNING):
        record = convert(module, images, timesteps=2).manifest
    assert "all 16 images calibrate, and none is left to check the conversion on" in caplog.text
    assert (record["check"]["samples"], record["check"]["agreement"]) == (0, None)
    assert record["per_site"][0]["relative_error"] is None


def test_the_check_runs_on_the_session_that_is_handed_in(module: nn.Module, splits: DataSplits) -> None:
    made: list[str] = []

    def session(network: SpikingNetwork) -> Session:
        engine = make_engine("float32", network, timesteps=2)
        made.append(engine.name)
        return Session(engine, None, 2)

    check = convert(module, splits, timesteps=2, session=session).manifest["check"]
    assert made == ["float32"]
    assert check["diverged"] is None


def with_frames(splits: DataSplits) -> Batch:
    return Batch(torch.rand(2, 40, 1, 8, 8), is_sequence=True)


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            lambda s: s,
            {"calibration_images": 999},
            r"999 .* were asked for .* has \d+: ask for at most",
        ),
        (
            lambda s: s,
            {"calibration_images": 12},
            r"12 .* too few: .* at least 16, better 256",
        ),
        (lambda s: s.exit.batch(limit=12), {}, "12 calibration images are too few"),
        (with_frames, {}, "comes as frames over time, .* `seenn train-direct`"),
        (lambda s: torch.zeros(3, 8, 8), {}, "3 calibration images are too few"),
    ],
)
def test_data_that_cannot_calibrate_are_refused(
    data: Any, options: dict[str, int], message: str, module: nn.Module, splits: DataSplits
) -> None:
    with pytest.raises(CalibrationError, match=message):
        convert(module, data(splits), **options)


def test_no_data_is_taken_where_none_is_given_or_recorded(module: nn.Module) -> None:
    with pytest.raises(CalibrationError, match="nothing records the data of this model: give images, or a data set"):
        convert(module)


def test_data_of_another_model_are_refused(splits: DataSplits) -> None:
    for classes, channels, message in ((4, 2, "takes inputs of 2 channels"), (2, 1, "knows 2 classes, .* has 4")):
        loaded = build_model(ModelSpec(name="resnet18", kwargs=SMALL, num_classes=classes, in_chans=channels))
        with pytest.raises(CalibrationError, match=message):
            convert(loaded, splits)


def test_numbers_of_another_kind_are_told_as_such() -> None:
    body = nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(24, 3)).eval()
    loaded = LoadedModel(body, ModelSpec(name="ecg", in_chans=2, num_classes=3), None, {})
    signals, labels = torch.randn(40, 2, 8), torch.arange(40) % 3
    with pytest.raises(
        CalibrationError, match=r"prepared with 8: store samples with their channels first, \[N, C, …\]"
    ):
        convert(loaded, (signals.transpose(1, 2), labels))
    with pytest.raises(CalibrationError, match="gives 3 numbers, the given split has 2 a sample") as caught:
        convert(loaded, (signals, torch.randn(40, 2)), task="values")
    assert "--classes" not in str(caught.value)


def test_a_model_that_makes_a_channel_of_vectors_takes_them() -> None:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Unflatten(1, (1, 12)), nn.Conv1d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(40, 3)).eval()
    loaded = LoadedModel(body, ModelSpec(name="sound", in_chans=1, num_classes=3), None, {})
    assert convert(loaded, torch.randn(64, 12), timesteps=2).network.input_shape == (12,)


def test_arguments_that_do_not_go_together_are_refused(module: nn.Module, splits: DataSplits) -> None:
    with pytest.raises(ValueError, match="give config, or timesteps as options, not both"):
        convert(module, splits, ConvertConfig(), timesteps=2)
    with pytest.raises(ValueError, match="weights go with a model by name"):
        convert(module, splits, weights="ann.pth")
    with pytest.raises(TypeError, match=r"whole numbers, an array of int64, .* pixels with preprocessing="):
        convert(module, [1, 2])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"model is a function; expected a torch.nn.Module or the name of a model"):
        convert(lambda images: images, splits)  # type: ignore[arg-type]


def test_the_model_is_left_as_it_was(module: nn.Module, splits: DataSplits) -> None:
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    module.train()
    convert(module, splits, timesteps=2)
    assert module.training
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
