"""The data that a network was made with, found again and proven to be the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch

from seenn.data import DataSplits, Preprocessing, Split, load_data
from seenn.data.encoding import PoissonEncoding
from seenn.errors import DataError

logger = logging.getLogger(__name__)

TOLERATED = 0.001  # share of a split: published data sets hold a few pictures twice


def load_recorded_data(
    manifest: Mapping[str, Any],
    preprocessing: Preprocessing | None,
    *,
    spec: str | None = None,
    data_dir: str | None = None,
    download: bool = False,
    split_seed: int | None = None,
) -> DataSplits:
    """The splits that ``manifest["data"]`` records, or those that the caller names instead, encoded as recorded.

    Args:
        manifest: of a checkpoint, or the record beside an ANN's weights.
        preprocessing: of the network; None is the data set's own.
        spec: another data set; None is the recorded one, and ``digits`` where nothing is recorded.
        data_dir, split_seed: None is the recorded one, as long as ``spec`` is.

    Raises:
        DataError: the recorded data can no longer be read, or is not the same any more.
    """
    data = manifest.get("data")
    recorded: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    same = spec is None or spec == recorded.get("spec")
    chosen = spec or recorded.get("spec") or "digits"
    if same:
        data_dir = recorded.get("data_dir") if data_dir is None else data_dir
        split_seed = recorded.get("split_seed") if split_seed is None else split_seed
    splits = load_data(
        str(chosen),
        data_dir=data_dir,
        download=download,
        split_seed=split_seed or 0,
        preprocessing=preprocessing,
        frames=recorded.get("frames") if isinstance(recorded.get("frames"), int) else None,
    )
    if same and (split_seed or 0) == (recorded.get("split_seed") or 0):
        _prove_same(recorded, splits)
    encoding = manifest.get("encoding")
    return splits if encoding is None else splits.with_encoding(PoissonEncoding.from_json(encoding))


def check_split(manifest: Mapping[str, Any], split: Split, *, use: str) -> None:
    """Refuses a split that the network, or its figures, have another use for."""
    if use == "exit" and split.data is not None:
        refuse_seen_exit_split(manifest, split.data)
    if use == "test":
        data = manifest.get("data")
        recorded = data.get("fingerprints") if isinstance(data, Mapping) else None
        fingerprints = recorded if isinstance(recorded, Mapping) else {}
        for purpose in ("calibration", "exit"):
            if fingerprints.get(purpose) == split.fingerprint and purpose != split.name:
                raise DataError(
                    f"the {split.name} split is the data that this network's {purpose} used "
                    f"(fingerprint {split.fingerprint[:12]}…): evaluate on data that it has not seen"
                )
        if split.name in ("calibration", "exit"):
            raise DataError(f"the {split.name} split was used to calibrate this network: evaluate on the test split")


def _prove_same(recorded: Mapping[str, Any], splits: DataSplits) -> None:
    before = recorded.get("fingerprints")
    for name, fingerprint in before.items() if isinstance(before, Mapping) else ():
        if name in ("calibration", "exit") and getattr(splits, name).fingerprint != fingerprint:
            raise DataError(
                f"the {name} split of {splits.spec} is not the one that was recorded (fingerprint "
                f"{getattr(splits, name).fingerprint[:12]}… instead of {str(fingerprint)[:12]}…): the files have "
                "changed, so held-out data may no longer be held out. Restore them, or convert again"
            )


def refuse_seen_exit_split(manifest: Mapping[str, Any], splits: DataSplits) -> None:
    """Raises DataError where the exit split holds images that the network, or its figures, have another use for.

    Compared by fingerprint with what ``manifest`` records, and by the content of every image with the other
    splits, those of ``splits`` and those of the recorded data where that is another set or dealt by another
    seed. A train split that would have to be decoded from its files is compared only if it is of another set:
    within one, splits are disjoint by construction.
    """
    data = manifest.get("data")
    recorded: Mapping[str, Any] = data if isinstance(data, Mapping) else {}
    before = recorded.get("fingerprints")
    fingerprints: Mapping[str, Any] = before if isinstance(before, Mapping) else {}
    others = {name: getattr(splits, name) for name in ("train", "calibration", "test")}
    for name, fingerprint in fingerprints.items():
        if name in others and fingerprint == splits.exit.fingerprint:
            raise DataError(
                f"the exit split of {splits.spec} is the very data of this network's {name} split (fingerprint "
                f"{splits.exit.fingerprint[:12]}…): an exit needs images that nothing else has seen"
            )
    if not splits.train.in_memory:
        del others["train"]
    _refuse_overlap(splits.exit, {f"{name} split of {splits.spec}": split for name, split in others.items()})
    same = all(recorded.get(key) == getattr(splits, key) for key in ("spec", "data_dir", "split_seed"))
    if not recorded.get("spec") or same:
        return
    try:
        used = load_recorded_data(manifest, splits.preprocessing)
    except DataError as error:
        logger.warning("cannot compare the exit split with the data that the network was made with: %s", error)
        return
    _refuse_overlap(
        splits.exit,
        {f"{n} split of {used.spec} that it was made with": getattr(used, n) for n in ("train", "calibration", "test")},
    )


def _refuse_overlap(split: Split, others: Mapping[str, Split]) -> None:
    digests = split.digests()
    shared = {name: int(torch.isin(digests, other.digests()).sum()) for name, other in others.items()}
    found = ", ".join(f"{count} with the {name}" for name, count in shared.items() if count)
    if not found:
        return
    message = f"the {split.name} split of {len(split)} images shares {found}"
    if max(shared.values()) > TOLERATED * len(split):
        raise DataError(
            f"{message}: what is chosen there would flatter itself. Choose images that nothing else uses: leave "
            "--split-seed as recorded, or take the shared ones out of the data set"
        )
    logger.warning("%s; too few to matter", message)
