"""A spiking network over time as one module: what fine-tuning calls."""

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
        """``count`` steps: their outputs, and the state after them. To save memory, each half keeps its start only."""
        outputs: tuple[Tensor, ...] = ()
        if self.save_memory and count > 1:
            for half in (count // 2, count - count // 2):
                found, state = checkpoint(self._steps, current, state, half, use_reentrant=False)
                outputs += found
        else:
            steps = []
            for _ in range(count):
                output, state = self.network.advance(current, state)
                steps.append(output)
            outputs = tuple(steps)
        assert state is not None
        return outputs, state
