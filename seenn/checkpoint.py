"""One ``.safetensors`` file: tensors, graph, preprocessing, manifest and exit policy. No code.

The tensors are the ops' parameters under ``<node>.<tensor>``; those of a policy's own network (SEENN-II) begin
with ``policy:``, and how weights are rounded to int8 with ``int8:``. The metadata holds JSON under these keys:

=================  =====================================================================================
``seenn``          format version, ``"1"``
``graph``          input shape, output node, and per node: name, op kind, attributes, inputs
``preprocessing``  how a raw image becomes the network's input, or null
``manifest``       where the network comes from: source, recipe, T, data fingerprints, seed, versions, report
``policy``         the calibrated exit policy, its network's graph included, or null
``int8``           fingerprint of the network that the ``int8:`` tensors belong to; left out where there are none
=================  =====================================================================================

Loading builds ops of the closed set and nothing else, checks every name, shape and value first, and never
executes anything that the file says.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.core.serialisation import graph_from_json, graph_to_json
from seenn.data.preprocessing import Preprocessing
from seenn.errors import CheckpointError
from seenn.exits.policy import ExitPolicy, policy_from_json, policy_to_json
from seenn.exits.policy_network import PolicyNetwork
from seenn.files import atomic_path
from seenn.runtime.lowering import Rounding

VERSION = "1"
_POLICY = "policy:"  # starts the names of the tensors of a policy's own network
_INT8 = "int8:"  # and those of rounding


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with all that is needed to use it and to know where it comes from."""

    network: SpikingNetwork
    preprocessing: Preprocessing | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)  # JSON
    policy: ExitPolicy | None = None
    rounding: Rounding | None = None  # of the weights to int8; None: by the largest weight

    @property
    def timesteps(self) -> int:
        """T that the thresholds were chosen for; 8 when the manifest does not say."""
        value = self.manifest.get("timesteps", 8)
        return value if isinstance(value, int) and value >= 1 else 8

    @property
    def has_ann(self) -> bool:
        """Whether there is an ANN behind the network: it was not trained as a spiking one, and nothing leaks."""
        return "direct" not in self.manifest and self.network.has_analog


def save(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Writes ``checkpoint``, atomically: an interrupt or a full disk leaves an older file as it was.

    Raises:
        CheckpointError: the folder does not exist, is not writable, or the disk is full; or the network's
            tensors are not finite or of several types, so that ``load`` would refuse the file.
        ValueError: the manifest is not JSON, or the rounding was made for another network.
    """
    tensors: dict[str, Tensor] = {}

    def policy_graph(name: str, network: PolicyNetwork) -> Any:
        return graph_to_json(network.graph, network.input_shape, tensors, f"{_POLICY}{name}:")

    preprocessing = checkpoint.preprocessing
    parts: dict[str, Any] = {
        "graph": graph_to_json(checkpoint.network.graph, checkpoint.network.input_shape, tensors),
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "manifest": dict(checkpoint.manifest),
        "policy": None if checkpoint.policy is None else policy_to_json(checkpoint.policy, policy_graph),
    }
    if (rounding := checkpoint.rounding) is not None:
        if rounding.network != checkpoint.network.graph.fingerprint():
            raise ValueError("the checkpoint's int8 rounding was made for another network: leave it out")
        parts["int8"], own = rounding.to_section()
        tensors |= {f"{_INT8}{name}": values for name, values in own.items()}
    try:
        metadata = {"seenn": VERSION, **{key: json.dumps(value, allow_nan=False) for key, value in parts.items()}}
    except (TypeError, ValueError) as error:
        raise ValueError(f"the manifest of a checkpoint must be JSON: {error}") from error
    try:
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot write {os.fspath(path)}: {error}. Check that the folder exists, is writable and has space; "
            "nothing was left behind"
        ) from error


def load(path: str | os.PathLike[str], *, with_policy: bool = True) -> Checkpoint:
    """Reads what ``save`` wrote; bit for bit the same network.

    Args:
        with_policy: False leaves the exit policy out, for whoever makes another: its class need not be known.

    Raises:
        CheckpointError: the file is missing, truncated, not a seenn checkpoint, or holds anything that the
            closed op set does not allow.
    """
    where = Path(path)
    tensors, metadata = _read(where)
    if metadata.get("seenn") is None:
        raise CheckpointError(
            f"{where} holds weights but no seenn network: make one with `seenn convert --model NAME --ckpt {where}`"
        )
    if metadata["seenn"] != VERSION:
        raise CheckpointError(f"{where} has format {metadata['seenn']!r}; this version of seenn reads {VERSION!r}")
    try:
        of_policy = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_POLICY)}

        def policy_graph(name: str, description: Any) -> PolicyNetwork:
            return PolicyNetwork(*graph_from_json(description, of_policy, f"{_POLICY}{name}:"))

        own = [name for name in tensors if name.startswith(_INT8)]
        of_int8 = {name.removeprefix(_INT8): tensors.pop(name) for name in own}
        network = _network(_json(metadata, "graph"), tensors)
        preprocessing, policy = _json(metadata, "preprocessing"), _json(metadata, "policy")
        manifest = _json(metadata, "manifest")
        if not isinstance(manifest, dict):
            raise CheckpointError(f"the manifest must be an object, got {type(manifest).__name__}")
        found = policy_from_json(policy, policy_graph) if with_policy and policy is not None else None
        if with_policy and of_policy:
            raise CheckpointError(f"{len(of_policy)} tensors belong to no policy: {', '.join(sorted(of_policy)[:8])}")
        return Checkpoint(
            network=network,
            preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
            manifest=manifest,
            policy=found,
            rounding=None
            if "int8" not in metadata and not of_int8
            else Rounding.from_section(_json(metadata, "int8"), of_int8, network),
        )
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error


def is_checkpoint(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a safetensors file with a seenn network inside; False for anything unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            return "seenn" in (file.metadata() or {})
    except (OSError, SafetensorError):
        return False


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.is_file():
        raise CheckpointError(f"there is no file {path}: give the path of a network that `seenn convert` wrote")
    with open(path, "rb") as start:
        if start.read(2) in (b"PK", b"\x80\x02"):  # what torch.save writes: a zip archive, or a bare pickle
            raise CheckpointError(
                f"{path} holds PyTorch weights, not a spiking network: `seenn convert --model NAME --ckpt {path}` "
                "makes one of them"
            )
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
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
        raise CheckpointError(f"the metadata's {key!r} is not JSON: {error}") from error


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
