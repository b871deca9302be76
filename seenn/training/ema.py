"""Exponentially averaged weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Averaged:
    """A copy of a module whose weights follow it: w̄ ← d·w̄ + (1 − d)·w, d = min(decay, (1 + n)/(10 + n)).

    n counts the steps, so that the random start is forgotten soon. Running statistics are averaged alike.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = copy.deepcopy(module).requires_grad_(False).eval()
        self.decay = decay

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves towards ``module`` after its step number ``step``, from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        new = module.state_dict()
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                average.lerp_(new[name], weight)
            else:
                average.copy_(new[name])
