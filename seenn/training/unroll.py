"""A spiking network over time as one module: what training calls."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seenn.core.network import SpikingNetwork
from seenn.core.ops import State
from seenn.core.ops.arguments import integer


class Unrolled(nn.Module):
    """Images ``[B, C, H, W]`` in, ``logits_mean`` after t = 1 … T steps out, ``[T, B, K]``.

    Args:
        network: trained through its surrogate gradients.
        timesteps: T.
        save_memory: keep the membranes at log2(T) points of time only, and compute the steps between them
            again in the backward pass. Peak memory is then that of one step and log2(T) + 1 sets of membranes
            instead of T steps, for log2(T) more forward passes.
    """

    def __init__(self, network: SpikingNetwork, timesteps: int, *, save_memory: bool = False) -> None:
        super().__init__()
        network.refuse_training()
        self.network = network
        self.timesteps = integer("timesteps", timesteps, low=1)
        self.save_memory = save_memory

    def forward(self, images: Tensor) -> Tensor:
        current = self.network.encode(images)
        outputs, _ = self._steps(current, None, self.timesteps)
        t = torch.arange(1, self.timesteps + 1, dtype=outputs[0].dtype, device=images.device)
        return torch.stack(outputs).cumsum(0) / t.view(-1, 1, 1)

    def _steps(self, current: State, state: State | None, count: int) -> tuple[tuple[Tensor, ...], State]:
        """``count`` steps: their outputs, and the state after them. Halves are remembered by their start."""
        if count == 1:
            output, state = self.network.advance(current, state)
            return (output,), state
        if not self.save_memory:
            first, middle = self._steps(current, state, 1)
            rest, end = self._steps(current, middle, count - 1)
            return first + rest, end
        early = count // 2
        first, middle = checkpoint(self._steps, current, state, early, use_reentrant=False)
        rest, end = checkpoint(self._steps, current, middle, count - early, use_reentrant=False)
        return first + rest, end
