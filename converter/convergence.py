"""Does a spiking network approach its ANN as it runs on, as one that computes the same function must?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork, evaluating


def convergence(network: SpikingNetwork, images: Tensor, timesteps: Sequence[int] = (8, 32, 128)) -> tuple[float, ...]:
    """‖mean logits after T steps − the ANN's‖ / ‖the ANN's‖ for each T: the root mean square over the images.

    Membranes hold a bounded charge, so that the error of a network that is right falls as 1/T.
    """
    with torch.no_grad(), evaluating(network):
        expected = network.analog()(images)
        sums = network.unroll(images, max(timesteps)).cumsum(0)
        scale = expected.norm(dim=-1)
        return tuple(
            float(((sums[t - 1] / t - expected).norm(dim=-1) / scale).square().mean().sqrt()) for t in timesteps
        )
