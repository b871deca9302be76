"""The canonical ANN graph: synapses, joins, pooling and activations; nothing else, and still the same function."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from converter.passes.batch_norm import fold_batch_norm
from converter.passes.max_pool import move_max_pool
from seenn.core.graph import OpGraph
from seenn.errors import ConversionError

_TOLERANCE = 1e-9  # relative to the largest logit, in float64


def normalise(graph: OpGraph, input_shape: Sequence[int]) -> OpGraph:
    """Folds normalisation and moves max-pools before their activations; idempotent.

    ``input_shape`` is ``(C, H, W)`` of one image.
    """
    return move_max_pool(fold_batch_norm(graph, input_shape))


def prove_equal(source: nn.Module, graph: OpGraph, images: Tensor) -> float:
    """Runs both, in the float64 they are given in, and returns the largest difference, relative.

    Args:
        source: the model as it came, in float64.
        graph: its normalised graph, in float64, so that folding has not rounded anything.
        images: ``[B, C, H, W]``, float64.

    Raises:
        ConversionError: the difference is above 1e-9: folding or tracing has changed the function.
    """
    with torch.no_grad():
        expected, actual = source(images), graph(images)
    if expected.shape != actual.shape:
        raise ConversionError(f"the source returns shape {list(expected.shape)}, its graph {list(actual.shape)}")
    difference = float((expected - actual).abs().max() / expected.abs().max().clamp_min(1e-30))
    if not difference <= _TOLERANCE:
        raise ConversionError(
            f"the normalised graph differs from the source by {difference:.1e} of its largest output in float64 "
            f"(at most {_TOLERANCE:.0e} is allowed): the model behaves differently when traced, for example "
            "because it has randomness or state of its own"
        )
    return difference
