"""CIFAR-10 and CIFAR-100: the binary records, and the Python version behind torchvision's md5."""

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

Part = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def part(count: int, num_classes: int, seed: int) -> Part:
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, 3072), dtype=np.uint8), np.arange(count, dtype=np.uint8) % num_classes


def write_binary10(data_dir: Path) -> Path:
    folder = data_dir / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for seed, name in enumerate([*(f"data_batch_{n}.bin" for n in range(1, 6)), "test_batch.bin"]):
        pixels, labels = part(12, 10, seed)
        (folder / name).write_bytes(np.column_stack([labels, pixels]).tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(f"class{n}" for n in range(10)) + "\n\n")
    return folder


def write_python10(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The published pickles, with their md5 sums in torchvision's tables."""
    folder = data_dir / "cifar-10-batches-py"
    folder.mkdir(parents=True)

    def dump(name: str, content: dict[str, object]) -> list[str]:
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    sums = []
    for seed, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        pixels, labels = part(12, 10, seed)
        sums.append(dump(name, {"data": pixels, "labels": labels.tolist()}))
    meta = dump("batches.meta", {"label_names": [f"class{n}" for n in range(10)]})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", sums[5:])
    monkeypatch.setattr(datasets.CIFAR10, "meta", datasets.CIFAR10.meta | {"md5": meta[1]})
    return folder


def test_binary_records_are_label_then_planes(tmp_path: Path) -> None:
    write_binary10(tmp_path)
    splits = load_data("cifar10", data_dir=str(tmp_path))
    assert (len(splits.train), len(splits.calibration), len(splits.exit), len(splits.test)) == (50, 2, 8, 12)
    assert splits.class_names[3] == "class3"
    pixels, labels = part(12, 10, seed=5)
    assert splits.test.labels.tolist() == labels.tolist()
    assert torch.equal(splits.test.raw(7), torch.from_numpy(pixels[7].reshape(3, 32, 32)))
    assert splits.test.images().shape == (12, 3, 32, 32)


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for seed, (name, count) in enumerate({"train.bin": 240, "test.bin": 100}.items()):
        pixels, fine = part(count, 100, seed)
        (folder / name).write_bytes(np.column_stack([fine // 5, fine, pixels]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(f"fine{n}" for n in range(100)))
    splits = load_data("cifar100", data_dir=str(tmp_path))
    assert splits.test.labels.tolist() == list(range(100))
    assert splits.class_names[99] == "fine99"
    assert torch.equal(splits.test.raw(99), torch.from_numpy(part(100, 100, 1)[0][99].reshape(3, 32, 32)))


def test_python_version_holds_the_same_data_as_the_binary_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_python10(tmp_path / "python", monkeypatch)
    write_binary10(tmp_path / "binary")
    python, binary = (load_data("cifar10", data_dir=str(tmp_path / kind)) for kind in ("python", "binary"))
    assert python.manifest()["fingerprints"] == binary.manifest()["fingerprints"]
    assert python.class_names == binary.class_names


def test_pickle_of_another_md5_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_python10(tmp_path, monkeypatch)
    proof = tmp_path / "executed"

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (proof,))

    (folder / "data_batch_3").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(DataError, match=r"files are missing, or differ from the published ones .*--download"):
        load_data("cifar10", data_dir=str(tmp_path))
    assert not proof.exists()


def test_nothing_found_says_where_was_looked(tmp_path: Path) -> None:
    message = f"looked in {tmp_path} for cifar-100-binary or cifar-100-python; give .*--data-dir.*--download"
    with pytest.raises(DataError, match=message):
        load_data("cifar100", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="cifar10: files not found; looked in no folder"):
        load_data("cifar10")


def test_download_that_fails_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")  # the discard port
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=r"cifar-10-batches-py: download failed \(.*unpack the binary version"):
        load_data("cifar10", data_dir=str(tmp_path), download=True)


def test_missing_binary_files_are_all_named(tmp_path: Path) -> None:
    folder = write_binary10(tmp_path)
    (folder / "data_batch_2.bin").unlink()
    (folder / "test_batch.bin").unlink()
    with pytest.raises(DataError, match=r"missing data_batch_2\.bin, test_batch\.bin; unpack the archive"):
        load_data("cifar10", data_dir=str(tmp_path))


@pytest.mark.parametrize("size", [0, 3072, 12 * 3073 - 1])
def test_truncated_batch_is_refused(tmp_path: Path, size: int) -> None:
    file = write_binary10(tmp_path) / "data_batch_4.bin"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(DataError, match=r"data_batch_4\.bin: [0-9,]+ bytes are not whole records of 3073"):
        load_data("cifar10", data_dir=str(tmp_path))


def test_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    file = write_binary10(tmp_path) / "test_batch.bin"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    with pytest.raises(DataError, match="the first at index 0 is 255; expected 0 to 9"):
        load_data("cifar10", data_dir=str(tmp_path))


def test_wrong_number_of_class_names_is_refused(tmp_path: Path) -> None:
    (write_binary10(tmp_path) / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"batches\.meta\.txt: 2 class names, expected 10"):
        load_data("cifar10", data_dir=str(tmp_path))
