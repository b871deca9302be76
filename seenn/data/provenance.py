"""The data that a network was made with: found again, compared with what is there now, and kept apart."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from seenn.data.encoding import PoissonEncoding
from seenn.data.load import load_data
from seenn.data.overlap import DECODED_FILES, HARMLESS, flatters, refuse_overlap
from seenn.data.preprocessing import Preparation
from seenn.data.remembered import among, remember
from seenn.data.rule import SPLITS
from seenn.data.split import DataSplits, Split
from seenn.errors import DataError

logger = logging.getLogger(__name__)

Use = Literal["train", "calibration", "exit", "test"]
Kind = TypeVar("Kind")


def load_recorded_data(
    manifest: Mapping[str, Any],
    preprocessing: Preparation | None,
    *,
    spec: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    split_seed: int | None = None,
    group_by: str | None = None,
) -> DataSplits:
    """The splits that ``manifest["data"]`` records, or those that the caller names instead, encoded as recorded.

    Args:
        manifest: of a checkpoint, or the record beside an ANN's weights.
        preprocessing: of the network; None is the data set's own.
        spec: another data set; None is the recorded one, and ``digits`` where nothing is recorded.
        data_dir, split_seed, group_by: None is the recorded one, as long as ``spec`` is.

    Raises:
        DataError: the recorded data can no longer be read, or is not the same any more.
    """
    record = _object(manifest, "data")
    chosen = spec or _field(record, "spec", str) or "digits"
    if chosen == record.get("spec"):
        data_dir = _field(record, "data_dir", str) if data_dir is None else data_dir
        split_seed = _seed(record) if split_seed is None else split_seed
        group_by = _field(record, "group_by", str) if group_by is None else group_by
    kind, _, path = chosen.partition(":")
    try:
        splits = load_data(
            chosen,
            data_dir=data_dir,
            download=download,
            split_seed=split_seed or 0,
            preprocessing=preprocessing,
            group_by=group_by,
            frames=max(0, _field(record, "frames", int) or 0) or None,
        )
    except DataError as error:
        if spec is None and path and not Path(path).is_absolute() and not Path(path).exists():
            raise DataError(
                f"{error}. The record names it as seen from where it was made: run there, or say where it is "
                f"(--data {kind}:PATH)"
            ) from error
        raise
    if _is_recorded(record, splits):
        refuse_changed(record, splits)
    encoding = manifest.get("encoding")
    return splits if encoding is None else splits.with_encoding(PoissonEncoding.from_json(encoding))


def check_splits(manifest: Mapping[str, Any], splits: DataSplits, *, use: Use) -> None:
    """:func:`check_split` of the split that is meant for ``use``."""
    check_split(manifest, getattr(splits, use), use=use)


def check_split(manifest: Mapping[str, Any], split: Split, *, use: Use) -> None:
    """Refuses a split that the network, or its figures, have another use for; called before every use.

    Every split of the data in the manifest has to be what it was. The images of ``split`` are compared with the other
    splits of its data, and with those of the data in the manifest where that is another set, or dealt by another
    seed. Calibration makes a network with a record of its own: there none of the held-out splits may hold images that
    the recorded network was trained on.

    Args:
        manifest: of the network.
        split: images about to be used.
        use: what for: to ``train``, ``calibration`` of thresholds, choosing an ``exit``, or figures on ``test``.

    Raises:
        DataError: it is a split for another use, its data has changed, or it shares images.
    """
    if split.name in SPLITS and split.name != use:
        raise DataError(f"the {split.name} split has another use: take the {use} split here")
    data = split.data
    others = [name for name in SPLITS if name != use]
    if use in ("exit", "test"):
        for held in (manifest, _object(_object(manifest, "exit"), "data") if use == "test" else {}):
            _refuse_remembered(_object(held, "digests"), split)
    if data is not None:
        refuse_overlap(split, [getattr(data, name) for name in others])
    own = _object(manifest, "data")
    exits = _object(_object(manifest, "exit"), "data") if use == "test" else own
    for record in (own,) if exits == own else (own, exits):
        if data is not None and _is_recorded(record, data):
            refuse_changed(record, data)
        elif record:
            _refuse_recorded(record, split, use, others)


def record_of(split: Split) -> dict[str, Any]:
    """What a manifest says of the data of ``split``; of arrays that a program holds the fingerprint alone."""
    if split.data is not None:
        return split.data.manifest()
    if not split.in_memory:
        return {}
    return {"fingerprints": {split.name: split.content_hash()}, "digests": {split.name: remember(split.digests())}}


def refuse_changed(record: Mapping[str, Any], splits: DataSplits) -> None:
    """Refuses data that is not what was recorded.

    Raises:
        DataError: which splits hold other images, or the same images with other labels.
    """
    decoded = record.get("content", "pixels") == "pixels"
    images = _object(record, "image_fingerprints")
    changes: dict[str, list[str]] = {}
    for name, fingerprint in _object(record, "fingerprints").items():
        split: Split | None = getattr(splits, name) if name in SPLITS else None
        if split is None or split.content_hash(decoded=decoded) == fingerprint:
            continue
        same = images.get(name) == split.content_hash(labels=False, decoded=decoded)
        kind = "the same images with other labels" if same else "other images" if name in images else "other content"
        changes.setdefault(kind, []).append(name)
    if changes:
        found = "; ".join(f"{kind} in {', '.join(names)}" for kind, names in changes.items())
        raise DataError(
            f"{splits.spec} is not the data that was recorded, its files have changed: {found}. Held-out data may no "
            "longer be held out: restore the files, or convert again"
        )


def _refuse_remembered(digests: Mapping[str, Any], split: Split) -> None:
    """Compares ``split`` with images that a program handed over for other uses."""
    for name, remembered in digests.items():
        whose = f"those that this network's {name} took"
        if len(split.files or ()) > DECODED_FILES:
            logger.warning("the %s split is not compared with %s: too many files to decode", split.name, whose)
            continue
        compared, known = among(split.digests(decoded=True), remembered)
        said = f"the {split.name} split shares {int(known.sum())} of {len(compared)} images with {whose}"
        if flatters(compared, known):
            raise DataError(
                f"{said}: figures made there would flatter the network; take images that nothing else has seen"
            )
        if bool(known.any()):
            logger.warning("%s; %s", said, HARMLESS)


def _refuse_recorded(record: Mapping[str, Any], split: Split, use: Use, others: list[str]) -> None:
    """Compares ``split`` with recorded data that is not its own; by fingerprints alone where that is gone."""
    decoded = record.get("content", "pixels") == "pixels"
    for name in others if not decoded or len(split.files or ()) <= DECODED_FILES else ():
        known = _object(record, "fingerprints").get(name)
        if known is not None and known == split.content_hash(decoded=decoded):
            raise DataError(
                f"the {split.name} split is the very data of this network's {name} split (fingerprint "
                f"{str(known)[:12]}…): take images that nothing else has seen"
            )
    if not record.get("spec"):  # of arrays nothing but fingerprints is known
        return
    try:
        used = _recorded_like(record, split)
    except DataError as error:
        logger.warning("cannot compare the %s split with the data that the network was made with: %s", use, error)
        return
    whose = " that the network was made with"
    if use != "calibration":
        refuse_overlap(split, [getattr(used, name) for name in others], whose)
    elif split.data is not None:
        for held_out in (split.data.calibration, split.data.exit, split.data.test):
            refuse_overlap(held_out, [used.train], whose)


def _recorded_like(record: Mapping[str, Any], split: Split) -> DataSplits:
    """The recorded data, of the same kind as ``split``."""
    try:
        return load_recorded_data({"data": record}, split.preprocessing)
    except DataError:
        used = load_recorded_data({"data": record}, None)
        if used.train.has_pictures == split.has_pictures:
            raise
        kinds = ("raw pictures, and these are prepared numbers", "numbers, and these are pictures")
        raise DataError(f"{record['spec']} has {kinds[split.has_pictures]}: give both as the same") from None


def _is_recorded(record: Mapping[str, Any], splits: DataSplits) -> bool:
    return (record.get("spec"), _seed(record), record.get("group_by")) == (
        splits.spec,
        splits.split_seed,
        splits.group_by,
    )


def _seed(record: Mapping[str, Any]) -> int:
    return max(0, _field(record, "split_seed", int) or 0)


def _object(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    return _field(record, key, Mapping) or {}  # type: ignore[type-abstract]


def _field(record: Mapping[str, Any], key: str, kind: type[Kind]) -> Kind | None:
    """None where it is something else: manifests are read from files."""
    return value if isinstance(value := record.get(key), kind) else None
