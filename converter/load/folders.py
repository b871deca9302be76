"""Weights in several files: safetensors or torch shards with an index, and torch's distributed checkpoints."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from seenn.errors import CheckpointError, first_line

_INDEX = ".index.json"
_DISTRIBUTED = ".metadata"
#: Names under which libraries write a model, the first of them wins.
_USUAL = ("model.safetensors", "pytorch_model.bin", "model.pth", "weights.safetensors", "weights.pth")
#: What trainings write beside it.
_OTHERS = ("optimizer", "scheduler", "scaler", "sampler", "random_states", "rng_state", "training_args")
_MAX_SHARDS = 4096


def find_weights(folder: Path, suffixes: tuple[str, ...]) -> Path:
    """The file of a folder that holds the model: an index, a distributed checkpoint, or a usual or only weights file.

    Raises:
        CheckpointError: there is none, or several that could be meant.
    """
    places = (folder, *sorted(folder.glob("pytorch_model_fsdp_*")))
    if found := next((place / _DISTRIBUTED for place in places if (place / _DISTRIBUTED).is_file()), None):
        return found
    files = sorted(path for path in folder.iterdir() if path.is_file())
    indices = [path for path in files if path.name.endswith(_INDEX)]
    usual = [folder / name for name in _USUAL if folder / name in files]
    weights = [path for path in files if path.suffix.lower() in suffixes and not path.name.startswith(_OTHERS)]
    if len(indices) != 1 and not usual and len(weights) != 1:
        listed = ", ".join(path.name for path in weights[:8]) or "no file of weights"
        raise CheckpointError(f"{folder}: holds {listed}; name the file that is meant")
    return indices[0] if len(indices) == 1 else (usual or weights)[0]


def is_sharded(file: Path) -> bool:
    """Whether the file only says where the weights are."""
    return file.name.endswith(_INDEX) or file.name == _DISTRIBUTED


def read_shards(file: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    """All tensors that an index or a distributed checkpoint names.

    Args:
        file: ``*.index.json`` or ``.metadata``.
        read: reads one shard of an index.

    Raises:
        CheckpointError: it is damaged, names files outside its folder, or shards lack what it says.
    """
    return _read_distributed(file.parent) if file.name == _DISTRIBUTED else _read_index(file, read)


def _read_index(file: Path, read: Callable[[Path], dict[str, Tensor]]) -> dict[str, Tensor]:
    try:
        where = json.loads(file.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(where.values()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{file}: not an index of weights ({first_line(error)}); copy it again") from error
    _check_names(file, shards)
    found = {name: tensor for shard in shards for name, tensor in read(file.parent / shard).items()}
    if lost := [name for name in where if name not in found]:
        raise CheckpointError(
            f"{file}: names {len(lost)} tensors that its shards lack, {lost[0]!r} first; copy it again"
        )
    return found


def _read_distributed(folder: Path) -> dict[str, Tensor]:
    """A checkpoint of ``torch.distributed.checkpoint``, as FSDP trainings write it; only its tensors."""
    reader = _Reader(folder)
    held = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    try:
        stored = reader.read_metadata().state_dict_metadata
        entries = {name: entry for name, entry in stored.items() if isinstance(entry, TensorStorageMetadata)}
        declared = sum(entry.size.numel() * entry.properties.dtype.itemsize for entry in entries.values())
        if declared > held:
            raise CheckpointError(
                f"{folder}: declares {declared:,} bytes of weights in files of {held:,}; copy it again"
            )
        tensors = {name: torch.empty(entry.size, dtype=entry.properties.dtype) for name, entry in entries.items()}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*in a single process")
            load(dict(tensors), storage_reader=reader)
    except CheckpointError:
        raise
    except (Exception, CheckpointException) as error:  # the latter is no Exception
        raise CheckpointError(f"{folder}: a shard is damaged or truncated; copy all of it again") from error
    return tensors


class _Reader(FileSystemReader):
    """Torch's own, except that the metadata are unpickled as data and shards lie in the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._folder = folder

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """What is where; classes of torch's metadata only."""
        file = self._folder / _DISTRIBUTED
        try:
            with file.open("rb") as opened:
                metadata = _MetadataUnpickler(opened).load()
            shards = sorted({str(place.relative_path) for place in metadata.storage_data.values()})
        except Exception as error:  # a damaged or hostile pickle can raise anything
            raise CheckpointError(
                f"{file}: not the metadata of a distributed checkpoint ({first_line(error)}); copy it again"
            ) from error
        _check_names(file, shards)
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{file}: holds a {type(metadata).__name__}; expected torch's Metadata")
        return metadata


class _MetadataUnpickler(pickle.Unpickler):
    """Makes torch's descriptions of stored tensors, and nothing else."""

    _DATA = frozenset(
        f"torch.distributed.checkpoint.{name}"
        for name in (
            "filesystem._StorageInfo", "filesystem._StoragePrefix", "metadata.BytesStorageMetadata",
            "metadata.ChunkStorageMetadata", "metadata.Metadata", "metadata.MetadataIndex", "metadata.StorageMeta",
            "metadata.TensorProperties", "metadata.TensorStorageMetadata", "metadata._MEM_FORMAT_ENCODING",
        )
    )  # fmt: skip
    _TORCH = frozenset(("torch.Size", "torch.device", "torch.serialization._get_layout", "collections.OrderedDict"))

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full in self._DATA | self._TORCH:
            return super().find_class(module, name)
        value = getattr(torch, name, None) if module == "torch" else None
        if isinstance(value, torch.dtype):
            return value
        if full in ("pathlib.PosixPath", "pathlib._local.PosixPath"):
            return Path
        raise pickle.UnpicklingError(f"{full} is no part of it")


def _check_names(file: Path, names: list[str]) -> None:
    """Shards are files of the same folder."""
    if not 0 < len(names) <= _MAX_SHARDS:
        raise CheckpointError(f"{file}: names {len(names):,} shards; expected 1 to {_MAX_SHARDS:,}: copy it again")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not (file.parent / name).is_file():
            raise CheckpointError(f"{file}: the shard {name!r} is no file of its folder; copy all shards beside it")
