"""The same layers with other libraries' neurons: what a user of those would run.

Each gets its best form here: all timesteps in one batch, the first layer computed once an image, the network's own
charge at the start, or half a threshold where that is another. sinabs' neurons fire several spikes a step; the others
one, so their threshold is the largest activation.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import IFNeuron, StatelessOp
from seenn.core.ops.arguments import per_channel

Charge = Callable[[Tensor], Tensor]  # currents [T, B, ...] in thresholds to spikes


def spikingjelly() -> Charge:
    """SpikingJelly's multi-step mode."""
    from spikingjelly.activation_based import functional, neuron

    node = neuron.IFNode(v_threshold=1.0, v_reset=None, step_mode="m")

    def fire(currents: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(currents)

    return fire


def sinabs() -> Charge:
    """sinabs takes time as the second axis."""
    import sinabs.layers as layers

    node = layers.IAF(spike_threshold=torch.tensor(1.0))

    def fire(currents: Tensor) -> Tensor:
        node.reset_states()
        return node(currents.transpose(0, 1)).transpose(0, 1)

    return fire


def snntorch() -> Charge:
    """snnTorch's neuron, step by step."""
    import snntorch

    node = snntorch.Leaky(beta=1.0, threshold=1.0, reset_mechanism="subtract")

    def fire(currents: Tensor) -> Tensor:
        membrane, spikes = torch.zeros_like(currents[0]), []
        for current in currents:
            spike, membrane = node(current, membrane)
            spikes.append(spike)
        return torch.stack(spikes)

    return fire


PEERS = {"SpikingJelly": spikingjelly, "sinabs": sinabs, "snnTorch": snntorch}
SEVERAL_SPIKES = ("sinabs",)


def runner(network: SpikingNetwork, peer: str, timesteps: int) -> Callable[[Tensor], Tensor]:
    """The network with a peer's neurons: images to mean scores ``[B, K]`` over ``timesteps`` steps."""
    layers, charge = network.graph, PEERS[peer]()

    def run(images: Tensor) -> Tensor:
        batch = len(images)

        def visit(node: Node, inputs: tuple[Tensor, ...]) -> Tensor:
            op = node.op
            if isinstance(op, IFNeuron):
                x = op.current(inputs[0], op.axis)
                x = x.expand(timesteps, *x.shape) if len(x) == batch else x.view(timesteps, batch, *x.shape[1:])
                threshold, start = (per_channel(value, x[0], op.axis) for value in (op.v_threshold, op.v_init))
                if peer not in SEVERAL_SPIKES and op.max_spikes > 1:
                    threshold, start = threshold * op.max_spikes, torch.tensor(0.5)
                currents = x / threshold
                currents[0] += start
                return (charge(currents) * threshold).flatten(0, 1)
            assert isinstance(op, StatelessOp), f"{node.name}: peers have no {op.kind}"
            return op(*inputs)

        with torch.inference_mode():
            scores = layers.evaluate(images.contiguous(memory_format=torch.channels_last), {layers.output}, visit)
            return scores[layers.output].view(timesteps, batch, -1).mean(0)

    return run
