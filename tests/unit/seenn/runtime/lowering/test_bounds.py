"""Worst-case inputs at the bounds up to which int8 is proven to be exact, and one step beyond."""

from __future__ import annotations

from collections.abc import Callable
from ctypes import CDLL
from dataclasses import replace
from functools import partial

import pytest
import torch
from compiled import compiled_for
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Conv2d, Flatten, IFNeuron, IntegratingNeuron, LeakyReLUNeuron, Linear
from seenn.data import Preprocessing
from seenn.errors import UnsupportedError
from seenn.runtime.kernels.fused import FusedEngine
from seenn.runtime.kernels.synapses import DOUBLE, FLOAT32, INT8, LARGEST_PAIR, PLAIN, DepthwiseKernel, Kernel, is_exact
from seenn.runtime.lowering import Program, lower, scales
from seenn.runtime.lowering.program import EXACT_LIMIT, Buffer, SynapseTerm

CPU = torch.device("cpu")
UNIT = 2.0**-10  # of the membrane
SOURCES, SPIKES, WEIGHT = 65, 127, 127  # each source fires its most, through the largest weight, in every step
CURRENT = SOURCES * SPIKES * WEIGHT  # units a step


def saturated(neuron: IntegratingNeuron, sign: int, sources: int = SOURCES) -> SpikingNetwork:
    """Neurons that fire 127 times in every step, and one neuron that all of them drive as hard as int8 allows."""
    nodes = [
        Node("stem", Conv2d(torch.ones(sources, 1, 1, 1)), (INPUT,)),
        Node("sources", IFNeuron(0.125, max_spikes=SPIKES), ("stem",)),
        Node("all", Conv2d(torch.full((1, sources, 1, 1), sign * WEIGHT * UNIT / 0.125)), ("sources",)),
        Node("driven", neuron, ("all",)),
        Node("flat", Flatten(), ("driven",)),
        Node("head", Linear(torch.ones(2, 1)), ("flat",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 1, 1)).requires_grad_(False)


def membrane(program: Program, timesteps: int, kernels: list[Kernel], library: CDLL | None) -> float:
    """Of the driven neuron, in units, after a run on the largest input."""
    slots = FusedEngine(program, kernels, "int8", CPU, library).open(1)
    slots.load(torch.tensor([0]), torch.full((1, 1, 1, 1), 16.0))
    for _ in range(timesteps):
        slots.step(torch.arange(1))
    return float(slots._kept["driven.v"])


def narrowed(program: Program) -> Program:
    """The program with all that int32 holds in float32."""
    buffers = {name: replace(buffer, dtype=torch.float32) for name, buffer in program.buffers.items()}
    return replace(program, buffers=buffers)


Make = Callable[[float], IntegratingNeuron]

#: A neuron of some threshold θ, its θ in units, the sign of its current, the most timesteps, and the membrane (a Python
#: integer) after them. What is proven is the start and the current of all steps and one more threshold.
BEFORE_INT32: list[tuple[Make, int, int, int, int]] = [  # 2^24 − 1 of it, which float32 still holds
    # Starts at −3θ and never fires: 15 · 1,048,385 + (3 + 1) · 262,860.
    (partial(IFNeuron, v_init=-3.0), 262_860, -1, 15, -15 * CURRENT - 3 * 262_860),
    # Starts at 2θ, and every step takes one θ away again: 15 · 1,048,385 + (2 + 1) · 350,480.
    (partial(IFNeuron, v_init=2.0), 350_480, 1, 15, 15 * CURRENT + (2 - 15) * 350_480),
    # Starts at 2θ, which counts twice; negative charge counts double: 7 · 2 · 1,048,385 + (4 + 1) · 419,965.
    (partial(LeakyReLUNeuron, v_init=2.0, slope=2.0), 419_965, -1, 7, -7 * 2 * CURRENT + (2 + 7) * 419_965),
]
#: The same with so many times more sources that a step takes all that float32 holds; 128 of them, all that int32 does.
AT_THE_BOUND: list[tuple[Make, int, int, int, int]] = [
    (partial(IFNeuron, v_init=-3.0), 97_791, -1, 16, -128 * 16 * CURRENT - 3 * 97_791),
    (partial(IFNeuron, v_init=2.0), 130_389, 1, 16, 128 * 16 * CURRENT + (2 - 128) * 130_389),
    (partial(LeakyReLUNeuron, v_init=2.0, slope=2.0), 78_233, -1, 8, -128 * 2 * 8 * CURRENT + (2 + 128) * 78_233),
]
WAYS: list[tuple[list[Kernel], bool]] = [
    ([kernel, FLOAT32, DOUBLE], compiled) for kernel in (INT8, FLOAT32, PLAIN, DOUBLE) for compiled in (False, True)
]


@pytest.mark.parametrize(("make", "theta", "sign", "most", "expected"), BEFORE_INT32)
def test_float32_holds_membranes_as_long_as_it_can(make: Make, theta: int, sign: int, most: int, expected: int) -> None:
    program = lower(saturated(make(theta * UNIT), sign), timesteps=most)
    assert program.max_timesteps == most
    assert {buffer.dtype for buffer in program.buffers.values()} == {torch.float32}
    for kernels, compiled in WAYS:
        assert membrane(program, most, kernels, native.load("engine") if compiled else None) == expected
    for timesteps, threshold in ((most + 1, theta), (most, theta + 1)):
        wider = lower(saturated(make(threshold * UNIT), sign), timesteps=timesteps)
        assert wider.buffers["driven.v"].dtype == torch.int32


@pytest.mark.parametrize(("make", "theta", "sign", "times", "expected"), AT_THE_BOUND)
def test_int8_is_exact_at_the_bound_that_is_proven(
    make: Make, theta: int, sign: int, times: int, expected: int
) -> None:
    program = lower(saturated(make(theta * UNIT), sign, times * SOURCES), timesteps=128)
    assert program.max_timesteps == 128
    assert not program.coarser
    for kernels, compiled in WAYS:
        assert membrane(program, 128, kernels, native.load("engine") if compiled else None) == expected
    assert membrane(narrowed(program), 128, [FLOAT32, DOUBLE], None) != expected  # what float32 alone makes of it


@pytest.mark.parametrize(("make", "theta", "sign", "times", "expected"), AT_THE_BOUND)
def test_one_step_or_one_unit_beyond_the_bound_is_refused(
    make: Make, theta: int, sign: int, times: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scales, "ATTEMPTS", [each for each in scales.ATTEMPTS if each[2] == 1])  # no coarser scale
    for timesteps, threshold, exact in ((129, theta, 128), (128, theta + 1, 127)):
        network = saturated(make(threshold * UNIT), sign, times * SOURCES)
        with pytest.raises(UnsupportedError, match=f"1 sums .*driven: may reach 2,1[46].*exact up to T = {exact}"):
            lower(network, timesteps=timesteps)
    network = saturated(make(theta * UNIT), sign, times * (SOURCES + 1))
    with pytest.raises(UnsupportedError, match=r"driven: may reach .* after 2 steps"):  # which one step leaves
        lower(network, timesteps=2)


def respond(kernel: Kernel, low: int, high: int, padding: int, bias: int | None = None) -> None:
    """Runs a convolution on all extremes of its source at once, against float64."""
    op = Conv2d(torch.zeros(4, 64, 3, 3), padding=padding)
    weight = torch.full(op.weight.shape, 127.0, dtype=torch.float64)
    weight[1] = -127
    weight[2, ::2] = -127
    term = SynapseTerm(source="x", op=op, weight=weight, unit=torch.ones(4, dtype=torch.float64))
    source = Buffer(name="x", shape=(64, 5, 5), life="scratch", low=low, high=high)
    added = None if bias is None else torch.full((4,), float(bias), dtype=torch.float64)
    x = torch.stack([torch.full(source.shape, high), torch.full(source.shape, low), torch.zeros(source.shape).int()])
    x[2, ::2], x[2, 1::2] = high, low
    expected = op.response(x.double(), weight, added)
    target = torch.zeros_like(expected, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    rows, columns = kernel.margin(term, source, added)
    framed = torch.nn.functional.pad(x, (columns, columns, rows, rows))
    given = (framed - low if kernel.dtype is torch.uint8 else framed).to(kernel.dtype)
    assert kernel.accepts(term, source)
    kernel.prepare(term, source, added, 3, CPU)(target, given.contiguous(memory_format=torch.channels_last))
    assert torch.equal(target.double(), expected)


@pytest.mark.parametrize(("low", "high"), [(0, 127), (-64, 64), (0, 129), (-1, 128)])
def test_no_pair_of_products_saturates_in_the_int8_kernel(low: int, high: int) -> None:
    if not is_exact(INT8, CPU):
        pytest.skip("oneDNN int8 is missing or not exact on this machine; the engine does not use it")
    respond(INT8, low, high, 1)
    respond(INT8, low, high, 1, bias=12345)


def depthwise(groups: int = 16) -> SynapseTerm:
    """Windows of nine, with the largest weights of int8."""
    op = Conv2d(torch.zeros(16, 16 // groups, 3, 3), padding=(1, 1), groups=groups)
    weight = torch.full(op.weight.shape, 127.0, dtype=torch.float64)
    weight[1] = -127
    unit = torch.arange(1.0, 17).double()
    return SynapseTerm(source="x", op=op, weight=weight * unit.view(-1, 1, 1, 1), unit=unit)


@pytest.mark.parametrize(("low", "high"), [(0, 28), (0, 29), (-14, 14), (-15, 15), (0, 255), (-128, 127)])
def test_depthwise_counts_add_up_exactly_however_large(low: int, high: int) -> None:
    kernel, term = DepthwiseKernel(compiled_for("engine")), depthwise()
    source = Buffer(name="x", shape=(16, 5, 6), life="scratch", low=low, high=high)
    assert kernel.accepts(term, source)
    x = torch.tensor([high, low, 0]).view(3, 1, 1, 1).repeat(1, 16, 5, 6)
    x[2, :, ::2, 1::2] = high
    bias = torch.full((16,), 777.0).double()
    expected = term.op.response(x.double(), term.weight, bias)
    target = torch.zeros_like(expected, dtype=torch.float32).contiguous(memory_format=torch.channels_last)
    framed = torch.nn.functional.pad(x, (1, 1, 1, 1)) - low
    assert kernel.margin(term, source, bias) == (1, 1)
    kernel.prepare(term, source, bias, 3, CPU)(target, framed.byte().contiguous(memory_format=torch.channels_last))
    assert torch.equal(target.double(), expected)


def test_the_depthwise_kernel_takes_bytes_of_convolutions_whose_channels_do_not_meet() -> None:
    kernel, term = DepthwiseKernel(compiled_for("engine")), depthwise()
    fits = Buffer(name="x", shape=(16, 5, 6), life="scratch", low=-128, high=127)
    assert kernel.accepts(term, fits)
    assert not kernel.accepts(term, replace(fits, high=128))
    assert not kernel.accepts(replace(term, unit=None), fits)
    assert not kernel.accepts(depthwise(groups=8), fits)
    assert not kernel.accepts(depthwise(groups=1), fits)


def test_an_image_is_read_as_it_is_however_coarse_its_weights_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are made of spikes in every step; an image meets its first layer once."""
    monkeypatch.setattr(scales, "WIDE_LEVELS", 127)
    nodes = [
        Node("stem", Conv2d(torch.rand(3, 1, 3, 3), padding=(1, 1), groups=3), (INPUT,)),
        Node("sources", IFNeuron(1.0), ("stem",)),
        Node("flat", Flatten(), ("sources",)),
        Node("head", Linear(torch.ones(2, 48)), ("flat",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (3, 4, 4)).requires_grad_(False)
    pixels = Preprocessing(channels=3, height=4, width=4, mean=(0.0,) * 3, std=(1.0,) * 3)
    program = lower(network, timesteps=4, preprocessing=pixels)
    image = torch.randint(0, 256, (2, 3, 4, 4)) / 255
    found = []
    for kernels in ([DepthwiseKernel(compiled_for("engine")), INT8, FLOAT32, DOUBLE], [DOUBLE]):
        slots = FusedEngine(program, kernels, "int8", CPU, compiled_for("engine")).open(2)
        slots.load(torch.arange(2), image)
        found.append(slots.step(torch.arange(2)))
    assert torch.equal(*found)


@pytest.mark.parametrize(("counts", "fits"), [(129, True), (130, False)])
def test_the_int8_kernel_takes_no_more_than_avx2_adds_up(counts: int, fits: bool) -> None:
    assert (2 * counts * 127 <= (1 << 15) - 1) is fits  # vpmaddubsw adds two products of bytes to a signed short
    assert LARGEST_PAIR == (1 << 15) - 1
    op = Conv2d(torch.zeros(1, 2, 1, 1))
    term = SynapseTerm(source="x", op=op, weight=torch.full((1, 2, 1, 1), 127.0).double(), unit=torch.ones(1).double())
    for low in (0, -64):
        source = Buffer(name="x", shape=(2, 3, 3), life="scratch", low=low, high=low + counts)
        assert INT8.accepts(term, source) is fits


@pytest.mark.parametrize(("constant", "moved"), [(EXACT_LIMIT - 1, True), (EXACT_LIMIT, False)])
def test_counts_are_moved_to_zero_only_while_their_response_stays_exact(constant: int, moved: bool) -> None:
    op = Conv2d(torch.zeros(1, 64, 3, 3), padding=1)
    weight = torch.full(op.weight.shape, 127.0, dtype=torch.float64)
    term = SynapseTerm(source="x", op=op, weight=weight, unit=torch.ones(1, dtype=torch.float64))
    source = Buffer(name="x", shape=(64, 5, 5), life="scratch", low=-64, high=64)
    bias = torch.tensor([constant - 64 * 9 * 127 * 128], dtype=torch.float64)
    assert INT8.margin(term, source, bias) == ((1, 1) if moved else (0, 0))


@pytest.mark.parametrize("theta", [1, 2, 3, 7, 1000, 46_603, 932_066])
def test_multiplying_by_an_inverse_threshold_rounds_no_count(theta: int) -> None:
    """At most 2 spikes of either sign: 6 · 3 · 932,067 would reach 2^24, and be divided instead."""
    from seenn.runtime.kernels.neurons import Neurons
    from seenn.runtime.lowering.program import Exit, Fire, InputScale

    fire = Fire(
        target="n", membrane="v",
        threshold=torch.tensor(float(theta)).double(), fewest=-2, most=2,
    )  # fmt: skip
    program = Program(
        input_shape=(1,), input_scale=InputScale.fixed_point(1), buffers={}, encode=(), step=(fire,),
        exits=(Exit(stop=1, output="n", scale=1.0),), max_timesteps=1,
    )  # fmt: skip
    whole = [k * theta + d for k in range(-4, 5) for d in (-1, 0, 1)] + [EXACT_LIMIT - 1, 1 - EXACT_LIMIT]
    v = torch.tensor([whole], dtype=torch.float32)
    views = {"v": v, "n": torch.empty_like(v)}
    neurons = Neurons(program, fire, CPU)
    assert neurons._inverse() is not None
    for action in neurons.by_torch(views):
        action()
    counts: Tensor = views["n"]
    expected = [max(-2, min(2, value // theta)) for value in whole]
    assert counts[0].tolist() == expected
    assert v[0].tolist() == [value - n * theta for value, n in zip(whole, expected, strict=True)]
