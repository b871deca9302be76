"""Distributed checkpoints of torch, as FSDP trainings write them: their tensors, and nothing that is code."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from converter.load.folders import DISTRIBUTED, check_names
from seenn.errors import CheckpointError, first_line, kind_of


def read_distributed(folder: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of ``torch.distributed.checkpoint``.

    Raises:
        CheckpointError: it is damaged, or declares more than its files hold.
    """
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
        file = self._folder / DISTRIBUTED
        try:
            with file.open("rb") as opened:
                metadata = _MetadataUnpickler(opened).load()
            shards = sorted({str(place.relative_path) for place in metadata.storage_data.values()})
        except Exception as error:  # a damaged or hostile pickle can raise anything
            raise CheckpointError(
                f"{file}: not the metadata of a distributed checkpoint ({first_line(error)}); copy it again"
            ) from error
        check_names(file, shards)
        if not isinstance(metadata, Metadata):
            raise CheckpointError(f"{file}: holds {kind_of(metadata)}; expected torch's Metadata")
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
