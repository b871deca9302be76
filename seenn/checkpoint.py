"""One ``.safetensors`` file: tensors, graph, preprocessing, manifest, exit policy, and what engines keep. No code.

The tensors are the ops' parameters under ``<node>.<tensor>``; those of a policy's own network (SEENN-II) begin
with ``policy:``, and those of an engine's section with its name, ``int8:``. The metadata holds JSON under these keys:

=================  =====================================================================================
``seenn``          format version, ``"1"``
``graph``          input shape, output node, and per node: name, op kind, attributes, inputs
``preprocessing``  how a raw image becomes the network's input, or null
``manifest``       where the network comes from: source, recipe, T, data fingerprints, seed, versions, report
``policy``         the calibrated exit policy, its network's graph included, or null
an engine's name   what that engine keeps about the network; left out where it keeps nothing
=================  =====================================================================================

Loading builds registered ops and nothing else, checks every name, shape and value first, and never executes
anything that the file says.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.core.serialisation import graph_from_json, graph_to_json
from seenn.data.preprocessing import preparation_from_json
from seenn.errors import CheckpointError, CheckpointTypeError, kind_of
from seenn.exits.policy import policy_from_json, policy_to_json
from seenn.files import Origin, read_tensors, refuse_other_kind, stand_in, version_of, write_tensors
from seenn.runtime import ENGINES, Section
from seenn.snn import SNN

VERSION = "1"
SUFFIX = ".safetensors"
_KEYS = ("seenn", "graph", "preprocessing", "manifest", "policy")


def save(path: str | os.PathLike[str], snn: SNN, *, overwrite: bool = False) -> None:
    """Writes ``snn``, atomically: an interrupt or a full disk leaves an older file as it was.

    Args:
        overwrite: replace the file that the network was loaded from although another program has changed it since.

    Raises:
        OutputError: the folder does not exist, is not writable, or the disk is full.
        CheckpointError: the network was loaded from this file, which has changed since; or its tensors are not finite
            or of several types, or an engine's section belongs to another network, so that ``load`` would refuse it.
        FileNameError: the name is that of another kind of file, such as ``.pth``.
        ValueError: the manifest is not JSON.
    """
    refuse_other_kind(path, SUFFIX)
    tensors: dict[str, Tensor] = {}
    of_policy: dict[str, Tensor] = {}
    parts: dict[str, Any] = {
        "graph": graph_to_json(snn.network.graph, snn.network.input_shape, tensors),
        "preprocessing": None if snn.preprocessing is None else snn.preprocessing.to_json(),
        "manifest": dict(snn.manifest),
        "policy": None if snn.policy is None else policy_to_json(snn.policy, of_policy),
    }
    for engine, section in snn.sections.items():
        if engine in ENGINES:
            ENGINES.get(engine).check(section, snn.network)
        parts[engine] = section.json
    kept = {engine: section.tensors for engine, section in snn.sections.items()}
    for owner, own in {**kept, "policy": of_policy}.items():
        tensors |= {f"{owner}:{name}": tensor for name, tensor in own.items()}
    try:
        metadata = {"seenn": VERSION, **{key: json.dumps(value, allow_nan=False) for key, value in parts.items()}}
    except (TypeError, ValueError) as error:
        raise ValueError(f"the manifest of a network must be JSON: {error}") from error
    file = snn.origin if snn.origin is not None and snn.origin.is_at(path) else None
    write_tensors(path, tensors, metadata, expected=None if file is None or overwrite else file.version)
    if file is not None:
        file.path, file.version = Path(os.path.realpath(path)), version_of(path)


def load(path: str | os.PathLike[str], *, with_policy: bool = True, dialect: str | None = None) -> SNN:
    """Reads what ``save`` wrote, bit for bit the same network; or a NIR file, or the folder that one was exported to.

    Args:
        dialect: of a NIR file: the library that it was made for, see ``seenn.capture.nir``; None: as seenn recorded
            beside it.
        with_policy: False leaves the exit policy out, for whoever makes another: its class need not be known.

    Raises:
        CheckpointError: the file is missing, truncated, not a network of seenn, or holds anything that the registered
            ops do not allow.
        ValueError: a NIR file without its dialect, or another file with one.
    """
    if not isinstance(path, str | os.PathLike):
        raise CheckpointTypeError(f"a network is loaded from a file, got {kind_of(path)}: give its path")
    where, origin = Path(path), Origin.of(path)
    if (file := _nir_file(where)) is not None:
        from seenn.capture.nir import read_nir

        network, about = read_nir(file, dialect)
        policy, prepared = about.get("policy"), about.get("preprocessing")
        source = {"name": where.name, "dialect": dialect or about.get("reader")}
        return SNN(
            network=network,
            preprocessing=None if prepared is None else preparation_from_json(prepared),
            policy=policy_from_json(policy) if with_policy and policy is not None else None,
            manifest={"source": source, **{key: about[key] for key in ("timesteps", "class_names") if key in about}},
        )
    if dialect is not None:
        raise ValueError(f"only NIR files (.nir) have a dialect, and {where} is none: leave it out")
    tensors, metadata = _read(where)
    if metadata.get("seenn") is None:
        raise CheckpointError(
            f"{where} holds weights but no seenn network: make one with `seenn convert --model NAME --ckpt {where}`"
        )
    if metadata["seenn"] != VERSION:
        raise CheckpointError(
            f"{where} has format {metadata['seenn']!r}; this version of seenn reads {VERSION!r}: update seenn"
        )
    try:
        of_policy = _taken(tensors, "policy:")
        sections = {
            engine: Section(json=_json(metadata, engine), tensors=_taken(tensors, f"{engine}:"))
            for engine in sorted({*metadata, *ENGINES.names()} - set(_KEYS))
            if engine in metadata or any(name.startswith(f"{engine}:") for name in tensors)
        }
        network = _network(_json(metadata, "graph"), tensors)
        for engine, section in sections.items():
            if engine in ENGINES:
                ENGINES.get(engine).check(section, network)
        preprocessing, policy = _json(metadata, "preprocessing"), _json(metadata, "policy")
        manifest = _json(metadata, "manifest")
        if not isinstance(manifest, dict):
            raise CheckpointError(f"the manifest must be an object, got {type(manifest).__name__}")
        found = policy_from_json(policy, of_policy) if with_policy and policy is not None else None
        if with_policy and of_policy:
            raise CheckpointError(
                f"{len(of_policy)} tensors belong to no policy ({', '.join(sorted(of_policy)[:8])}): write the file "
                "again"
            )
        return SNN(
            network=network,
            preprocessing=None if preprocessing is None else preparation_from_json(preprocessing),
            manifest=manifest,
            policy=found,
            sections=sections,
            origin=origin,
        )
    except CheckpointError as error:
        # Most say what to do, a missing plugin's in a sentence of its own; all others are of a damaged or foreign file.
        advice = "" if str(error).endswith((".", "again")) else "; copy the file again, or make the network anew"
        raise CheckpointError(f"{where}: {error}{advice}") from error


def _nir_file(path: Path) -> Path | None:
    """The NIR file that ``path`` is, or that lies in the folder ``path``; None where it is neither."""
    file = path / "network.nir" if path.is_dir() else path
    return file if file.suffix == ".nir" and file.is_file() else None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(
            f"{path} is a model, not a spiking network: make one of it with `seenn convert --model {path}`, in Python "
            f"converter.convert({str(path)!r}, data)"
        )
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder without network.nir: give a file of seenn's, a folder that `seenn export --to nir` "
            "wrote, or one of save_pretrained to seenn.from_pretrained"
        )
    if not path.is_file():
        raise CheckpointError(
            f"there is no spiking network {path} here: make it with `seenn convert --model NAME --ckpt FILE` first, "
            "or give the path of another"
        )
    if said := stand_in(path):
        raise CheckpointError(f"{path}: {said}")
    with open(path, "rb") as start:
        if start.read(2) in (b"PK", b"\x80\x02"):  # what torch.save writes: a zip archive, or a bare pickle
            raise CheckpointError(
                f"{path} holds PyTorch weights, not a spiking network: `seenn convert --model NAME --ckpt {path}` "
                "makes one of them"
            )
    try:
        return read_tensors(path)
    except (OSError, SafetensorError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path} is not a readable safetensors file ({error}): it may be truncated; write or copy it again"
        ) from error


def _json(metadata: Mapping[str, str], key: str) -> Any:
    try:
        return json.loads(metadata[key], parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except KeyError:
        raise CheckpointError(f"the metadata has no {key!r}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"the metadata's {key!r} is not JSON: {error}; write the file again") from error


def _refuse(number: str) -> Any:
    raise ValueError(f"{number[:32]} is not a number that a network can hold")


def _float(text: str) -> float:
    return value if math.isfinite(value := float(text)) else _refuse(text)


def _int(text: str) -> int:
    return int(text) if len(text) < 19 else _refuse(text)  # below 2^63


def _network(description: Any, tensors: dict[str, Tensor]) -> SpikingNetwork:
    try:
        return SpikingNetwork(*graph_from_json(description, tensors)).eval()
    except ValueError as error:
        raise CheckpointError(str(error)) from error


def _taken(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, taken out and without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}
