"""What the integer engine guarantees: bit for bit the same answers, however they are computed."""

from __future__ import annotations

from ctypes import CDLL
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import run as session_run
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    Add,
    Conv2d,
    CumulativeDifference,
    Flatten,
    IFNeuron,
    LeakyReLUNeuron,
    Linear,
    MaxPool2d,
    Neuron,
)
from seenn.exits import ConfidenceExit, ExitPolicy, FixedExit, PatienceExit
from seenn.runtime import make_engine
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import DOUBLE, FLOAT32, INT8, PLAIN, DepthwiseKernel, Kernel
from seenn.runtime.lowering import Program, lower

T = 6
CPU = torch.device("cpu")
POLICIES: list[ExitPolicy] = [
    ConfidenceExit(threshold=0.999, accumulation="sum"),
    PatienceExit(patience=2),
    FixedExit(),
]
KERNELS: list[list[Kernel]] = [[INT8, FLOAT32], [FLOAT32], [PLAIN], [DOUBLE]]


Kind = tuple[str, int]  # of neuron, and the most spikes


@cache
def program(kind: Kind, seed: int) -> tuple[SpikingNetwork, Program]:
    random = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) / (torch.tensor(shape[1:]).prod().item() ** 0.5)

    def neuron() -> Neuron:
        theta, v_init = 0.2 + torch.rand(6, generator=random), torch.rand(6, generator=random)
        name, max_spikes = kind
        if name == "two-sided":
            return LeakyReLUNeuron(theta, v_init, slope=0.5 * torch.rand(6, generator=random), max_spikes=max_spikes)
        return IFNeuron(theta, v_init, signed=name == "signed", max_spikes=max_spikes)

    beside = 0.2 * torch.randn((6, 1, 3, 3), generator=torch.Generator().manual_seed(seed))
    nodes = [
        Node("conv1", Conv2d(weight(6, 1, 3, 3), weight(6, 1)[:, 0], padding=1), (INPUT,)),
        Node("n1", neuron(), ("conv1",)),
        Node("pool", CumulativeDifference(MaxPool2d(kernel=2, stride=2)), ("n1",)),
        Node("conv2", Conv2d(weight(6, 6, 3, 3), weight(6, 1)[:, 0] / 9, padding=1), ("pool",)),
        Node("n2", neuron(), ("conv2",)),
        Node("conv3", Conv2d(weight(6, 6, 3, 3), padding=1), ("n2",)),
        Node("depthwise", Conv2d(beside, padding=1, groups=6), ("n2",)),
        Node("add", Add(), ("conv3", "pool", "depthwise")),
        Node("n3", neuron(), ("add",)),
        Node("mean", AdaptiveAvgPool2d(), ("n3",)),
        Node("flat", Flatten(), ("mean",)),
        Node("head", Linear(weight(4, 6) * 4, weight(4, 1)[:, 0]), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False).eval()
    return network, lower(network, timesteps=T)


def run(
    kind: Kind,
    seed: int,
    policy: ExitPolicy,
    kernels: list[Kernel],
    tile: int,
    order: Tensor,
    slots: int,
    library: CDLL | None = None,
) -> tuple[Tensor, ...]:
    """Spikes of every image and site, labels, exits, scores and confidences, in the images' own order."""
    network, lowered = program(kind, seed)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    if library is not None:
        kernels = [DepthwiseKernel(library), *kernels]
    engine = FusedEngine(lowered, kernels, "int8", CPU, library)
    assert ("1 synapses by depthwise int8" in engine.note) is (library is not None)
    engine.tile = tile
    spikes = torch.zeros(20, len(network.sites))

    def observe(t: int, samples: Tensor, site: str, counts: Tensor) -> None:
        spikes[order[samples], network.sites.index(site)] += counts.abs().sum((1, 2, 3))

    found = session_run(engine, images[order], policy, T, slots=slots, observe=observe)
    back = order.argsort()
    answers = (found.labels, found.exit_timestep, found.logits_sum, found.confidence)
    return (spikes, *(answer[back] for answer in answers))


@cache
def alone(kind: Kind, seed: int, policy: ExitPolicy) -> tuple[Tensor, ...]:
    """One image after the other, in float64."""
    return run(kind, seed, policy, [DOUBLE], 1, torch.arange(20), 1)


@settings(max_examples=12)
@given(
    kind=st.sampled_from([("if", 1), ("if", 3), ("signed", 1), ("signed", 4), ("two-sided", 4)]),
    seed=st.integers(0, 2),
    policy=st.sampled_from(POLICIES),
    kernels=st.sampled_from(KERNELS),
    compiled=st.booleans(),
    slots=st.integers(1, 24),
    tile=st.integers(1, 24),
    threads=st.sampled_from([1, 2]),
    order=st.permutations(range(20)),
)
def test_labels_exits_spikes_and_scores_do_not_depend_on_how_they_are_computed(
    kind: Kind,
    seed: int,
    policy: ExitPolicy,
    kernels: list[Kernel],
    compiled: bool,
    slots: int,
    tile: int,
    threads: int,
    order: list[int],
) -> None:
    expected = alone(kind, seed, policy)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = run(
            kind, seed, policy, kernels, tile, torch.tensor(order), slots, native.load("engine") if compiled else None
        )
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@settings(max_examples=5)
@given(
    name=st.sampled_from(["reference", "float32", "int8"]),
    kind=st.sampled_from([("signed", 4), ("two-sided", 4)]),
    policy=st.sampled_from(POLICIES),
    slots=st.integers(1, 24),
    seed=st.integers(0, 2),
)
def test_every_engine_follows_the_network(name: str, kind: Kind, policy: ExitPolicy, slots: int, seed: int) -> None:
    network, _ = program(kind, seed)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    engine = make_engine(name, network, timesteps=T)
    found = session_run(engine, images.split(7), FixedExit(), T, slots=slots)
    expected = network(images, T) * T
    tolerance = 0.15 if name == "int8" else 1e-3
    assert float((found.logits_sum - expected).norm() / expected.norm()) < tolerance
    assert torch.equal(found.logits_sum_per_step[-1], found.logits_sum)
    early = session_run(engine, images, policy, T, slots=slots)
    at_exit = found.logits_sum_per_step[early.exit_timestep - 1, torch.arange(20)]
    torch.testing.assert_close(at_exit, early.logits_sum, rtol=1e-4, atol=1e-4)


def test_the_network_of_these_tests_has_early_and_late_exits() -> None:
    network, _ = program(("signed", 4), 0)
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exits = session_run(make_engine("int8", network, timesteps=T), images, POLICIES[0], T, slots=5).exit_timestep
    assert len(exits.unique()) > 2


@pytest.mark.parametrize("kernel", [INT8, FLOAT32, PLAIN])
def test_a_kernel_that_claims_to_be_exact_is(kernel: Kernel) -> None:
    from seenn.runtime.kernels.synapses import is_exact

    assert is_exact(DOUBLE, CPU)
    if not is_exact(kernel, CPU):
        pytest.skip(f"{kernel.name} is missing or not exact on this machine; the engine does not use it")
