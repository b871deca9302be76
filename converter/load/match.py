"""Weights into a module: every name and every shape must agree."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from converter.load.layout import find_first_convolution, find_head
from converter.load.names import name_as_in
from converter.load.weights import Weights
from seenn.errors import CheckpointError

logger = logging.getLogger(__name__)

_LISTED = 4

#: Entries that do not change what a network in eval mode computes.
_BOOKKEEPING = "num_batches_tracked"


def load_tensors(module: nn.Module, weights: Weights, *, name: str, ema: bool = False) -> tuple[str, ...]:
    """Copies the weights of a file into ``module``, half precision as float32; returns what is worth to be known.

    Raises:
        CheckpointError: names or shapes differ (the message lists them and the likeliest fix), values are not finite,
            or see :func:`converter.load.names.name_as_in`.
    """
    file, own = weights.file, module.state_dict()
    named = name_as_in(own, weights, ema=ema)
    given = {key: _to_float32(tensor) for key, tensor in named.tensors.items()}
    missing = [key for key in own if key not in given and not key.endswith(_BOOKKEEPING)]
    unexpected = [key for key in given if key not in own]
    different = [key for key, tensor in own.items() if key in given and not _fits(given[key], tensor)]
    if missing or unexpected or different:
        types = [key for key in different if given[key].shape == own[key].shape]
        shapes = [f"{key} ({_kind(given[key])}, expected {_kind(own[key])})" for key in different]
        parts = [
            _listing("missing", missing, len(own)),
            _listing("unexpected", unexpected, len(given)),
            _listing("of another shape or type", shapes, len(own)),
        ]
        raise CheckpointError(
            f"{file} does not fit {name}: {len(own) - len(missing) - len(different)} of {len(own)} tensors fit; "
            f"{'; '.join(part for part in parts if part)}. {_hint(module, missing, unexpected, different, types)}"
        )
    _check_finite(file, given)
    module.load_state_dict(given, strict=False)
    if named.notes:
        logger.warning("%s: %s", file, "; ".join(named.notes))
    return named.notes


def _to_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor


def _check_finite(file: object, tensors: Mapping[str, Tensor]) -> None:
    bad = {
        name: int(tensor.numel() - tensor.isfinite().sum())
        for name, tensor in tensors.items()
        if not tensor.isfinite().all()
    }
    if bad:
        listed = [f"{name} ({count} of {tensors[name].numel()})" for name, count in bad.items()]
        raise CheckpointError(
            f"{file}: values that are NaN or infinite in {len(bad)} tensors: {_first(listed)}; "
            f"the training diverged or the file is damaged: use a checkpoint from before"
        )


def _fits(given: Tensor, own: Tensor) -> bool:
    return given.shape == own.shape and given.is_floating_point() == own.is_floating_point()


def _kind(tensor: Tensor) -> str:
    shape = "×".join(str(size) for size in tensor.shape) or "scalar"
    return f"{shape} {str(tensor.dtype).removeprefix('torch.')}"


def _listing(title: str, keys: Sequence[str], total: int) -> str:
    if not keys:
        return ""
    return f"{title} ({len(keys)} of {total}): {_first(keys)}"


def _first(listed: Sequence[str]) -> str:
    rest = f", and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return ", ".join(listed[:_LISTED]) + rest


def _hint(module: nn.Module, missing: list[str], unexpected: list[str], different: list[str], types: list[str]) -> str:
    head = find_head(module).name
    if missing and not different and all(key.rpartition(".")[0] == head for key in missing):
        return f"Only the classifier {head} is not there: train it first, or give its tensors the model's names."
    if unexpected and not missing and not different:
        return "All of the model is there, and more: save the part that is meant alone, or check --model."
    if missing and not unexpected and not different:
        if not {*missing} & {key for key, _ in module.named_parameters()}:
            return "Only buffers, as running statistics, are not there: save model.state_dict(), which has them."
        return (
            "All that is there fits: save the whole model.state_dict(); or the weights are of a smaller model: check "
            "--model and --model-kwargs."
        )
    if missing or unexpected:
        return "The checkpoint is of another architecture: check --model, --stem and --model-kwargs."
    if types == different:
        return "The shapes agree and the types do not: weights are real floats: save them so, tensor.float()."
    ends = [layer.name for layer in (find_first_convolution(module),) if layer is not None] + [head]
    if all(key.rpartition(".")[0] in ends for key in different):
        return "Only the ends differ: check --num-classes, --in-chans and --stem, or leave them out."
    return "The names agree and the widths do not: check --model-kwargs (channels, widths) and --model."
