"""Weights files of other programs, read without running anything from them, and seenn's own.

``read_weights`` gives every tensor of a file by its full path: ``state_dict.model.conv1.weight``. Which of them are a
module's is decided by the module's own names (:mod:`converter.load.names`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from converter.load.arrays import is_arrays, read_arrays
from converter.load.folders import find_weights, is_sharded, read_shards, refuse_shard
from converter.load.foreign import advice
from converter.load.pickled import Inert, PlainArray, read_pickled
from seenn.errors import CheckpointError, CheckpointTypeError, kind_of
from seenn.files import atomic_path, read_tensors, stand_in, write_tensors

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar", ".pkl", ".pyth", ".th", ".model")
SAFETENSORS_SUFFIX = ".safetensors"
RECORD_KEY = "seenn_record"

_LENGTH = 8  # bytes of the length with which a safetensors file begins
_MAX_DEPTH = 8  # mappings inside mappings: {"model_ema": {"module": {...}}}


@dataclass(frozen=True)
class Weights:
    """The tensors of a file by their full paths, and what ``train-ann`` stored beside them."""

    file: Path
    tensors: dict[str, Tensor]
    roots: tuple[str, ...] = ("",)  # paths of the mappings that hold tensors: "", "state_dict.", "ema.module."
    others: tuple[str, ...] = ()  # paths of values that are no tensors
    record: dict[str, Any] = field(default_factory=dict)  # {} in foreign files


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """Reads a file of torch, safetensors, pickle or numpy, or a folder that holds one, or several with what names them.

    Raises:
        CheckpointTypeError: ``path`` is none.
        CheckpointError: it is missing, empty, truncated, pickles objects of a program, or holds no tensors.
    """
    if not isinstance(path, str | os.PathLike):
        raise CheckpointTypeError(
            f"weights are {kind_of(path)}: give the path of a file; what is in memory goes into a module by "
            "module.load_state_dict(…), and the module is given"
        )
    file = Path(path)
    if file.is_dir():
        file = find_weights(file, (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX))
    if is_sharded(file):
        return _flattened(file, read_shards(file, lambda shard: _read(shard)[0]), {})
    refuse_shard(file)
    content, record = _read(file)
    return _flattened(file, content, record)


def _read(file: Path) -> tuple[Any, dict[str, Any]]:
    """One file, and what is recorded in it."""
    if said := advice(file.suffix.lower()):
        raise CheckpointError(f"{file}: {said}")
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; check the path")
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file}: the file is empty; copy it again")
    if said := stand_in(file):
        raise CheckpointError(f"{file}: {said}")
    if kind := _compression(file):
        raise CheckpointError(f"{file}: compressed by {kind}: unpack it, and name the file that comes out")
    if is_arrays(file):
        return read_arrays(file), {}
    if _is_safetensors(file):  # whatever its name says
        return _read_safetensors(file)
    content = read_pickled(file)
    record = content.get(RECORD_KEY, {}) if isinstance(content, Mapping) else {}
    return content, _checked_record(file, record)


#: With what files that are packed as a whole begin.
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc": "7z",
}


def _compression(file: Path) -> str | None:
    with file.open("rb") as stream:
        start = stream.read(_LENGTH)
    return next((kind for mark, kind in _COMPRESSED.items() if start.startswith(mark)), None)


def _is_safetensors(file: Path) -> bool:
    """Whether it begins with the length of a header and the header, and not as what torch writes; or is named so."""
    with file.open("rb") as stream:
        start = stream.read(_LENGTH + 1)
    if start[:2] in (b"PK", b"\x80\x02"):
        return False
    return start[_LENGTH:] == b"{" or file.suffix.lower() == SAFETENSORS_SUFFIX


def _expected(what: str) -> str:
    return f"{what}; expected a name ending in {', '.join((*TORCH_SUFFIXES, SAFETENSORS_SUFFIX))}"


def _flattened(file: Path, content: Any, record: dict[str, Any]) -> Weights:
    """By full paths; arrays of numpy's are weights where there are no tensors, else what a training noted."""
    content = _unwrapped(file, content)
    found = _visited(file, content, record, arrays=False)
    found = found if found.tensors else _visited(file, content, record, arrays=True)
    if not found.tensors:
        kind = "an object of a program" if isinstance(content, Inert) else kind_of(content)
        raise CheckpointError(f"{file}: no weights inside ({kind}); expected a state dict")
    return found


def _unwrapped(file: Path, content: Any) -> Any:
    """The state dict of a list or tuple that holds one, or the names and values that make one; anything else itself."""
    if not isinstance(content, list | tuple):
        return content
    if content and all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in content):
        return dict(content)
    held = [item for item in content if isinstance(item, Mapping)]
    states = [item for item in held if any(_visited(file, item, {}, arrays=arrays).tensors for arrays in (False, True))]
    if len(states) > 1:
        raise CheckpointError(f"{file}: {kind_of(content)} with {len(states)} state dicts: save the one that is meant")
    return states[0] if states else content


def _visited(file: Path, content: Any, record: dict[str, Any], *, arrays: bool) -> Weights:
    tensors: dict[str, Tensor] = {}
    roots: list[str] = []
    others: list[str] = []
    seen: set[int] = set()  # a pickle may hold a mapping twice, or inside itself

    def visit(value: Mapping[Any, Any], path: str, depth: int) -> None:
        seen.add(id(value))
        for key, item in value.items():
            if not isinstance(key, str):
                continue  # an optimizer's numbers
            weight = item.tensor if arrays and isinstance(item, PlainArray) else item
            if isinstance(weight, Tensor):
                tensors[path + key] = weight
                if path not in roots:
                    roots.append(path)
            elif isinstance(item, Mapping) and depth and id(item) not in seen:
                visit(item, f"{path}{key}.", depth - 1)
            else:
                others.append(path + key)

    if isinstance(content, Mapping):
        visit(content, "", _MAX_DEPTH)
    return Weights(file, tensors, tuple(roots), tuple(others), record)


def write_weights(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Writes ``tensors`` and a JSON ``record`` atomically; :func:`read_weights` gives both back.

    A ``.safetensors`` path holds the record as JSON metadata under ``"seenn_record"``; the torch endings
    get ``{"state_dict": ..., "seenn_record": record}``, which timm reads too.

    Raises:
        ValueError: the path ends in neither, or the record is not JSON.
        OSError: the folder is missing or not writable, or the disk is full.
    """
    file = Path(path)
    try:
        text = json.dumps(record, allow_nan=False)
    except TypeError as error:
        raise ValueError(f"the record beside the weights must be JSON: {error}") from error
    # Copies: views and tied tensors are written in full, which safetensors asks for.
    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    if file.suffix == SAFETENSORS_SUFFIX:
        write_tensors(file, copies, {RECORD_KEY: text, "format": "pt"})
    elif file.suffix in TORCH_SUFFIXES:
        with atomic_path(file) as temporary:
            torch.save({"state_dict": copies, RECORD_KEY: json.loads(text)}, temporary)
    else:
        raise ValueError(_expected(str(file)))


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError

    try:
        tensors, metadata = read_tensors(file)
    except (SafetensorError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"{file}: not a readable safetensors file, or truncated: {error}; copy it again"
        ) from error
    if {"seenn", "graph"} <= metadata.keys():
        raise CheckpointError(f"{file}: a spiking network of seenn, expected the weights of an ANN")
    try:
        record = json.loads(metadata.get(RECORD_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(
            f"{file}: the metadata '{RECORD_KEY}' is not JSON: {error}; write the file again"
        ) from error
    return tensors, _checked_record(file, record)


def _checked_record(file: Path, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: '{RECORD_KEY}' is {kind_of(record)}; expected an object")
    return record
