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
from seenn.data.registry import Request, needs
from seenn.data.source import Labelled, Source, labelled_arrays
from seenn.errors import DataError

CHANNELS, SIDE = 3, 32
PIXELS = CHANNELS * SIDE * SIDE


@needs("folder", downloads=True)
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

    def __call__(self, request: Request) -> Source:
        """Both parts, from the binary folder in ``data_dir`` if it is there, otherwise through torchvision.

        Raises:
            DataError: the files are missing (says where they were looked for), damaged, or cannot be fetched.
        """
        folder = request.data_dir
        if folder is not None and (folder / self.binary_folder).is_dir():
            train, test, class_names = self._read_binary(folder / self.binary_folder)
        elif folder is not None and (request.download or (folder / self.python_folder).is_dir()):
            train, test, class_names = self._read_python(folder, download=request.download)
        else:
            looked = f"{folder} for {self.binary_folder} or {self.python_folder}" if folder else "no folder"
            raise DataError(
                f"{self.name}: files not found; looked in {looked}; give the folder that holds them (data_dir, "
                "--data-dir), or have them fetched into it (download, --download)"
            )
        preprocessing = Preprocessing(channels=CHANNELS, height=SIDE, width=SIDE, mean=self.mean, std=self.std)
        return Source(train=train, test=test, class_names=class_names, preprocessing=preprocessing)

    def _read_binary(self, folder: Path) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        needed = (*self.train_files, self.test_file, self.names_file)
        if missing := [name for name in needed if not (folder / name).is_file()]:
            raise DataError(f"{folder}: missing {', '.join(missing)}; unpack the archive again")
        with reading(folder / self.names_file):
            lines = (folder / self.names_file).read_text(encoding="utf-8").splitlines()
        class_names = tuple(filter(None, map(str.strip, lines)))
        if len(class_names) != self.num_classes:
            raise DataError(f"{folder / self.names_file}: {len(class_names)} class names, expected {self.num_classes}")
        train = self._read_records(folder, self.train_files)
        return train, self._read_records(folder, (self.test_file,)), class_names

    def _read_records(self, folder: Path, names: tuple[str, ...]) -> Labelled:
        record = self.label_bytes + PIXELS
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
        images = records[:, self.label_bytes :].reshape(-1, CHANNELS, SIDE, SIDE)
        return labelled_arrays(folder, images, records[:, self.label_bytes - 1], self.num_classes)

    def _read_python(self, data_dir: Path, *, download: bool) -> tuple[Labelled, Labelled, tuple[str, ...]]:
        from torchvision import datasets

        dataset_class = getattr(datasets, self.torchvision_name)
        where = data_dir / self.python_folder
        try:
            train, test = (dataset_class(data_dir, train=train, download=download) for train in (True, False))
        except Exception as error:  # the network, the archive or the disk: anything from URLError to TarError
            what = "download failed" if download else "files are missing, or differ from the published ones"
            raise DataError(
                f"{where}: {what} ({error}); fetch them again (download, --download), "
                f"or unpack the binary version as {data_dir / self.binary_folder}"
            ) from error
        parts = [
            labelled_arrays(where, part.data.transpose(0, 3, 1, 2), np.array(part.targets), self.num_classes)
            for part in (train, test)
        ]
        return parts[0], parts[1], tuple(train.classes)
