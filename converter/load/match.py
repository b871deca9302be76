"""Weights into a module: every name and every shape must agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from converter.load.layout import find_first_convolution, find_head
from converter.load.weights import common_prefix
from seenn.errors import CheckpointError

_LISTED = 12

#: Entries that do not change what a network in eval mode computes.
_BOOKKEEPING = "num_batches_tracked"
#: The training-only heads that torchvision's GoogLeNet and Inception checkpoints carry.
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")


def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor], *, file: Path, name: str) -> None:
    """Copies ``tensors`` into ``module``, whose names may all carry a wrapper prefix of its own.

    Raises:
        CheckpointError: names or shapes differ; the message lists them all and the likeliest fix.
    """
    own = module.state_dict()
    given = {
        key: tensor
        for key, tensor in named_as_in(module, tensors).items()
        if key in own or not key.startswith(_AUXILIARY_HEADS)
    }
    missing = [key for key in own if key not in given and not key.endswith(_BOOKKEEPING)]
    unexpected = [key for key in given if key not in own]
    different = [key for key, tensor in own.items() if key in given and not _fits(given[key], tensor)]
    if missing or unexpected or different:
        shapes = [f"{key} ({_kind(given[key])}, expected {_kind(own[key])})" for key in different]
        parts = [
            _listing("missing", missing, len(own)),
            _listing("unexpected", unexpected, len(given)),
            _listing("of another shape or type", shapes, len(own)),
        ]
        raise CheckpointError(
            f"{file} does not fit {name}:\n"
            + "\n".join(part for part in parts if part)
            + f"\n  {_hint(module, missing, unexpected, different)}"
        )
    module.load_state_dict(given, strict=False)


def named_as_in(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` with the prefix that all names of ``module`` carry: reading took it off as a wrapper's."""
    prefix = common_prefix(module.state_dict())
    return {prefix + key: tensor for key, tensor in tensors.items()}


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _kind(tensor: Tensor) -> str:
    shape = "×".join(str(size) for size in tensor.shape) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def _listing(title: str, keys: Sequence[str], total: int) -> str:
    if not keys:
        return ""
    rest = f", and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
    return f"  {title} ({len(keys)} of {total}): {', '.join(keys[:_LISTED])}{rest}"


def _hint(module: nn.Module, missing: list[str], unexpected: list[str], different: list[str]) -> str:
    if missing or unexpected:
        return "The checkpoint is of another architecture: check --model, --stem and --model-kwargs."
    ends = [layer.name for layer in (find_first_convolution(module), find_head(module)) if layer is not None]
    if all(key.rpartition(".")[0] in ends for key in different):
        return "Only the ends differ: check --num-classes, --in-chans and --stem, or leave them out."
    return "The names agree and the widths do not: check --model-kwargs (channels, widths) and --model."
