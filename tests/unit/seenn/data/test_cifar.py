"""CIFAR-10 and CIFAR-100: the published pickles, behind torchvision's md5."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision import datasets

from seenn.data import load_data
from seenn.errors import DataError

Part = tuple[NDArray[np.uint8], list[int]]
FOLDERS = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}


def part(count: int, num_classes: int, seed: int) -> Part:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), (np.arange(count) % num_classes).tolist()


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small files in the published formats, with their md5 sums in torchvision's tables."""

    def dump(name: str, file: str, content: dict[str, object]) -> list[str]:
        path = tmp_path / FOLDERS[name] / file
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content))
        return [file, hashlib.md5(path.read_bytes()).hexdigest()]

    def publish(name: str, sums: list[list[str]], meta: list[str]) -> None:
        kind = getattr(datasets, name)
        monkeypatch.setattr(kind, "train_list", sums[:-1])
        monkeypatch.setattr(kind, "test_list", sums[-1:])
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": meta[1]})

    sums = []
    for seed, file in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels, labels = part(12, 10, seed)
        sums.append(dump("CIFAR10", file, {"data": pixels, "labels": labels}))
    publish("CIFAR10", sums, dump("CIFAR10", "batches.meta", {"label_names": [f"class{n}" for n in range(10)]}))
    sums = []
    for seed, (file, count) in enumerate({"train": 240, "test": 100}.items()):
        pixels, fine = part(count, 100, seed)
        coarse = [label // 5 for label in fine]
        sums.append(dump("CIFAR100", file, {"data": pixels, "fine_labels": fine, "coarse_labels": coarse}))
    publish("CIFAR100", sums, dump("CIFAR100", "meta", {"fine_label_names": [f"fine{n}" for n in range(100)]}))
    return tmp_path


def test_images_are_planes_and_the_test_part_keeps_its_order(write: Path) -> None:
    splits = load_data("cifar10", data_dir=str(write))
    assert (len(splits.train), len(splits.calibration), len(splits.exit), len(splits.test)) == (50, 2, 8, 12)
    assert splits.class_names[3] == "class3"
    pixels, labels = part(12, 10, seed=5)
    assert splits.test.labels.tolist() == labels
    assert torch.equal(splits.test.raw(7), torch.from_numpy(pixels[7].reshape(3, 32, 32)))
    assert splits.test.images().shape == (12, 3, 32, 32)


def test_cifar100_takes_the_fine_label(write: Path) -> None:
    splits = load_data("cifar100", data_dir=str(write))
    assert splits.test.labels.tolist() == list(range(100))
    assert splits.class_names[99] == "fine99"
    assert torch.equal(splits.test.raw(99), torch.from_numpy(part(100, 100, 1)[0][99].reshape(3, 32, 32)))


def test_pickle_of_another_md5_is_never_opened(write: Path) -> None:
    proof = write / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    (write / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match=r"files are missing, or differ from the published ones .*--download"):
        load_data("cifar10", data_dir=str(write))
    assert not proof.exists()


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
@pytest.mark.parametrize("file", ["data_batch_2", "test_batch", "batches.meta"])
def test_missing_and_truncated_files_are_refused(write: Path, damage: object, file: str) -> None:
    damage(write / "cifar-10-batches-py" / file)  # type: ignore[operator]
    with pytest.raises(DataError, match=r"cifar-10-batches-py: files are missing, or differ from the published ones"):
        load_data("cifar10", data_dir=str(write))


def test_nothing_found_says_where_was_looked(tmp_path: Path) -> None:
    message = f"looked in {tmp_path}/cifar-100-python; give .*--data-dir.*--download"
    with pytest.raises(DataError, match=message):
        load_data("cifar100", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="cifar10: files not found; looked in no folder"):
        load_data("cifar10")


def test_download_that_fails_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")  # the discard port
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=r"cifar-10-batches-py: download failed \(.*fetch them again"):
        load_data("cifar10", data_dir=str(tmp_path), download=True)
