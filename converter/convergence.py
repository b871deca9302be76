"""Does a spiking network approach its ANN as it runs on, as one that computes the same function must?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seenn.core.graph import INPUT, schedule
from seenn.core.network import SpikingNetwork
from seenn.core.ops import CumulativeDifference, StatefulOp


def convergence(network: SpikingNetwork, images: Tensor, timesteps: Sequence[int] = (8, 32, 128)) -> tuple[float, ...]:
    """‖mean logits after T steps − the ANN's‖ / ‖the ANN's‖ for each T: the root mean square over the images.

    Membranes hold a bounded charge, so that the error of a network that is right falls as 1/T.
    """
    with torch.no_grad():
        expected = network.analog()(images)
        sums = _outputs(network, images, max(timesteps)).cumsum(0)
        scale = expected.norm(dim=-1)
        return tuple(
            float(((sums[t - 1] / t - expected).norm(dim=-1) / scale).square().mean().sqrt()) for t in timesteps
        )


def _outputs(network: SpikingNetwork, images: Tensor, timesteps: int) -> Tensor:
    """What the network returns in every step, ``[T, B, K]``.

    All steps of a layer before the next layer: the same numbers as step by step, from a few large calls.
    """
    constant = {INPUT, *network.prefix}
    values = {INPUT: images}  # [B, ...] while it is constant, else [T, B, ...]
    for node, done in schedule(network.graph.nodes, (network.graph.output,)):
        op, inputs = node.op, [values[name] for name in node.inputs]
        if node.name in constant:
            values[node.name] = op.constant(*inputs) if isinstance(op, CumulativeDifference) else op(*inputs)
        else:
            over_time = [
                value.expand(timesteps, *value.shape) if name in constant else value
                for name, value in zip(node.inputs, inputs, strict=True)
            ]
            if isinstance(op, StatefulOp):
                values[node.name] = _run(op, over_time)
            else:
                merged = op(*(value.flatten(0, 1) for value in over_time))
                values[node.name] = merged.reshape(timesteps, len(images), *merged.shape[1:])
        for name in done:
            del values[name]
    output = values[network.graph.output]
    return output.expand(timesteps, *output.shape) if network.graph.output in constant else output


def _run(op: StatefulOp, inputs: list[Tensor]) -> Tensor:
    state = op.initial_state(*(value[0] for value in inputs))
    outputs = []
    for step in zip(*inputs, strict=True):
        output, state = op.step(step, state)
        outputs.append(output)
    return torch.stack(outputs)
