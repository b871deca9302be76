"""One ``.safetensors`` file: tensors, graph, preprocessing, manifest and exit policy. No code.

The tensors are the ops' parameters under ``<node>.<tensor>``. The metadata holds JSON under these keys:

=================  =====================================================================================
``seenn``          format version, ``"1"``
``graph``          input shape, output node, and per node: name, op kind, attributes, inputs
``preprocessing``  how a raw image becomes the network's input, or null
``manifest``       where the network comes from: source, recipe, T, data fingerprints, seed, versions, report
``policy``         the calibrated exit policy, or null
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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from seenn.data.preprocessing import Preprocessing
from seenn.errors import CheckpointError
from seenn.exits.policy import ExitPolicy, policy_from_json, policy_to_json
from seenn.files import atomic_path
from seenn.graph import Node, OpGraph
from seenn.network import SpikingNetwork
from seenn.ops import make_op
from seenn.ops.base import op_class

VERSION = "1"
_MOST_NODES = 100_000
_LARGEST_VALUE = 1 << 31  # elements of one activation for one image
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network with all that is needed to use it and to know where it comes from."""

    network: SpikingNetwork
    preprocessing: Preprocessing | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)  # JSON
    policy: ExitPolicy | None = None

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
        ValueError: the manifest is not JSON.
    """
    graph = checkpoint.network.graph
    tensors: dict[str, Tensor] = {}
    nodes = []
    for node in graph:
        for name, tensor in node.op.tensors().items():
            tensors[f"{node.name}.{name}"] = tensor.detach().cpu().contiguous().clone()
        nodes.append({"name": node.name, "op": node.op.kind, "config": node.op.config(), "inputs": list(node.inputs)})
    _check_tensors(tensors)
    preprocessing = checkpoint.preprocessing
    parts: dict[str, Any] = {
        "graph": {
            "input_shape": list(checkpoint.network.input_shape),
            "output": graph.output,
            "nodes": nodes,
        },
        "preprocessing": None if preprocessing is None else preprocessing.to_json(),
        "manifest": dict(checkpoint.manifest),
        "policy": None if checkpoint.policy is None else policy_to_json(checkpoint.policy),
    }
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


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads what ``save`` wrote; bit for bit the same network.

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
        network = _network(_json(metadata, "graph"), tensors)
        preprocessing, policy = _json(metadata, "preprocessing"), _json(metadata, "policy")
        manifest = _json(metadata, "manifest")
        if not isinstance(manifest, dict):
            raise CheckpointError(f"the manifest must be an object, got {type(manifest).__name__}")
        return Checkpoint(
            network=network,
            preprocessing=None if preprocessing is None else Preprocessing.from_json(preprocessing),
            manifest=manifest,
            policy=None if policy is None else policy_from_json(policy),
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
    if not isinstance(description, dict) or not isinstance(description.get("nodes"), list):
        raise CheckpointError("the graph must be an object with a list of nodes")
    if len(description["nodes"]) > _MOST_NODES:
        raise CheckpointError(f"the graph has {len(description['nodes'])} nodes; at most {_MOST_NODES} are read")
    _check_tensors(tensors)
    unused = dict(tensors)
    nodes = [_node(item, unused) for item in description["nodes"]]
    if unused:
        raise CheckpointError(f"{len(unused)} tensors belong to no node: {', '.join(sorted(unused)[:8])}")
    shape = description.get("input_shape")
    if (
        not isinstance(shape, list)
        or not 1 <= len(shape) <= 4
        or not all(type(n) is int and 0 < n < 1 << 20 for n in shape)
    ):
        raise CheckpointError(f"input_shape must be 1 to 4 positive integers, got {shape!r}")
    try:
        network = SpikingNetwork(OpGraph(nodes, str(description.get("output"))), shape)
    except ValueError as error:
        raise CheckpointError(str(error)) from error
    _check_shapes(network)
    return network.eval()


def _check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Finite weights of one floating-point type: what a network can compute with."""
    if foreign := sorted(f"{name} ({t.dtype})" for name, t in tensors.items() if t.dtype not in _DTYPES):
        raise CheckpointError(f"{len(foreign)} tensors are not floating-point weights: {', '.join(foreign[:8])}")
    if len(types := sorted({str(t.dtype) for t in tensors.values()})) > 1:
        raise CheckpointError(f"the tensors are of several types, {' and '.join(types)}: cast the network to one")
    if bad := sorted(name for name, t in tensors.items() if not bool(t.isfinite().all())):
        raise CheckpointError(f"{len(bad)} tensors hold NaN or infinite values: {', '.join(bad[:8])}")


def _node(item: Any, unused: dict[str, Tensor]) -> Node:
    if not isinstance(item, dict):
        raise CheckpointError(f"a node must be an object, got {type(item).__name__}")
    name, kind, inputs, config = (item.get(key) for key in ("name", "op", "inputs", "config"))
    if not isinstance(name, str) or not 0 < len(name) <= 512:
        raise CheckpointError(f"a node's name must be a string of 1 to 512 characters, got {name!r}")
    if not isinstance(kind, str) or not isinstance(config, dict):
        raise CheckpointError(f"node {name!r} must name an op and give its attributes")
    if not isinstance(inputs, list) or not all(isinstance(i, str) for i in inputs):
        raise CheckpointError(f"node {name!r} must list the names of its inputs")
    try:
        keys = {tensor: f"{name}.{tensor}" for tensor in op_class(kind).tensor_names}
        found = {tensor: unused.pop(key) for tensor, key in keys.items() if key in unused}
        return Node(name, make_op(kind, config, found), tuple(inputs))
    except CheckpointError as error:
        raise CheckpointError(f"node {name!r}: {error}") from error


def _check_shapes(network: SpikingNetwork) -> None:
    """Runs shapes only (no memory, no arithmetic): a graph that does not fit together is refused here."""
    try:
        shapes = network.graph.shapes(network.input_shape)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = str(error).strip().splitlines()
        raise CheckpointError(f"the graph's shapes do not fit together: {reason[0] if reason else error!r}") from error
    for name, shape in shapes.items():
        if math.prod(shape) > _LARGEST_VALUE:
            raise CheckpointError(f"node {name!r} would compute {list(shape)} values per image: refused")
    if len(shapes[network.graph.output]) != 1:
        raise CheckpointError(f"the output must be one score per class, got shape {list(shapes[network.graph.output])}")
