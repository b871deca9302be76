"""Lowering against float64: where int8 holds the weights exactly, every spike of every site must be the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from torch import Tensor

from seenn import native
from seenn.batch import Batch
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import (
    AdaptiveAvgPool2d,
    Add,
    AvgPool2d,
    ChannelAffine,
    Concat,
    Conv2d,
    CumulativeDifference,
    Flatten,
    IFNeuron,
    LeakyReLUNeuron,
    Linear,
    MaxPool2d,
    Mean,
    Neuron,
    Pad,
    Resize,
    Scale,
    Slice,
)
from seenn.data.preprocessing import Preprocessing
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import DOUBLE, FLOAT32, INT8, Kernel
from seenn.runtime.lowering import fold, lower

T = 6
CPU = torch.device("cpu")
#: Every pixel is a multiple of 1/64: (x / 255 − 0) / (64 / 255).
PIXELS = Preprocessing(channels=2, height=8, width=8, mean=(0.0, 0.0), std=(64 / 255, 64 / 255))


THETA = (8.0, 16.0, 4.0, 8.0)


def in_units(*shape: int, random: torch.Generator, worth: tuple[float, ...] = (1.0,), unit: float = 1 / 64) -> Tensor:
    """Weights that int8 holds exactly once they carry what an input's unit is worth; ±127 in every channel."""
    weight = torch.randint(-40, 41, shape, generator=random).double()
    weight.flatten(1)[:, 0] = 127
    return weight * unit / torch.tensor(worth).double().view(-1, *[1] * (len(shape) - 2))


NEURONS: dict[str, Callable[[Tensor], Neuron]] = {
    "binary": IFNeuron,
    "burst": partial(IFNeuron, max_spikes=3),
    "signed": partial(IFNeuron, signed=True),
    "signed burst": partial(IFNeuron, signed=True, max_spikes=4),
    "two-sided": partial(LeakyReLUNeuron, slope=torch.tensor([-1.0, 0.0, 1.0, -1.0]), max_spikes=4),  # stay integers
}


def everything(kind: str, *, pooled_stem: bool = True) -> SpikingNetwork:
    """All ops that lower: residual joins of both kinds, both poolings, concat, slice, pad, scale."""
    random = torch.Generator().manual_seed(7)

    def neuron() -> Neuron:
        return NEURONS[kind](torch.tensor(THETA)).double()

    nodes = [
        Node("stem", Conv2d(in_units(4, 2, 3, 3, random=random), torch.ones(4).double(), padding=1), (INPUT,)),
        Node("stem.pool", CumulativeDifference(MaxPool2d(kernel=3, stride=1, padding=1)), ("stem",)),
        Node("n1", neuron(), ("stem.pool",)),
        Node("conv1", Conv2d(in_units(4, 4, 3, 3, random=random, worth=THETA), padding=1), ("n1",)),
        Node("join1", Add(), ("conv1", "n1")),
        Node("n2", neuron(), ("join1",)),
        Node("large", Resize(size=(16, 16)), ("n2",)),
        Node("max", CumulativeDifference(MaxPool2d(kernel=4, stride=4)), ("large",)),
        Node("conv2", Conv2d(in_units(4, 4, 3, 3, random=random, worth=THETA), padding=1), ("max",)),
        Node("short", Conv2d(in_units(4, 4, 1, 1, random=random, worth=THETA, unit=1 / 16), stride=2), ("n1",)),
        Node("affine", ChannelAffine(torch.tensor([1.0, -1.0, 0.5, 2.0]).double()), ("conv2",)),
        Node("join2", Add(), ("affine", "short")),
        Node("n3", neuron(), ("join2",)),
        Node("average", AvgPool2d(kernel=2, stride=1, padding=1, count_include_pad=False), ("n3",)),
        Node("cut", Slice(axis=2, start=0, stop=4), ("average",)),
        Node("cut2", Slice(axis=3, start=1, stop=5), ("cut",)),
        Node("both", Concat(), ("cut2", "n3")),
        Node("padded", Pad(amounts=(1, 0, 0, 1)), ("both",)),
        Node(
            "conv3", Conv2d(in_units(4, 8, 2, 2, random=random, worth=(*(t / 4 for t in THETA), *THETA))), ("padded",)
        ),
        Node("half", Scale(factor=0.5), ("conv3",)),
        Node("n4", neuron(), ("half",)),
        Node("uneven", AdaptiveAvgPool2d(size=(3, 1)), ("n4",)),
        Node("mean", Mean(axes=(3,)), ("uneven",)),
        Node("flat", Flatten(), ("mean",)),
        Node(
            "head", Linear(in_units(5, 12, random=random), torch.tensor([1.0, 2.0, 0.0, -1.0, 0.5]).double()), ("flat",)
        ),
    ]
    if not pooled_stem:  # what lies before the first neuron has no memory, so that inputs may change
        nodes[1:3] = [Node("n1", nodes[2].op, ("stem",))]
    return SpikingNetwork(OpGraph(nodes, "head"), (2, 8, 8)).requires_grad_(False).eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    pixels = torch.randint(0, 256, (5, 2, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    assert torch.equal((PIXELS(pixels).double() * 64).round(), pixels.double())
    return pixels.double() / 64


def trace(engine: FusedEngine, batch: Batch) -> tuple[dict[tuple[int, str], Tensor], Tensor]:
    """Counts by step and site, and the last sums."""
    slots, rows = engine.open(len(batch)), torch.arange(len(batch))
    slots.load(rows, batch.frame(1))
    seen: dict[tuple[int, str], Tensor] = {}
    for t in range(T):
        if batch.is_sequence and t:
            slots.feed(rows, batch.frame(t + 1))
        found: dict[str, list[Tensor]] = {}

        def see(site: str, first: int, counts: Tensor, found: dict[str, list[Tensor]] = found) -> None:
            found.setdefault(site, []).append(counts.clone())

        sums = slots.step(torch.arange(len(batch)), observe=see)
        seen |= {(t, site): torch.cat(parts) for site, parts in found.items()}
    return seen, sums


@pytest.mark.parametrize("is_sequence", [False, True])
@pytest.mark.parametrize("kind", NEURONS)
def test_weights_that_int8_holds_exactly_lower_to_the_same_spikes(kind: str, is_sequence: bool, images: Tensor) -> None:
    network = everything(kind, pooled_stem=not is_sequence)
    frames = torch.stack([images.roll((t, t), (0, 2)) for t in range(T)])
    batch = Batch(frames if is_sequence else images, is_sequence=is_sequence)
    state, expected = None, {}
    total = torch.zeros(len(images), 5, dtype=torch.float64)
    for t in range(T):
        output, state = network.advance(
            network.encode(batch.frame(t + 1)),
            state,
            lambda site, count, t=t: expected.__setitem__((t, site), count.clone()),
        )
        total += output
    assert {tuple(count.unique().tolist()) for count in expected.values()} != {(0.0,)}
    kernels: list[list[Kernel]] = [[INT8, FLOAT32], [FLOAT32], [DOUBLE]]
    for chosen, library in product(kernels, (None, native.load("engine"))):
        program = lower(network, timesteps=T, preprocessing=PIXELS)
        engine = FusedEngine(program, chosen, "int8", CPU, library)
        engine.tile = 4
        counts, sums = trace(engine, batch.to(CPU, torch.float32))
        assert counts.keys() == expected.keys()
        for key, count in counts.items():
            assert torch.equal(count.double(), expected[key]), (key, chosen[0].name)
        torch.testing.assert_close(sums.double(), total, rtol=1e-4, atol=1e-3)  # the head has a scale of its own


@pytest.mark.parametrize("kind", ["binary", "signed burst", "two-sided"])
def test_folding_in_float_keeps_the_sums(kind: str, images: Tensor) -> None:
    network = everything(kind)
    expected = network(images, T) * T
    for kernel in (FLOAT32, DOUBLE):
        _, sums = trace(FusedEngine(fold(network), [kernel], "float32", CPU), Batch(images.float()))
        torch.testing.assert_close(sums.double(), expected, rtol=1e-5, atol=1e-4)
