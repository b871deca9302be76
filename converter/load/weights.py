"""Weights files of other programs: ``.pth`` and ``.safetensors``, read without running anything from them.

``read_weights`` finds the state dict inside the usual wrappers (timm, Lightning, DDP, ``torch.compile``,
EMA copies), strips the prefixes that they leave on every name, and casts half precision up to float32.
Pickled code is never executed: files are opened with ``torch.load(weights_only=True)`` or safetensors.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from seenn.errors import CheckpointError, first_line
from seenn.files import atomic_path

logger = logging.getLogger(__name__)

TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
SAFETENSORS_SUFFIX = ".safetensors"
RECORD_KEY = "seenn_record"

PLAIN_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights", "module")
EMA_KEYS = ("state_dict_ema", "ema_state_dict", "model_ema", "params_ema", "ema")
PREFIXES = ("module.", "model.", "_orig_mod.", "ema_model.", "net.", "network.")

_MAX_DEPTH = 4  # wrappers inside wrappers: {"model_ema": {"module": {...}}}
_RESAVE = "re-save its weights with torch.save(model.state_dict(), 'weights.pth') where the model was trained"


@dataclass(frozen=True)
class Weights:
    """A model's tensors by name, and what ``train-ann`` stored beside them (``{}`` for foreign files)."""

    tensors: dict[str, Tensor]
    record: dict[str, Any] = field(default_factory=dict)


def read_weights(path: str | os.PathLike[str], *, ema: bool = False) -> Weights:
    """Reads a ``.pth``/``.pt``/``.bin``/``.ckpt``/``.tar`` or ``.safetensors`` file onto the CPU.

    Args:
        path: the file.
        ema: take the averaged weights (timm's ``state_dict_ema``). By default the plain ones are taken
            where both are there, and the averaged ones where only they are.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a pickle of anything but weights, or holds
            no tensors, tensors that memory does not back, or non-finite values.
    """
    file = Path(path)
    if file.suffix not in (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX):
        endings = ", ".join((*TORCH_SUFFIXES, SAFETENSORS_SUFFIX))
        raise CheckpointError(f"{file}: unknown kind of weights file; expected a name ending in {endings}")
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file")
    if file.stat().st_size == 0:
        raise CheckpointError(f"{file}: the file is empty")
    if file.suffix == SAFETENSORS_SUFFIX:
        content, record = _read_safetensors(file)
    else:
        content, record = _read_torch(file)
    found = _find_state_dict(file, content, ema)
    tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if extra := sorted(set(found) - set(tensors)):
        logger.warning("%s: entries that are not tensors are left out: %s", file, ", ".join(extra))
    _check_storage(file, tensors)
    prefix = common_prefix(tensors)
    weights = {name.removeprefix(prefix): _to_float32(tensor) for name, tensor in tensors.items()}
    _check_finite(file, weights)
    return Weights(weights, record)


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
        from safetensors.torch import save_file

        with atomic_path(file) as temporary:
            save_file(copies, temporary, metadata={RECORD_KEY: text, "format": "pt"})
    elif file.suffix in TORCH_SUFFIXES:
        with atomic_path(file) as temporary:
            torch.save({"state_dict": copies, RECORD_KEY: json.loads(text)}, temporary)
    else:
        endings = ", ".join((*TORCH_SUFFIXES, SAFETENSORS_SUFFIX))
        raise ValueError(f"{file}: expected a name ending in {endings}")


def common_prefix(names: Iterable[str]) -> str:
    """The wrapper prefixes (``module.``, ``_orig_mod.``, ...) that *all* names carry, outermost first."""
    names = list(names)
    prefix = ""
    while wrapper := next((p for p in PREFIXES if names and all(name.startswith(prefix + p) for name in names)), ""):
        prefix += wrapper
    return prefix


def _read_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            metadata = opened.metadata() or {}
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError, RuntimeError, OSError) as error:
        raise CheckpointError(f"{file}: not a readable safetensors file, or truncated: {error}") from error
    if {"seenn", "graph"} <= metadata.keys():
        raise CheckpointError(f"{file}: a spiking network of seenn, expected the weights of an ANN")
    try:
        record = json.loads(metadata.get(RECORD_KEY, "{}"))
    except ValueError as error:
        raise CheckpointError(f"{file}: the metadata '{RECORD_KEY}' is not JSON: {error}") from error
    return tensors, _checked_record(file, record)


def _read_torch(file: Path) -> tuple[Any, dict[str, Any]]:
    try:
        if is_zip := zipfile.is_zipfile(file):
            _check_archive(file)
        # timm's own checkpoints keep their command line as a Namespace: plain attributes, no code.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except Exception as error:  # a damaged or hostile pickle can raise anything
        _refuse(file, error)
    record = content.get(RECORD_KEY, {}) if isinstance(content, Mapping) else {}
    return content, _checked_record(file, record)


def _refuse(file: Path, error: Exception) -> NoReturn:
    text = str(error)
    if found := re.search(r"[Gg](?:lobal|LOBAL):? (?:GLOBAL )?([\w.]+)", text):
        raise CheckpointError(
            f"{file}: the file pickles {found.group(1)}, which is code, not weights; seenn never unpickles "
            f"code. If you trust the file, {_RESAVE}"
        ) from error
    raise CheckpointError(
        f"{file}: not a torch checkpoint, or damaged or truncated ({first_line(error)}); copy it again, or {_RESAVE}"
    ) from error


def _check_archive(file: Path) -> None:
    """A torch checkpoint is a zip of stored members; compressed ones could inflate without bound."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(Path(member.filename).name == "constants.pkl" for member in members):
        raise CheckpointError(f"{file}: a TorchScript archive holds code; {_RESAVE}")
    declared = sum(member.file_size for member in members)
    if declared > file.stat().st_size:
        raise CheckpointError(
            f"{file}: declares {declared:,} bytes in a file of {file.stat().st_size:,}; "
            f"a torch checkpoint is not compressed, so the file is damaged or hostile"
        )


def _checked_record(file: Path, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise CheckpointError(f"{file}: '{RECORD_KEY}' is a {type(record).__name__}; expected an object")
    return record


def _find_state_dict(file: Path, content: Any, ema: bool) -> Mapping[str, Any]:
    """The mapping of names to tensors inside ``content``, through the wrappers that programs put round it."""
    averaged = False
    for _ in range(_MAX_DEPTH):
        if not isinstance(content, Mapping):
            break
        nested = {key: value for key, value in content.items() if _leads_to_tensors(value)}
        plain = [key for key in PLAIN_KEYS if key in nested]
        averages = [key for key in EMA_KEYS if key in nested]
        if averages and (ema or not plain):
            content, averaged = nested[averages[0]], True
        elif plain:
            content = nested[plain[0]]
        elif _is_state_dict(content):
            if ema and not averaged:
                raise CheckpointError(f"{file}: holds no averaged (EMA) weights; read it without ema=True")
            return content
        elif len(nested) == 1:
            content = next(iter(nested.values()))
        elif nested:
            raise CheckpointError(
                f"{file}: several state dicts and none with a usual name: {', '.join(map(str, nested))}; "
                f"save the one you mean alone"
            )
        else:
            break
    raise CheckpointError(f"{file}: no weights inside (a {type(content).__name__}); expected a state dict")


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(item, Tensor) for item in value.values())
    )


def _leads_to_tensors(value: Any, depth: int = _MAX_DEPTH) -> bool:
    if depth == 0 or not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        return False
    return _is_state_dict(value) or any(_leads_to_tensors(item, depth - 1) for item in value.values())


def _check_storage(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Every value must have its own bytes: a stride-0 tensor can declare terabytes over four of them."""
    offenders = []
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            offenders.append(f"{name} (not a plain dense tensor)")
        elif tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            offenders.append(f"{name} (declares {tensor.numel():,} values over fewer bytes)")
    if offenders:
        raise CheckpointError(f"{file}: cannot use {len(offenders)} tensors: {'; '.join(offenders)}")


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def _check_finite(file: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = {
        name: int(tensor.numel() - tensor.isfinite().sum())
        for name, tensor in tensors.items()
        if not tensor.isfinite().all()
    }
    if bad:
        listed = ", ".join(f"{name} ({count} of {tensors[name].numel()})" for name, count in bad.items())
        raise CheckpointError(
            f"{file}: values that are NaN or infinite in {len(bad)} tensors: {listed}; "
            f"the training diverged or the file is damaged"
        )
