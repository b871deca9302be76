"""The canonical ANN graph: synapses, joins, pooling and activations; nothing else, and still the same function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from converter.passes.batch_norm import fold_batch_norm
from converter.passes.gains import fold_gains
from converter.passes.max_pool import move_max_pool
from seenn.capture.state import WorkingCopy, run_apart, tensors_in
from seenn.core.graph import OpGraph
from seenn.errors import ConversionError

_TOLERANCE = 1e-9  # relative to the largest logit, in float64


def normalise(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Folds normalisation and gains, and moves max-pools before their activations; idempotent.

    ``input_shape`` is ``(C, H, W)`` of one image.
    """
    return move_max_pool(fold_gains(fold_batch_norm(graph, input_shape), input_shape))


def verify_equivalent(
    source: Callable[[Tensor], Tensor],
    other: Callable[[Tensor], Tensor],
    inputs: Tensor,
    *,
    what: str = "the normalised graph",
) -> float:
    """Runs both, in the float64 they are given in, and returns the largest difference, relative to the largest output.

    Args:
        source: the model as it came, in float64.
        other: what has become of it, in float64, so that folding has not rounded anything.
        inputs: what both take, float64.
        what: the other one in words.

    Raises:
        ConversionError: the difference is above 1e-9: they are not the same function; or the source's outputs are not
            finite.
    """
    with torch.no_grad():
        expected, actual = source(inputs.clone()), other(inputs)  # a model may write into what it is given
    if expected.shape != actual.shape:
        raise ConversionError(
            f"the source returns shape {list(expected.shape)}, {what} {list(actual.shape)}; please report this model"
        )
    if not _is_finite(expected):
        raise ConversionError(
            f"the model itself answers NaN or infinite values{_first_not_finite(source, inputs)}: load a sound "
            "checkpoint, or mend what it computes"
        )
    largest = expected.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
    difference = float((expected - actual).abs().max() / largest)
    if not difference <= _TOLERANCE:
        raise ConversionError(
            f"{what} differs from the source by {difference:.1e} of its largest output in float64 "
            f"(at most {_TOLERANCE:.0e} is allowed): the model behaves differently when traced, for example "
            "because it has randomness or state of its own, or branches on the batch size: take that out"
        )
    return difference


def _first_not_finite(source: Callable[[Tensor], Tensor], inputs: Tensor) -> str:
    """``", first in bn (BatchNorm2d)"``: the module that makes such values of finite ones."""
    first: list[str] = []

    def compare(said: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, given: Any, returned: Any) -> None:
            if all(map(_is_finite, tensors_in(given))) and not all(map(_is_finite, tensors_in(returned))):
                first.append(said)

        return hook

    if not isinstance(source, nn.Module):
        return ""
    with WorkingCopy(source) as copied:
        for path, module in copied.model.named_modules():
            if path:
                module.register_forward_hook(compare(f", first in {path} ({type(module).__name__})"))
        run_apart(copied.model, (inputs,))
    return first[0] if first else ""


def _is_finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())
