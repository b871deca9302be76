"""What a share of 1 means: every multiplied value is what the spikes of neurons decode to, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seenn.core.network import SpikingNetwork
from seenn.core.ops import IncrementalProduct, Neuron, StatelessOp, Synapse


def check_operands(network: SpikingNetwork, images: Tensor, timesteps: int) -> int:
    """Runs the network, and compares every operand of a step with what it decodes to; how many there were.

    Operands are those of weights and products behind the layers that are computed once an image. They are decoded from
    counts, which have to be integers, by affine ops without weights.
    """
    graph, counts, seen = network.graph, dict[str, Tensor](), 0

    def decode(name: str) -> Tensor:
        op = graph[name].op
        if isinstance(op, Neuron):
            assert torch.equal(counts[name], counts[name].round()), f"{name} fires parts of a spike"
            return op.emit(counts[name])
        assert isinstance(op, StatelessOp), f"{name} ({op.title}) is analog"
        assert op.affine, f"{name} ({op.title}) is analog"
        assert not isinstance(op, Synapse), f"{name} ({op.title}) is analog"
        decoded: Tensor = op(*map(decode, graph[name].inputs))
        return decoded

    def compare(operands: tuple[str, ...], values: tuple[Tensor, ...]) -> None:
        nonlocal seen
        for name, value in zip(operands, values, strict=True):
            if name not in constant:
                torch.testing.assert_close(decode(name), value, rtol=1e-6, atol=1e-6)
                seen += 1

    constant, undo = network.prefix, []
    for node in graph:
        op = node.op
        if node.name in constant:
            continue
        if isinstance(op, IncrementalProduct):
            step = op.step

            def watched(inputs: tuple[Tensor, ...], state: Any, names: Any = node.inputs, step: Any = step) -> Any:
                compare(names, inputs)
                return step(inputs, state)

            op.step = watched  # type: ignore[method-assign]
            undo.append(lambda op=op: op.__dict__.pop("step"))
        elif isinstance(op, Synapse) or op.bilinear:
            hook = op.register_forward_pre_hook(lambda _, values, names=node.inputs: compare(names, values))
            undo.append(hook.remove)
    try:
        with torch.no_grad():
            current, state = network.encode(images), None
            for _ in range(timesteps):
                _, state = network.advance(current, state, counts.__setitem__)
    finally:
        for each in undo:
            each()
    return seen
