"""Data sets in idx files, as MNIST and Fashion-MNIST are published, plain or gzipped.

The format (http://yann.lecun.com/exdb/mnist): two zero bytes, the type (8 = unsigned byte), the number of
axes, the axes' lengths as big-endian 32-bit integers, then the bytes.
"""

from __future__ import annotations

import gzip
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seenn.data.preprocessing import Preprocessing
from seenn.data.reading import check_declared_size, reading
from seenn.data.registry import Request, needs
from seenn.data.source import Labelled, Source, labelled_arrays
from seenn.errors import DataError

FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SIDE = 28  # pixels


@needs("folder", downloads=True)
@dataclass(frozen=True, kw_only=True)
class IdxSet:
    """A data set that is published as four idx files."""

    name: str
    torchvision_name: str  # class in torchvision.datasets, and the folder it downloads to
    class_names: tuple[str, ...]
    mean: float
    std: float
    chiral: bool
    system_dir: Path | None = None  # where a system package installs the files
    system_package: str = ""

    def __call__(self, request: Request) -> Source:
        """Both parts, from ``data_dir``, from torchvision's folder inside it, or as the system installed them.

        Raises:
            DataError: the files are missing (says where they were looked for), damaged, or cannot be fetched.
        """
        folder = request.data_dir
        if folder is None:
            folders = [self.system_dir] if self.system_dir is not None else []
        else:
            folders = [folder, folder / self.torchvision_name / "raw"]
            if request.download and _missing(folder):
                self._download(folder)  # leaves whole archives alone and fetches broken ones again
        complete = next((where for where in folders if not _missing(where)), None)
        if complete is None:
            raise DataError(self._not_found(folders))
        train_images, train_labels, test_images, test_labels = (_find(complete, name) for name in FILES)
        return Source(
            train=self._read_part(train_images, train_labels),
            test=self._read_part(test_images, test_labels),
            class_names=self.class_names,
            preprocessing=Preprocessing(channels=1, height=SIDE, width=SIDE, mean=(self.mean,), std=(self.std,)),
            chiral=self.chiral,
        )

    def _read_part(self, image_file: Path, label_file: Path) -> Labelled:
        images = read_idx(image_file, axes=3)
        if images.shape[1:] != (SIDE, SIDE):
            height, width = images.shape[1:]
            raise DataError(
                f"{image_file}: images of {height}x{width} pixels, but {self.name} has {SIDE}x{SIDE}; "
                "for other data write an npz file and use npz:PATH"
            )
        labels = read_idx(label_file, axes=1)
        return labelled_arrays(image_file, images[:, np.newaxis], labels, len(self.class_names))

    def _download(self, data_dir: Path) -> None:
        from torchvision import datasets

        try:
            getattr(datasets, self.torchvision_name)(data_dir, download=True)
        except Exception as error:  # the network, the archive or the disk: anything from URLError to ValueError
            raise DataError(
                f"{self.name}: download into {data_dir} failed: {' '.join(str(error).split())}; "
                f"check the network, or put the files {', '.join(FILES)} there"
            ) from error

    def _not_found(self, folders: list[Path]) -> str:
        looked = [f"{folder} (missing: {', '.join(_missing(folder))})" for folder in folders]
        package = f"install the Debian package {self.system_package}, " if self.system_package else ""
        return (
            f"{self.name}: files not found; looked in {' and '.join(looked) or 'no folder'}; {package}"
            "give the folder that holds them, plain or with .gz (data_dir, --data-dir), "
            "or have them fetched into it (download, --download)"
        )


def read_idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """One idx file of unsigned bytes with this many axes; gzipped where its name ends in ``.gz``.

    Raises:
        DataError: the file is no such idx file, is damaged, or is longer or shorter than it declares.
    """
    deflated, expected = path.suffix == ".gz", bytes((0, 0, 8, axes))
    with reading(path), gzip.open(path) if deflated else path.open("rb") as stream:
        if (magic := stream.read(4)) != expected:
            raise DataError(
                f"{path}: starts with {magic.hex()}, expected {expected.hex()}, an idx file of bytes with {axes} axes: "
                "fetch it again"
            )
        shape = struct.unpack(f">{axes}I", stream.read(4 * axes))
        size = math.prod(shape)
        check_declared_size(path, size, path.stat().st_size, deflated=deflated)
        data = stream.read(size + 1)
    if len(data) != size:
        more_or_less = "more" if len(data) > size else f"only {len(data):,}"
        raise DataError(f"{path}: declares {size:,} bytes of data and holds {more_or_less}; fetch it again")
    return np.frombuffer(bytearray(data), dtype=np.uint8).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    """The file ``name`` in ``folder``, plain or else gzipped, whether it is there or not."""
    plain = folder / name
    return plain if plain.is_file() else folder / f"{name}.gz"


def _missing(folder: Path) -> list[str]:
    return [name for name in FILES if not _find(folder, name).is_file()]
