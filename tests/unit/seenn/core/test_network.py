from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork, compact, evaluating
from seenn.core.ops import BatchNorm, Conv2d, CumulativeDifference, IFNeuron, Linear, MaxPool2d, Multiply, ReLU
from seenn.errors import UnsupportedError
from seenn.exits import FixedExit
from seenn.runtime import Session
from seenn.runtime.engines.reference import ReferenceEngine


def run(network: SpikingNetwork, images: Tensor, timesteps: int) -> list[Tensor]:
    outputs, state = [], None
    for _ in range(timesteps):
        output, state = network.step(images, state)
        outputs.append(output)
    return outputs


def test_encode_then_advance_is_step_and_forward_is_their_mean(network: SpikingNetwork, images: Tensor) -> None:
    stepped = run(network, images, 4)
    current, state = network.encode(images), None
    for expected in stepped:
        output, state = network.advance(current, state)
        assert torch.equal(output, expected)
    torch.testing.assert_close(network(images, 4), torch.stack(stepped).mean(0), rtol=1e-14, atol=0)


def test_the_prefix_is_computed_once_an_image(network: SpikingNetwork, images: Tensor) -> None:
    calls = dict.fromkeys(("conv1", "conv2"), 0)
    for name in calls:
        op = network.graph[name].op
        op.register_forward_hook(lambda *_, name=name: calls.update({name: calls[name] + 1}))
    session = Session(ReferenceEngine(network), FixedExit(), 6)
    session.run(Batch(images))
    calls.update(conv1=0, conv2=0)  # the first run probes the shapes too
    session.run(Batch(images))
    assert calls == {"conv1": 1, "conv2": 6}
    assert network.prefix == {"conv1"}


def test_rows_of_the_state_are_independent_samples(network: SpikingNetwork, images: Tensor) -> None:
    order = torch.tensor([7, 2, 9])
    _, state = network.step(images)
    _, state = network.step(images, state)
    assert all(len(tensor) == len(images) for tensor in state)
    expected, _ = network.step(images, state)
    kept, _ = network.step(images[order], compact(state, order))
    torch.testing.assert_close(kept, expected[order], rtol=1e-12, atol=1e-12)


def test_state_layout_names_every_state_tensor(network: SpikingNetwork, images: Tensor) -> None:
    _, state = network.step(images)
    assert network.state_layout == (
        ("relu1", "v"), ("relu1", "net_count"), ("relu2", "v"), ("relu2", "net_count"),
    )  # fmt: skip
    assert len(state) == 4
    with pytest.raises(ValueError, match="the state has 3 tensors; this network's has 4"):
        network.step(images, state[:3])


def test_with_gradients_the_outputs_are_the_same_bit_for_bit(network: SpikingNetwork, images: Tensor) -> None:
    plain = torch.stack(run(network, images, 3))
    network.requires_grad_(True)
    images.requires_grad_(True)
    tracked = torch.stack(run(network, images, 3))
    assert torch.equal(plain, tracked)
    tracked.square().sum().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
    assert images.grad is not None
    assert bool((images.grad != 0).any())


def test_describe_is_a_readable_table() -> None:
    nodes = [
        Node("conv", Conv2d(torch.ones(4, 1, 3, 3), torch.zeros(4), padding=1), (INPUT,)),
        Node("relu", IFNeuron(torch.ones(4), signed=True, max_spikes=4), ("conv",)),
        Node("pool", CumulativeDifference(MaxPool2d(kernel=8, stride=8)), ("relu",)),
        Node("head", Conv2d(torch.ones(10, 4, 1, 1)), ("pool",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8))
    assert network.describe().splitlines() == [
        "node  op                       output  parameters  runs",
        "----  -----------------------  ------  ----------  ---------",
        "conv  conv2d                   4×8×8   40          once",
        "relu  signed (up to 4 spikes)  4×8×8   5           each step",
        "pool  cumulative max_pool2d    4×1×1   0           each step",
        "head  conv2d                   10×1×1  40          each step",
        "1 neuron site, 1 function of running means, 85 parameters",
    ]


def test_the_analog_twin_has_the_activations_that_the_neurons_stand_for() -> None:
    nodes = [
        Node("l1", Linear(torch.eye(3)), (INPUT,)),
        Node("relu6", IFNeuron(2.0, bias=torch.ones(3), ceiling=6.0), ("l1",)),
        Node("l2", Linear(torch.eye(3)), ("relu6",)),
        Node("relu", IFNeuron(2.0), ("l2",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "relu"), (3,))
    x = torch.tensor([[-1.0, 5.0, 9.0]])
    assert network.analog()(x).tolist() == [[0.0, 5.0, 6.0]]
    assert isinstance(network.analog()["relu"].op, ReLU)


def test_memory_does_not_grow_with_the_timesteps(network: SpikingNetwork, images: Tensor) -> None:
    def peak(run: Callable[[int], object], timesteps: int) -> int:
        with PeakBytes() as memory:
            run(timesteps)
        return memory.peak

    def session(timesteps: int) -> None:
        Session(ReferenceEngine(network), FixedExit(), timesteps).run(Batch(images))

    session(1)  # finds the shapes, by a probe with memory of its own
    assert peak(session, 64) <= 1.05 * peak(session, 8)
    network.requires_grad_(True)
    assert peak(session, 64) <= 1.05 * peak(session, 8)

    def forward(timesteps: int) -> Tensor:  # autograd keeps every step: the meter sees what is kept
        return network(images, timesteps)

    assert peak(forward, 64) > 4 * peak(forward, 8)


class PeakBytes(TorchDispatchMode):
    """Bytes of all tensors alive that were made inside, at their largest."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size


def test_wrong_images_are_refused_by_shape_and_type(network: SpikingNetwork, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must have shape \[B, 2, 6, 6\], got \[12, 6, 6\]"):
        network.step(images[:, 0])
    with pytest.raises(ValueError, match=r"images are torch.uint8, the network computes in torch.float64: preprocess"):
        network.step(images.to(torch.uint8))
    with pytest.raises(ValueError, match="timesteps must be an integer from 1"):
        network(images, 0)


def test_a_network_needs_a_neuron() -> None:
    with pytest.raises(ValueError, match="needs at least one neuron"):
        SpikingNetwork(OpGraph([Node("r", ReLU(), (INPUT,))], "r"), (3,))


def test_a_product_of_values_without_a_common_time_is_refused() -> None:
    nodes = [Node("a", IFNeuron(1.0), (INPUT,)), Node("square", Multiply(), ("a", "a"))]
    with pytest.raises(ValueError, match=r"the operands of 'square' \(multiply\) have no common time: .* Incremental"):
        SpikingNetwork(OpGraph(nodes, "square"), (3,))


def test_a_product_with_what_the_image_determines_takes_one_image_at_all_times() -> None:
    nodes = [Node("a", IFNeuron(1.0), (INPUT,)), Node("gate", Multiply(), ("a", INPUT))]
    network = SpikingNetwork(OpGraph(nodes, "gate"), (3,))
    assert network.running_means == ()
    assert "gate multiply by what the image alone determines" in str(network.no_frames)
    torch.testing.assert_close(network(torch.tensor([[0.5, 0.25, -1.0]]), 4), torch.tensor([[0.25, 0.0625, 0.0]]))
    with pytest.raises(UnsupportedError, match="they take constant images, got a sequence"):
        network.unroll(torch.zeros(2, 1, 3), 2)


def test_a_deep_copy_is_independent(network: SpikingNetwork, images: Tensor) -> None:
    expected = run(network, images, 2)[1]
    other = copy.deepcopy(network).float()
    assert network.graph["conv1"].op.tensors()["weight"].dtype == torch.float64
    assert torch.equal(run(network, images, 2)[1], expected)
    assert run(other, images.float(), 1)[0].dtype == torch.float32


def test_evaluating_gives_every_part_its_own_mode_back() -> None:
    frozen = BatchNorm(torch.zeros(2), torch.ones(2)).eval()
    module = torch.nn.Sequential(frozen, torch.nn.Dropout())

    def fail() -> None:
        with evaluating(module):
            assert not any(part.training for part in module.modules())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [part.training for part in module.modules()] == [True, False, True]
