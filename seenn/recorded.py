"""The data that a network was made with, found again and proven to be the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from seenn.data import DataSplits, Preprocessing, load_data
from seenn.encoding import PoissonEncoding
from seenn.errors import DataError


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


def _prove_same(recorded: Mapping[str, Any], splits: DataSplits) -> None:
    before = recorded.get("fingerprints")
    for name, fingerprint in before.items() if isinstance(before, Mapping) else ():
        if name in ("calibration", "exit") and getattr(splits, name).fingerprint != fingerprint:
            raise DataError(
                f"the {name} split of {splits.spec} is not the one that was recorded (fingerprint "
                f"{getattr(splits, name).fingerprint[:12]}… instead of {str(fingerprint)[:12]}…): the files have "
                "changed, so held-out data may no longer be held out. Restore them, or convert again"
            )
