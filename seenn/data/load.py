"""What loads data sets, by name or from what a program holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seenn.data.given import told
from seenn.data.labels import numbered, strata, task_of
from seenn.data.objects import labelled, labels_of, source_of
from seenn.data.overlap import refuse_overlap
from seenn.data.preprocessing import Preparation, Preprocessing, suited
from seenn.data.registry import DATA_SETS, KINDS, Request
from seenn.data.rule import SPLITS, divide
from seenn.data.source import Source, measure
from seenn.data.split import DataSplits, Split
from seenn.errors import DataArgumentError, DataError, DataTypeError, UnknownNameError, listed

DEFAULT_FRAMES = 4


def load_data(
    spec: Any = "digits",
    *,
    data_dir: str | Path | None = None,
    download: bool = False,
    split_seed: int = 0,
    preprocessing: Preparation | None = None,
    frames: int | None = None,
    group_by: str | None = None,
) -> DataSplits:
    """Loads a data set in its four disjoint splits; see ``seenn.data`` for the rule.

    Args:
        spec: a name of ``DATA_SETS.names()``, as ``digits``; or ``NAME:PATH``, as ``npz:PATH``; or the path alone of a
            folder, an npz file or a table. Or the data: a ``torch.utils.data.Dataset`` or DataLoader, or a pair of
            samples and labels, see ``seenn.data.given``.
        data_dir: the folder of the set's files, where it needs one.
        download: fetch a named set's files into ``data_dir`` where they are not there yet.
        split_seed: for the shuffling, 0 or more.
        preprocessing: how images become inputs; by default with the data set's own size, mean and std.
        frames: T, the frames that a recording of events is divided into, 4 unless given; images have none.
        group_by: what keeps samples in one split: a column of a manifest, an array of an npz file, or the level of a
            folder below the class, from 1.

    Raises:
        ValueError: the seed is negative.
        DataError: the name is unknown, files are missing or damaged, or their content does not make four disjoint
            splits.
    """
    if split_seed < 0:
        raise ValueError(f"split_seed is {split_seed}, expected 0 or more")
    if frames is not None and frames < 1:
        raise ValueError(f"frames is {frames}, expected 1 or more")
    data_dir = None if data_dir is None else str(data_dir)
    if isinstance(spec, str | Path):
        spec = _spelled(spec)
        source = _read(spec, data_dir, download, frames or DEFAULT_FRAMES, group_by)
    else:
        source, spec = source_of(spec, channels=_channels(preprocessing)), f"python:{type(spec).__name__}"
    if group_by is not None and source.train.groups is None:
        raise DataArgumentError(
            f"data {spec!r} has nothing to group by {group_by!r}: use a manifest, an npz file or a folder"
        )
    balanced, groups = strata(source.train.labels), source.train.groups
    indices = divide(balanced, has_test=source.test is not None, seed=split_seed, groups=groups)
    parts = {name: (source.train, chosen) for name, chosen in indices.items()}
    if source.test is not None:
        parts["test"] = (source.test, torch.arange(len(source.test.labels)))
    _check(spec, source, {name: part.labels[chosen] for name, (part, chosen) in parts.items()})
    guess = ""
    if preprocessing is None:
        preprocessing = source.preprocessing or measure(spec, source.train.images, indices["train"])
        guess = "the data set's own" if source.preprocessing else "measured on the train split"
        guess = guess if isinstance(preprocessing, Preprocessing) else "numbers as they are"
    else:
        preprocessing = suited(spec, preprocessing, pictures=source.train.images.pictures)
    splits = DataSplits(
        spec=spec,
        split_seed=split_seed,
        data_dir=data_dir,
        class_names=source.class_names,
        preprocessing=preprocessing,
        guess=guess,
        group_by=group_by,
        frames=source.train.images.frames,
        chiral=source.chiral,
        **{name: Split(name, part, chosen, preprocessing) for name, (part, chosen) in parts.items()},
    )
    if source.test is not None and splits.test.in_memory:  # files are compared when a split is used
        refuse_overlap(splits.test, [splits.train, splits.calibration, splits.exit])
    return splits


def as_split(
    data: Any, name: str, preprocessing: Preparation | None = None, class_names: Sequence[str] | None = None
) -> Split:
    """All of ``data`` in its order as one split; a split as it is, of ``DataSplits`` the one of that name.

    What is named, as for :func:`load_data`, is loaded. Pictures need the ``preprocessing``. Labels that are names are
    among ``class_names``, of a network; None: whatever they are.

    Raises:
        DataTypeError: it is no data, or has no labels.
        DataError: as of :func:`load_data`; or pictures, and nothing says how to prepare them.
    """
    if isinstance(data, str | Path):
        data = as_splits(data, name, preprocessing)
    if isinstance(data, Split):
        return data
    if isinstance(data, DataSplits) and name in SPLITS:
        chosen: Split = getattr(data, name)
        return chosen
    given = told(data)
    names, (labels,) = numbered(f"the {name} data", [labels_of(given)], class_names)
    part = labelled(given, labels, channels=_channels(preprocessing))
    everything = torch.arange(len(part.labels))
    _refuse_unprepared(f"the {name} data", preprocessing, pictures=part.images.pictures)
    known = preprocessing or measure(name, part.images, everything)
    return Split(name, part, everything, suited(f"the {name} data", known, pictures=part.images.pictures), names)


def as_splits(data: Any, what: str, preprocessing: Preparation | None = None, *, measured: bool = False) -> DataSplits:
    """``DataSplits`` as they are; anything else that :func:`load_data` takes, loaded.

    With ``measured`` pictures are prepared as the data have it where ``preprocessing`` is None.

    Raises:
        DataTypeError: one split, which ``what`` cannot do with; or samples without labels.
        DataError: as of :func:`load_data`; or pictures, and nothing says how to prepare them.
    """
    if isinstance(data, DataSplits):
        return data
    if isinstance(data, Split):
        raise DataTypeError(f"{what} takes the DataSplits of seenn.load_data, got Split: give all four")
    found = load_data(data, preprocessing=preprocessing)
    if not measured:
        _refuse_unprepared(found.spec, preprocessing, pictures=found.train.has_pictures)
    return found


def _channels(preprocessing: Preparation | None) -> int:
    return preprocessing.channels if isinstance(preprocessing, Preprocessing) else 3


def _refuse_unprepared(where: str, preprocessing: Preparation | None, *, pictures: bool) -> None:
    if preprocessing is None and pictures:
        raise DataError(
            f"{where} are pictures, and nothing says how to prepare them: give convert preprocessing=, or floats"
        )


def _spelled(spec: str | Path) -> str:
    """``KIND:PATH`` of a path alone; a name as it is."""
    text = str(spec)
    if isinstance(spec, str) and (text in DATA_SETS or text.partition(":")[0] in DATA_SETS):
        return text
    path = _path(text, text)
    kind = "imagefolder" if path.is_dir() else KINDS.get(path.suffix.lower())
    if path.exists() and kind:
        return f"{kind}:{text}"
    if isinstance(spec, Path):
        problem = "is no folder, npz file or table" if path.exists() else "there is no such file or folder"
        raise DataArgumentError(f"data {text!r}: {problem}; expected the path of one, or a name such as 'digits'")
    return text


def _read(spec: str, data_dir: str | None, download: bool, frames: int, group_by: str | None) -> Source:
    """The data set that ``spec`` names."""
    name, colon, path = spec.partition(":")
    try:
        data_set = DATA_SETS.get(name)
    except UnknownNameError as error:
        raise DataArgumentError(f"data {spec!r}: {error}") from error
    needs = getattr(data_set, "needs", "folder")
    if needs == "path" and not path:
        raise DataArgumentError(f"data {spec!r}: expected {name}:PATH")
    if needs != "path" and colon:
        raise DataArgumentError(f"data {spec!r}: {name} takes no path; give its folder as data_dir (--data-dir)")
    if needs == "folder" and download and not getattr(data_set, "downloads", False):
        raise DataArgumentError(f"data {spec!r} cannot be fetched: put its files into data_dir (--data-dir) yourself")
    if needs == "folder" and download and data_dir is None:
        raise DataArgumentError(f"data {spec!r}: download needs a data_dir (--data-dir) to keep the files in")
    folder = None if data_dir is None else _path(spec, data_dir)
    try:
        asked = Request(path=_path(spec, path), data_dir=folder, download=download, frames=frames, group_by=group_by)
        return data_set(asked)
    except OSError as error:  # no permission, a failing disk
        raise DataError(f"data {spec!r}: cannot be opened: {error}; check the path") from error


def _path(spec: str, text: str) -> Path:
    if "\0" in text:
        raise DataError(f"data {spec!r}: the path {text!r} holds a zero byte: check the path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # the home folder of nobody
        raise DataError(f"data {spec!r}: {text} cannot be opened ({error}): check the path") from error


def _check(spec: str, source: Source, labels: dict[str, Tensor]) -> None:
    """Every split has images, none the groups of another, and no class that train has not."""
    parts = [set(part.groups or ()) for part in (source.train, source.test) if part is not None]
    if len(parts) > 1 and (shared := sorted(parts[0] & parts[1])):
        raise DataError(
            f"data {spec!r}: {len(shared)} groups are in train and in test, as {shared[0]!r}: move them to one part"
        )
    if not all(map(len, labels.values())):
        sizes = ", ".join(f"{name} {len(split)}" for name, split in labels.items())
        least = 12 if source.test is not None else 6
        raise DataError(
            f"data {spec!r}: too few images for four splits ({sizes}); expected at least {least} "
            f"{'training ' if source.test is not None else ''}{'images' if source.train.groups is None else 'groups'}"
        )
    if task_of(source.train.labels) != "classes":
        return
    if len(source.class_names) < 2:
        raise DataError(f"data {spec!r}: only the class {source.class_names[0]!r}; expected two or more")
    known = set(labels["train"].tolist())
    if unseen := {label for split in labels.values() for label in split.tolist()} - known:
        names = listed(source.class_names[label] for label in sorted(unseen))
        raise DataError(
            f"data {spec!r}: classes that the train split has no image of: {names}; "
            "add training images of them, or shuffle a file that is partly sorted by class"
        )
