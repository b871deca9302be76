from __future__ import annotations

from typing import Any

import pytest
import torch
from runs import run
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

import seenn
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import CumulativeDifference, IFNeuron, LIFNeuron, Linear, MaxPool2d
from seenn.errors import UnsupportedError
from seenn.models import MODELS, build_spiking_model

T, B = 3, 4


def _network(name: str = "spiking_small", neuron: type[LIFNeuron] | type[IFNeuron] = LIFNeuron) -> SpikingNetwork:
    torch.manual_seed(0)
    size = (16, 16) if "vgg" in name else (8, 8)
    module = build_spiking_model(name, neuron, in_chans=2, num_classes=3, image_size=size, width=0.0625)
    network = seenn.capture(module.train(), torch.zeros(2, 2, *size))
    for op in network.modules():
        if isinstance(op, seenn.core.ops.BatchNorm):
            op.running_var.fill_(0.02)  # in evaluation, neurons fire, and not always
    return network


def _images(network: SpikingNetwork, *lead: int) -> Tensor:
    return torch.rand(*lead, *network.input_shape, generator=torch.Generator().manual_seed(1)) * 2


def _step_by_step(network: SpikingNetwork, x: Tensor, timesteps: int) -> Tensor:
    state, outputs = None, []
    for t in range(timesteps):
        output, state = network.step(x[t] if x.dim() == 5 else x, state)
        outputs.append(output)
    return torch.stack(outputs)


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("neuron", [LIFNeuron, IFNeuron])
@pytest.mark.parametrize("sequence", [False, True])
def test_all_steps_at_once_are_the_steps_one_by_one(
    name: str, neuron: type[LIFNeuron] | type[IFNeuron], sequence: bool
) -> None:
    network = _network(name, neuron).eval().double()
    x = _images(network, T, B).double() if sequence else _images(network, B).double()
    with torch.no_grad():
        outputs = network.unroll(x, T)
        torch.testing.assert_close(outputs, _step_by_step(network, x, T))
        found = run(network, x, None, T)
    torch.testing.assert_close(found.logits_sum_per_step, outputs.cumsum(0))
    assert not torch.equal(outputs[0], outputs[1])


def test_normalisation_learns_over_time_and_batch_together() -> None:
    network = _network()
    x = _images(network, T, B)
    network.unroll(x, T)
    first = next(op for op in network.modules() if isinstance(op, seenn.core.ops.BatchNorm))
    conv = next(op for op in network.modules() if isinstance(op, seenn.core.ops.Conv2d))
    mean = conv(x.flatten(0, 1)).mean((0, 2, 3))
    torch.testing.assert_close(first.running_mean, 0.1 * mean)


def test_a_constant_image_passes_the_first_convolution_once() -> None:
    network = _network()
    seen: list[int] = []
    convs = [op for op in network.modules() if isinstance(op, seenn.core.ops.Conv2d)]
    for conv in convs:
        conv.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    network.unroll(_images(network, B), T)
    assert seen == [B, T * B, T * B]


def test_a_value_from_before_the_neurons_may_be_added_after_them() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.neuron, self.last = nn.Linear(4, 4), LIFNeuron(0.3), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            current = self.first(x)
            return self.last(self.neuron(current) + current)  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network = seenn.capture(Skip(), torch.zeros(2, 4))
    x = torch.randn(B, 4)
    torch.testing.assert_close(network.unroll(x, T), _step_by_step(network, x, T))


def test_gradients_reach_every_weight() -> None:
    network = _network("spiking_resnet19")
    network.unroll(_images(network, B), T).square().mean().backward()
    weights = [p for name, p in network.named_parameters() if "v_" not in name]
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in weights)


def test_samples_leave_a_sequence_as_they_leave_a_batch_of_images() -> None:
    network = _network().eval()
    x = _images(network, T, 6)
    with torch.no_grad():
        full = run(network, x, None, T)
        confidence = full.logits_sum_per_step.softmax(-1).amax(-1)
        policy = seenn.ConfidenceExit(threshold=float(confidence[0].median()))
        found = run(network, x, policy, T)
    assert len(found.exit_timestep.unique()) > 1
    at = full.logits_sum_per_step[found.exit_timestep - 1, torch.arange(6)]
    torch.testing.assert_close(found.logits_sum, at)


def test_a_sequence_of_another_length_is_refused() -> None:
    network = _network()
    message = "and 4 timesteps were asked for: give as many as it has, or divide the events"
    with pytest.raises(ValueError, match=f"the sequence has 3 frames {message}"):
        network.unroll(_images(network, T, B), 4)
    with pytest.raises(ValueError, match=f"sample 0 has 3 frames {message}"):
        run(network, _images(network, T, B), None, 4)
    with pytest.raises(ValueError, match="there are no samples to run"):
        run(network, _images(network, T, 0), None, T)


def test_memory_before_the_first_neuron_needs_constant_images() -> None:
    nodes = [
        Node("pool", CumulativeDifference(MaxPool2d(kernel=2, stride=2)), (INPUT,)),
        Node("neuron", IFNeuron(), ("pool",)),
        Node("flat", seenn.core.ops.Flatten(), ("neuron",)),
        Node("head", Linear(torch.ones(2, 4)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 4, 4))
    with pytest.raises(UnsupportedError, match=r"pool before the first neuron can only be run on constant images"):
        network.unroll(torch.zeros(T, B, 1, 4, 4), T)
    torch.testing.assert_close(
        network.unroll(torch.ones(B, 1, 4, 4), T), _step_by_step(network, torch.ones(B, 1, 4, 4), T)
    )


def test_a_leaky_network_has_no_analog_twin() -> None:
    with pytest.raises(UnsupportedError, match=r"the neurons 2, 5, 8 leak, so that their mean output is no activation"):
        _network().analog()
    assert "lif" in _network().describe()


@pytest.mark.parametrize("name", sorted(MODELS))
@pytest.mark.parametrize("sequence", [False, True])
@pytest.mark.parametrize("amp", [False, True])
def test_saving_memory_changes_neither_outputs_nor_gradients_nor_what_is_learned(
    name: str, sequence: bool, amp: bool
) -> None:
    found = []
    for save_memory in (False, True):
        network = _network(name)
        images = _images(network, T, B) if sequence else _images(network, B)
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            outputs = network.unroll(images, T, save_memory=save_memory)
        outputs.float().square().mean().backward()
        learned = [p for name, p in network.named_parameters() if "v_" not in name]
        assert all(p.grad is not None for p in learned)
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        found.append([outputs, *network.buffers(), *gradients])
    assert all(torch.equal(plain, saved) for plain, saved in zip(*found, strict=True))


class _Memory(TorchDispatchMode):
    """Which memory the operations inside have made, and how much of it is still held by anyone."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(value, Tensor):
                storage = value.untyped_storage()
                self.made[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        return result

    def held(self) -> int:
        return sum(size for storage, size in self.made.values() if not storage.expired())


def test_saving_memory_remembers_less() -> None:
    network = _network("spiking_resnet19")
    held = []
    for save_memory in (False, True):
        with _Memory() as memory:
            outputs = network.unroll(_images(network, 8), 8, save_memory=save_memory)
        assert outputs.requires_grad
        held.append(memory.held())
    assert held[1] < held[0] / 3
