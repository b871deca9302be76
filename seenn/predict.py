"""Answers for images: the one call most users need."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork, evaluating
from seenn.core.ops.arguments import integer
from seenn.exits import FixedExit
from seenn.exits.policy import ExitPolicy
from seenn.runtime.predictions import Predictions
from seenn.runtime.reference import StepObserver, run_reference
from seenn.runtime.session import run_engine
from seenn.runtime.slots import Engine


def predict(
    network: SpikingNetwork,
    images: Tensor | Iterable[Tensor],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    engine: Engine | None = None,
    batch_size: int = 64,
    keep_logits: bool = False,
    observe: StepObserver | None = None,
) -> Predictions:
    """Labels, exit timesteps and confidences of images, in their order.

    Args:
        network: from ``converter.convert``, ``seenn.capture`` or ``seenn.load(path).network``; runs in
            evaluation mode, whatever mode it is in.
        images: preprocessed ``[N, C, H, W]``, a sequence ``[T, N, C, H, W]``, or an iterable of such batches.
        policy: who stops when; None runs every image for all ``timesteps``.
        timesteps: T, the most steps any image gets.
        engine: from ``seenn.runtime.make_engine`` for this network; None is the reference engine.
        batch_size: how many images a tensor is cut into, iterables keep their own batches; the slots of an
            engine.
        keep_logits: also return ``logits_sum_per_step`` ``[T, N, K]``, NaN after a sample's exit.
        observe: see ``StepObserver``; its rows count from the start of the batch.

    Raises:
        ValueError: no images, a wrong shape, ``timesteps < 1``, non-finite pixels.
        SeennError: the network's outputs are not finite.
    """
    integer("batch_size", batch_size, low=1)
    batches: Iterable[Tensor] = images
    if isinstance(images, Tensor):
        batches = torch.split(images, batch_size, dim=int(network.is_sequence(images, timesteps)))
    if engine is not None:
        return run_engine(
            engine,
            batches,
            policy or FixedExit(),
            timesteps,
            slots=min(batch_size, len(images)) if isinstance(images, Tensor) and len(images) else batch_size,
            keep_logits=keep_logits,
            observe=observe,
        )
    parts = []
    with torch.no_grad(), evaluating(network):
        for batch in batches:
            if not bool(batch.isfinite().all()):
                raise ValueError("images hold NaN or infinite pixels: check the preprocessing")
            parts.append(
                run_reference(
                    network,
                    batch.to(network.device),
                    policy or FixedExit(),
                    timesteps,
                    keep_logits=keep_logits,
                    observe=observe,
                )
            )
    if not parts:
        raise ValueError("there are no images to run: got none")
    return Predictions.concatenate(parts)
