"""Names of data sets, and the one function that loads them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from seenn.data.cifar import CIFAR10, CIFAR100, CifarSet, load_cifar
from seenn.data.digits import load_digits
from seenn.data.events import CIFAR10_DVS, DVS_GESTURE, N_MNIST, EventSet, load_event_set
from seenn.data.folder import load_folder
from seenn.data.idx import FASHION_MNIST, MNIST, IdxSet, load_idx_set
from seenn.data.measure import measure
from seenn.data.npz import load_npz
from seenn.data.preprocessing import Preprocessing
from seenn.data.rule import divide
from seenn.data.source import Source
from seenn.data.split import DataSplits, Split
from seenn.errors import DataError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class _Request:
    path: str  # what follows the colon of the spec
    data_dir: Path | None
    download: bool
    frames: int  # a recording of events is divided into so many


def _idx(idx_set: IdxSet) -> Callable[[_Request], Source]:
    return lambda request: load_idx_set(idx_set, request.data_dir, download=request.download)


def _cifar(cifar: CifarSet) -> Callable[[_Request], Source]:
    return lambda request: load_cifar(cifar, request.data_dir, download=request.download)


def _events(event_set: EventSet) -> Callable[[_Request], Source]:
    return lambda request: load_event_set(event_set, request.data_dir, frames=request.frames)


_NAMED: dict[str, Callable[[_Request], Source]] = {
    "digits": lambda _: load_digits(),
    "fashion-mnist": _idx(FASHION_MNIST),
    "mnist": _idx(MNIST),
    "cifar10": _cifar(CIFAR10),
    "cifar100": _cifar(CIFAR100),
    **{events.name: _events(events) for events in (N_MNIST, DVS_GESTURE, CIFAR10_DVS)},
}
_EVENTS = (N_MNIST.name, DVS_GESTURE.name, CIFAR10_DVS.name)
_BY_PATH: dict[str, Callable[[_Request], Source]] = {
    "imagefolder": lambda request: load_folder(Path(request.path).expanduser()),
    "npz": lambda request: load_npz(Path(request.path).expanduser()),
}

DEFAULT_FRAMES = 4
DATA_HELP = f"one of {', '.join([*_NAMED, *(f'{name}:PATH' for name in _BY_PATH)])}"


def load_data(
    spec: str = "digits",
    *,
    data_dir: str | None = None,
    download: bool = False,
    split_seed: int = 0,
    preprocessing: Preprocessing | None = None,
    frames: int | None = None,
) -> DataSplits:
    """Loads a data set in its four disjoint splits; see ``seenn.data`` for the rule.

    Args:
        spec: ``digits``, ``fashion-mnist``, ``mnist``, ``cifar10``, ``cifar100``, ``imagefolder:PATH``,
            ``npz:PATH``, or recordings of events: ``n-mnist``, ``dvs-gesture``, ``cifar10-dvs``.
        data_dir: the folder of the named sets' files; ``digits`` and the two with a path need none.
        download: fetch a named set's files into ``data_dir`` where they are not there yet.
        split_seed: for the shuffling, 0 or more.
        preprocessing: how images become inputs; by default with the data set's own size, mean and std.
        frames: T, the frames that a recording of events is divided into, 4 unless given; images have none.

    Raises:
        ValueError: the seed is negative.
        DataError: the name is unknown, files are missing or damaged, or their content does not make four
            splits.
    """
    if split_seed < 0:
        raise ValueError(f"split_seed is {split_seed}, expected 0 or more")
    if frames is not None and frames < 1:
        raise ValueError(f"frames is {frames}, expected 1 or more")
    source = _load_source(spec, data_dir, download, frames or DEFAULT_FRAMES)
    indices = divide(source.train.labels, has_test=source.test is not None, seed=split_seed)
    parts = {name: (source.train, chosen) for name, chosen in indices.items()}
    if source.test is not None:
        parts["test"] = (source.test, torch.arange(len(source.test.labels)))
    _check(spec, source, {name: part.labels[chosen] for name, (part, chosen) in parts.items()})
    if preprocessing is None:
        preprocessing = source.preprocessing or measure(spec, source.train.images, indices["train"])
    splits = {name: Split(name, part, chosen, preprocessing) for name, (part, chosen) in parts.items()}
    return DataSplits(
        spec=spec,
        split_seed=split_seed,
        data_dir=data_dir,
        num_classes=len(source.class_names),
        class_names=source.class_names,
        preprocessing=preprocessing,
        frames=source.train.images.frames,
        **splits,
    )


def _load_source(spec: str, data_dir: str | None, download: bool, frames: int) -> Source:
    name, colon, path = spec.partition(":")
    if name in _BY_PATH:
        if not path:
            raise DataError(f"data {spec!r}: expected {name}:PATH")
    elif name not in _NAMED:
        hint = did_you_mean(name, [*_NAMED, *_BY_PATH])
        raise DataError(f"data {spec!r}: unknown name;{hint} Expected {DATA_HELP}")
    elif colon:
        raise DataError(f"data {spec!r}: {name} takes no path; give its folder as data_dir (--data-dir)")
    elif download and data_dir is None and name != "digits":
        raise DataError(f"data {spec!r}: download needs a data_dir (--data-dir) to keep the files in")
    elif download and name in _EVENTS:
        raise DataError(f"data {spec!r} cannot be fetched: put its files into data_dir (--data-dir) yourself")
    folder = Path(data_dir).expanduser() if data_dir is not None else None
    try:
        return (_BY_PATH | _NAMED)[name](_Request(path=path, data_dir=folder, download=download, frames=frames))
    except OSError as error:  # no permission, a failing disk
        raise DataError(f"data {spec!r}: cannot be opened: {error}") from error


def _check(spec: str, source: Source, labels: dict[str, Tensor]) -> None:
    """Every split has images, and no class that train has not."""
    if not all(map(len, labels.values())):
        sizes = ", ".join(f"{name} {len(split)}" for name, split in labels.items())
        least = 12 if source.test is not None else 6
        raise DataError(
            f"data {spec!r}: too few images for four splits ({sizes}); expected at least {least} "
            f"{'training ' if source.test is not None else ''}images"
        )
    if len(source.class_names) < 2:
        raise DataError(f"data {spec!r}: only the class {source.class_names[0]!r}; expected two or more")
    known = set(labels["train"].tolist())
    if unseen := {label for split in labels.values() for label in split.tolist()} - known:
        names = ", ".join(source.class_names[label] for label in sorted(unseen))
        raise DataError(
            f"data {spec!r}: classes that the train split has no image of: {names}; "
            "add training images of them, or shuffle a file that is partly sorted by class"
        )
