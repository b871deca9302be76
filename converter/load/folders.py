"""Weights in several files: shards with an index, and torch's distributed checkpoints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from seenn.errors import CheckpointError, first_line

_INDEX = ".index.json"
DISTRIBUTED = ".metadata"
#: Names under which libraries write a model, the first of them wins.
_USUAL = ("model.safetensors", "pytorch_model.bin", "model.pth", "weights.safetensors", "weights.pth")
#: What trainings write beside it.
_OTHERS = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "rng_state", "training_args")
_MAX_SHARDS = 4096
_SHARD = re.compile(r"(.+)-\d{5}-of-(\d{5})\.(\w+)")


def find_weights(folder: Path, suffixes: tuple[str, ...]) -> Path:
    """The file of a folder that holds the model: an index, a distributed checkpoint, or a usual or only weights file.

    Raises:
        CheckpointError: there is none, or several that could be meant.
    """
    places = (folder, *sorted(folder.glob("pytorch_model_fsdp_*")))
    if found := next((place / DISTRIBUTED for place in places if (place / DISTRIBUTED).is_file()), None):
        return found
    files = sorted(path for path in folder.iterdir() if path.is_file())
    indices = [path for path in files if path.name.endswith(_INDEX)]
    usual = [folder / name for name in _USUAL if folder / name in files]
    weights = [path for path in files if path.suffix.lower() in suffixes and not path.name.startswith(_OTHERS)]
    if len(indices) != 1 and not usual and len(weights) != 1:
        if weights and len({_index_of(path) for path in weights}) == 1:
            refuse_shard(weights[0])
        listed = ", ".join(path.name for path in weights[:8]) or "no file of weights"
        raise CheckpointError(f"{folder}: holds {listed}; name the file that is meant")
    return indices[0] if len(indices) == 1 else (usual or weights)[0]


def is_sharded(file: Path) -> bool:
    """Whether the file only says where the weights are."""
    return file.name.endswith(_INDEX) or file.name == DISTRIBUTED


def refuse_shard(file: Path) -> None:
    """Raises CheckpointError for one of several files, whose index is to be named."""
    if file.is_file() and (index := _index_of(file)) is not None:
        do = "name that" if index.is_file() else "which is missing: copy it beside the shards, and name it"
        raise CheckpointError(f"{file}: one of several shards, whose index is {index}, {do}")


def _index_of(file: Path) -> Path | None:
    """The index of a shard, whether or not it is there; None of a file that is whole."""
    found = _SHARD.fullmatch(file.name)
    return file.with_name(f"{found[1]}.{found[3]}{_INDEX}") if found and int(found[2]) > 1 else None


def read_shards(file: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors that an index or a distributed checkpoint names.

    Args:
        file: ``*.index.json`` or ``.metadata``.
        read: reads one shard of an index.

    Raises:
        CheckpointError: it is damaged, names files outside its folder, or shards lack what it says.
    """
    if file.name != DISTRIBUTED:
        return _read_index(file, read)
    from converter.load.distributed import read_distributed  # which takes a second to import

    return read_distributed(file.parent)


def _read_index(file: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    try:
        where = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(where.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not an index of weights ({first_line(error)}); copy it again") from error
    check_names(file, shards)
    found = {name: tensor for shard in shards for name, tensor in read(file.parent / shard).items()}
    if lost := [name for name in where if name not in found]:
        raise CheckpointError(
            f"{file}: names {len(lost)} tensors that its shards lack, {lost[0]!r} first; copy it again"
        )
    return found


def check_names(file: Path, names: list[str]) -> None:
    """Shards are files of the same folder.

    Raises:
        CheckpointError: one of them is not, or there is none.
    """
    if not 0 < len(names) <= _MAX_SHARDS:
        raise CheckpointError(f"{file}: names {len(names):,} shards; expected 1 to {_MAX_SHARDS:,}: copy it again")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (file.parent / name).is_file():
            raise CheckpointError(f"{file}: the shard {name!r} is no file of its folder; copy all shards beside it")
