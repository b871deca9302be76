"""The reference engine: float, differentiable, and the answer that every other engine is held to."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork, compact
from seenn.core.ops.arguments import integer
from seenn.errors import SeennError
from seenn.exits.policy import ExitPolicy
from seenn.runtime.predictions import Predictions

#: ``(t, rows, site, spike_count)``: which samples ran, and their counts at a site, ``[len(rows), C, ...]``; in
#: initial steps t is 0.
StepObserver = Callable[[int, Tensor, str, Tensor], None]


def run_reference(
    network: SpikingNetwork,
    images: Tensor,
    policy: ExitPolicy,
    timesteps: int,
    *,
    keep_logits: bool = False,
    observe: StepObserver | None = None,
) -> Predictions:
    """Runs one batch step by step; a sample that exits leaves the batch and costs nothing afterwards.

    Memory does not grow with ``timesteps`` unless ``keep_logits`` asks for every step's logits or autograd
    records them.

    Args:
        network: runs on its own device and in its own precision.
        images: preprocessed, ``[B, C, H, W]``, at least one; or a sequence ``[T, B, C, H, W]``, one frame a step.
        policy: who stops when; every sample stops at ``timesteps`` at the latest.
        timesteps: T ≥ 1, without initial steps.
        keep_logits: also return the summed logits after each step.
        observe: sees the spike counts of every site in every step.

    Raises:
        ValueError: no images, images of another shape or type, ``timesteps < 1``, or a sequence of another T.
        UnsupportedError: a sequence, and the network can only be run on constant images.
        SeennError: the network's outputs are not finite.
    """
    integer("timesteps", timesteps, low=1)
    sequence = network.is_sequence(images, timesteps)
    frame = images[0] if sequence else images
    if len(frame) == 0:
        raise ValueError("there are no images to run: got an empty batch")
    batch = len(frame)
    current, in_place = network.encode(frame), not torch.is_grad_enabled()
    rows = torch.arange(batch, device=images.device)
    t = torch.zeros(batch, dtype=torch.int64, device=images.device)
    rule = policy.start(frame)
    state: tuple[Tensor, ...] | None = None
    if network.initial_steps:
        watch = None if observe is None else (lambda site, count: observe(0, rows, site, count))
        state = network.start(current, watch)
    running: Tensor | None = None
    done: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    steps: list[Tensor] = []
    for step in range(1, timesteps + 1):

        def see(site: str, count: Tensor, step: int = step, rows: Tensor = rows) -> None:
            if observe is not None:
                observe(step, rows, site, count)

        if sequence and step > 1:
            current = network.encode(images[step - 1, rows])
        output, state = network.advance(current, state, see if observe is not None else None, in_place=in_place)
        running = output if running is None else running + output
        t = t + 1
        if keep_logits:
            steps.append(_scatter(running, rows, batch))
        if step == timesteps:
            stop = torch.ones_like(t, dtype=torch.bool)
        else:
            stop, rule = policy.stop(t, running, rule)
        if bool(stop.any()):
            done.append((rows[stop], t[stop], running[stop], policy.confidence(t[stop], running[stop])))
            stay = (~stop).nonzero().squeeze(1)
            if len(stay) == 0:
                break
            rows, t, running = rows[stay], t[stay], running[stay]
            current, state, rule = compact(current, stay), compact(state, stay), compact(rule, stay)
    order = torch.cat([part[0] for part in done]).argsort()
    exit_timestep, logits_sum, confidence = (torch.cat([part[i] for part in done])[order] for i in (1, 2, 3))
    if not bool(logits_sum.isfinite().all()):
        bad = int((~logits_sum.isfinite().all(-1)).nonzero()[0])
        raise SeennError(
            f"the outputs of image {bad} are not finite after {int(exit_timestep[bad])} timesteps: "
            "check the image for NaN and the network's weights"
        )
    per_step = None
    if keep_logits:
        missing = [torch.full_like(steps[0], float("nan"))] * (timesteps - len(steps))
        per_step = torch.stack(steps + missing)
    return Predictions(
        labels=logits_sum.argmax(-1),
        exit_timestep=exit_timestep,
        confidence=confidence,
        logits_sum=logits_sum,
        logits_sum_per_step=per_step,
    )


def _scatter(values: Tensor, rows: Tensor, batch: int) -> Tensor:
    full = values.new_full((batch, values.shape[-1]), float("nan"))
    return full.index_put((rows,), values)
