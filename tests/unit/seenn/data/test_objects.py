"""Data that a program holds: read as they are, or refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from converter import convert
from seenn.data import Numbers, Preprocessing, as_split, load_data, told
from seenn.data.imagenet import IMAGENET
from seenn.errors import DataError

FLOATS, CLASSES = torch.randn(60, 2, 5, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
PIXELS = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3), dtype=np.uint8)


class Pictures(Dataset[Any]):
    """As torchvision's: PIL images, ``targets`` and ``classes``."""

    classes = ("cat", "dog", "emu")

    def __init__(self, offset: int = 0) -> None:
        self.targets, self.offset, self.read = CLASSES.tolist(), offset, 0

    def __len__(self) -> int:
        return 60

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        return Image.fromarray(PIXELS[index]), (self.targets[index] + self.offset) % 3


class Columns(Dataset[Any]):
    """As of Hugging Face: dicts, ``column_names`` and ``features``."""

    column_names: ClassVar = ["image", "label"]
    features: ClassVar = {"label": SimpleNamespace(names=["a", "b", "c"])}

    def __len__(self) -> int:
        return 60

    def __getitem__(self, key: Any) -> Any:
        return CLASSES.tolist() if key == "label" else {"image": Image.fromarray(PIXELS[key]), "label": key % 3}


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ((FLOATS, CLASSES), (2, 5)),
        ((FLOATS.numpy(), CLASSES.numpy()), (2, 5)),
        (TensorDataset(FLOATS, CLASSES), (2, 5)),
        (DataLoader(TensorDataset(FLOATS, CLASSES), batch_size=7, shuffle=True), (2, 5)),
        (Pictures(), (3, 6, 6)),
        (Columns(), (3, 6, 6)),
        ((PIXELS, CLASSES), (3, 6, 6)),
    ],
    ids=["tensors", "arrays", "dataset", "loader", "pictures", "columns", "pixels"],
)
def test_all_samples_are_dealt_once_with_their_labels(data: Any, shape: tuple[int, ...]) -> None:
    assert told(data).labels is not None
    splits = load_data(data)
    parts = [splits.train, splits.calibration, splits.exit, splits.test]
    assert [len(part) for part in parts] == [30, 6, 12, 12]
    assert splits.preprocessing.shape == shape
    assert splits.spec.startswith("python:")
    known = {FLOATS[i].numpy().tobytes(): i % 3 for i in range(60)}
    if len(shape) == 3:
        known = {PIXELS[i].transpose(2, 0, 1).tobytes(): i % 3 for i in range(60)}
    found = [(part.raw(i).numpy().tobytes(), int(part.labels[i])) for part in parts for i in range(len(part))]
    assert dict(found) == known


def test_class_names_are_those_that_the_data_says() -> None:
    assert load_data(Pictures()).class_names == ("cat", "dog", "emu")
    assert load_data(Columns()).class_names == ("a", "b", "c")
    assert load_data(Subset(Pictures(), range(30))).class_names == ("cat", "dog", "emu")


def test_listed_labels_spare_reading_all_samples_and_are_not_believed_blindly() -> None:
    plain, moved = Pictures(), Pictures(offset=1)
    assert torch.equal(as_split(plain, "test", Preprocessing(channels=3, height=6, width=6, mean=(0.5,) * 3, std=(0.5,) * 3)).labels, CLASSES)  # fmt: skip # noqa: E501
    assert plain.read < 10
    assert sorted(torch.cat([load_data(moved).train.labels]).bincount().tolist()) == [10, 10, 10]
    assert moved.read > 60


def test_a_sampler_of_some_samples_is_kept_to() -> None:
    chosen = list(range(0, 60, 2))
    loader = DataLoader(TensorDataset(FLOATS, CLASSES), sampler=SubsetRandomSampler(chosen))
    split = as_split(loader, "exit")
    assert torch.equal(split.labels, CLASSES[chosen])
    assert torch.equal(split.batch().inputs, FLOATS[chosen])
    assert split.preprocessing == Numbers(shape=(2, 5))


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


class Noise(Pictures):
    def __getitem__(self, index: int) -> Any:
        return torch.randn(3, 4, 4), 0


class Unlabelled(Pictures):
    def __getitem__(self, index: int) -> Any:
        return Image.fromarray(PIXELS[index])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (DataLoader(Stream()), DataError, "there are no samples: the list is empty"),
        (
            DataLoader(Stream(), collate_fn=list),
            DataError,
            "so that its samples cannot be told apart: give its data set",
        ),
        (
            DataLoader(TensorDataset(FLOATS, CLASSES), sampler=WeightedRandomSampler([1.0] * 60, 60)),
            DataError,
            "the DataLoader has a WeightedRandomSampler",
        ),
        (DataLoader(TensorDataset(FLOATS, CLASSES), collate_fn=list), DataError, "a collate_fn of its own"),
        (Noise(), DataError, "gives another sample each time: take random changes out of its transform"),
        (Unlabelled(), DataError, r"the data are samples without labels: give both, a pair \(samples, labels\)"),
        (TensorDataset(CLASSES, CLASSES), DataError, "a sample is torch.int64: expected a picture"),
        (TensorDataset(FLOATS[:0], CLASSES[:0]), DataError, "the data set is empty"),
        (3, TypeError, "data is an int: expected the name of a data set"),
    ],
)
def test_what_cannot_be_split_is_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_data(data)


class Photographs(Pictures):
    """Of several sizes, gray and in colour."""

    def __getitem__(self, index: int) -> Any:
        picture = Image.fromarray(PIXELS[index]).resize((6 + index % 2, 6))
        return picture.convert("L" if index % 3 else "RGB"), self.targets[index]


def test_pictures_of_several_sizes_are_prepared_as_photographs_are() -> None:
    splits = load_data(Photographs())
    assert splits.preprocessing == IMAGENET
    assert splits.train.batch(limit=3).inputs.shape == (3, 3, 224, 224)


def test_pictures_need_to_be_told_how_to_be_prepared() -> None:
    with pytest.raises(DataError, match="the exit data are pictures, and nothing says how to prepare them"):
        as_split(Pictures(), "exit")


def test_a_folder_of_hugging_face_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets: pip install datasets"):
        load_data(f"hf:{tmp_path}")


def test_a_network_takes_data_sets_for_conversion_exits_and_figures() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    samples = torch.randn(300, 10)
    labels = net(samples).argmax(1)
    parts = [TensorDataset(samples[start : start + 100], labels[start : start + 100]) for start in (0, 100, 200)]
    snn = convert(net, DataLoader(parts[0], batch_size=32, shuffle=True), timesteps=4)
    assert snn.manifest["check"]["ann_accuracy"] == 1.0
    same = convert(net, (samples[:100].numpy(), labels[:100]), timesteps=4)
    assert same.network.graph.fingerprint() == snn.network.graph.fingerprint()
    calibrated = snn.calibrate_exit(DataLoader(parts[1]), threshold=0.9)
    found = calibrated.evaluate(parts[2])
    assert (found.samples, found.ann_accuracy) == (100, 1.0)
    for plain in (samples[:100].numpy(), list(samples[:100]), [row.numpy() for row in samples[:100]]):
        assert convert(net, plain, timesteps=4).manifest["check"]["ann_accuracy"] is None
