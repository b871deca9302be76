"""CIFAR-10 and CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html), read by torchvision.

The published files are pickles: torchvision opens them only where their md5 is the published one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seenn.data.preprocessing import Preprocessing
from seenn.data.registry import Request, needs
from seenn.data.source import Source, labelled_arrays
from seenn.errors import DataError

CHANNELS, SIDE = 3, 32


@needs("folder", downloads=True)
@dataclass(frozen=True, kw_only=True)
class CifarSet:
    """One of the two data sets."""

    name: str
    torchvision_name: str  # class in torchvision.datasets
    folder: str  # that the published archive unpacks to
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __call__(self, request: Request) -> Source:
        """Both parts, from the unpacked archive in ``data_dir``.

        Raises:
            DataError: the files are missing (says where they were looked for), not the published ones, or cannot be
                fetched.
        """
        if request.data_dir is None or not (request.download or (request.data_dir / self.folder).is_dir()):
            looked = "no folder" if request.data_dir is None else request.data_dir / self.folder
            raise DataError(
                f"{self.name}: files not found; looked in {looked}; give the folder that holds {self.folder} "
                "(data_dir, --data-dir), or have it fetched (download, --download)"
            )
        from torchvision import datasets

        published, where = getattr(datasets, self.torchvision_name), request.data_dir / self.folder
        try:
            parts = [published(request.data_dir, train=train, download=request.download) for train in (True, False)]
        except Exception as error:  # the network, the archive or the disk: anything from URLError to TarError
            what = "download failed" if request.download else "files are missing, or differ from the published ones"
            raise DataError(f"{where}: {what} ({error}); fetch them again (download, --download)") from error
        class_names = tuple(parts[0].classes)
        train, test = (
            labelled_arrays(where, part.data.transpose(0, 3, 1, 2), np.array(part.targets), len(class_names))
            for part in parts
        )
        preprocessing = Preprocessing(channels=CHANNELS, height=SIDE, width=SIDE, mean=self.mean, std=self.std)
        return Source(train=train, test=test, class_names=class_names, preprocessing=preprocessing)
