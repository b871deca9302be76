"""CIFAR-10 and CIFAR-100: the binary version read here, the Python version through torchvision.

The binary version (https://www.cs.toronto.edu/~kriz/cifar.html) is records of fixed size: the label (in
CIFAR-100 the coarse, then the fine label), then 3x32x32 bytes. It is preferred because the Python version is
pickles; torchvision opens those only when their md5 is the published one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seenn.data.preprocessing import Preprocessing
from seenn.data.reading import reading
from seenn.data.source import Labelled, Source, labelled_arrays
from seenn.errors import DataError

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE


@dataclass(frozen=True, kw_only=True)
class CifarSet:
    """One of the two data sets, as its binary version lies in a folder."""

    name: str
    torchvision_name: str  # class in torchvision.datasets
    num_classes: int
    label_bytes: int  # the last of them is the label
    binary_folder: str
    python_folder: str
    train_files: tuple[str, ...]
    test_file: str
    names_file: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


CIFAR10 = CifarSet(
    name="cifar10",
    torchvision_name="CIFAR10",
    num_classes=10,
    label_bytes=1,
    binary_folder="cifar-10-batches-bin",
    python_folder="cifar-10-batches-py",
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_file="test_batch.bin",
    names_file="batches.meta.txt",
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = CifarSet(
    name="cifar100",
    torchvision_name="CIFAR100",
    num_classes=100,
    label_bytes=2,
    binary_folder="cifar-100-binary",
    python_folder="cifar-100-python",
    train_files=("train.bin",),
    test_file="test.bin",
    names_file="fine_label_names.txt",
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)


def load_cifar(cifar: CifarSet, data_dir: Path | None, *, download: bool) -> Source:
    """Both parts, from the binary folder in ``data_dir`` if it is there, otherwise through torchvision.

    Raises:
        DataError: the files are missing (says where they were looked for), damaged, or cannot be fetched.
    """
    if data_dir is not None and (data_dir / cifar.binary_folder).is_dir():
        train, test, class_names = _read_binary(cifar, data_dir / cifar.binary_folder)
    elif data_dir is not None and (download or (data_dir / cifar.python_folder).is_dir()):
        train, test, class_names = _read_python(cifar, data_dir, download=download)
    else:
        looked = f"{data_dir} for {cifar.binary_folder} or {cifar.python_folder}" if data_dir else "no folder"
        raise DataError(
            f"{cifar.name}: files not found; looked in {looked}; give the folder that holds them (data_dir, "
            "--data-dir), or have them fetched into it (download, --download)"
        )
    preprocessing = Preprocessing(channels=CHANNELS, height=SIDE, width=SIDE, mean=cifar.mean, std=cifar.std)
    return Source(train=train, test=test, class_names=class_names, preprocessing=preprocessing)


def _read_binary(cifar: CifarSet, folder: Path) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    needed = (*cifar.train_files, cifar.test_file, cifar.names_file)
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise DataError(f"{folder}: missing {', '.join(missing)}; unpack the archive again")
    with reading(folder / cifar.names_file):
        lines = (folder / cifar.names_file).read_text(encoding="utf-8").splitlines()
    class_names = tuple(filter(None, map(str.strip, lines)))
    if len(class_names) != cifar.num_classes:
        raise DataError(f"{folder / cifar.names_file}: {len(class_names)} class names, expected {cifar.num_classes}")
    train = _read_records(cifar, folder, cifar.train_files)
    return train, _read_records(cifar, folder, (cifar.test_file,)), class_names


def _read_records(cifar: CifarSet, folder: Path, names: tuple[str, ...]) -> Labelled:
    record = cifar.label_bytes + PIXELS
    parts = []
    for path in (folder / name for name in names):
        with reading(path):
            size = path.stat().st_size
            if size == 0 or size % record:
                raise DataError(
                    f"{path}: {size:,} bytes are not whole records of {record}; "
                    "the file is truncated or of another kind: unpack the archive again"
                )
            parts.append(np.fromfile(path, dtype=np.uint8).reshape(-1, record))
    records = np.concatenate(parts)
    images = records[:, cifar.label_bytes :].reshape(-1, CHANNELS, SIDE, SIDE)
    return labelled_arrays(folder, images, records[:, cifar.label_bytes - 1], cifar.num_classes)


def _read_python(cifar: CifarSet, data_dir: Path, *, download: bool) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    from torchvision import datasets

    dataset_class = getattr(datasets, cifar.torchvision_name)
    where = data_dir / cifar.python_folder
    try:
        train, test = (dataset_class(data_dir, train=train, download=download) for train in (True, False))
    except Exception as error:  # the network, the archive or the disk: anything from URLError to TarError
        what = "download failed" if download else "files are missing, or differ from the published ones"
        raise DataError(
            f"{where}: {what} ({error}); fetch them again (download, --download), "
            f"or unpack the binary version as {data_dir / cifar.binary_folder}"
        ) from error
    parts = [
        labelled_arrays(where, part.data.transpose(0, 3, 1, 2), np.array(part.targets), cifar.num_classes)
        for part in (train, test)
    ]
    return parts[0], parts[1], tuple(train.classes)
