"""Does a spiking network approach its ANN as it runs on, as one that computes the same function must?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.network import SpikingNetwork


def convergence(network: SpikingNetwork, images: Tensor, timesteps: Sequence[int] = (8, 32, 128)) -> tuple[float, ...]:
    """‖mean logits after T steps − the ANN's‖ / ‖the ANN's‖ for each T, from one run.

    Membranes hold a bounded charge, so that the error of a network that is right falls as 1/T.
    """
    with torch.no_grad():
        expected = network.analog()(images)
        current, state, total = network.encode(images), None, torch.zeros_like(expected)
        errors = {}
        for t in range(1, max(timesteps) + 1):
            output, state = network.advance(current, state, in_place=True)
            total += output
            if t in timesteps:
                errors[t] = float((total / t - expected).norm() / expected.norm())
    return tuple(errors[t] for t in timesteps)
