"""Streams of related images: each starts from the membranes that the one before left."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from small_snn import deep_network
from torch import Tensor

from seenn import SNN, FixedExit, IFNeuron, SpikingNetwork, TwoSidedIFNeuron, UnsupportedError
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import Conv2d, CumulativeDifference, Encoder, Flatten, LeakySum, Linear, MaxPool2d, PrepassIFNeuron
from seenn.core.ops.floored_neuron import FlooredNeuron
from seenn.core.ops.lif import LIFNeuron
from seenn.core.ops.neuron import Neuron
from seenn.core.ops.quantiser_neuron import QuantiserNeuron
from seenn.exits import ConfidenceExit

NEURONS = {
    "if": IFNeuron(0.5),
    "burst": IFNeuron(0.25, max_spikes=3),
    "signed": IFNeuron(0.5, signed=True),
    "two-sided": TwoSidedIFNeuron(0.5, slope=2.0, max_spikes=2),
    "encoder": Encoder(0.25, max_spikes=4),
    "quantiser": QuantiserNeuron(0.5, scale=0.25, low=-4, high=8, max_spikes=2),
    "lif": LIFNeuron(0.5),
    "floored": FlooredNeuron(0.5),
}
FLOAT_ONLY = ("quantiser", "lif", "floored")  # what has no integer form


def network(neuron: Neuron) -> SpikingNetwork:
    """Whose weights are what int8 holds as they are, so that all engines compute the same."""
    random = torch.Generator().manual_seed(0)

    def weight(*shape: int) -> Tensor:
        found = torch.randint(-127, 128, shape, generator=random)
        found.view(len(found), -1)[:, 0] = 127
        return found / 512

    nodes = [
        Node("stem", Conv2d(weight(4, 1, 3, 3), weight(4), padding=1), (INPUT,)),
        Node("first", neuron, ("stem",)),
        Node("pool", CumulativeDifference(MaxPool2d(2, stride=2)), ("first",)),
        Node("conv", Conv2d(weight(6, 4, 3, 3), weight(6)), ("pool",)),
        Node("second", neuron, ("conv",)),
        Node("flat", Flatten(), ("second",)),
        Node("head", Linear(weight(3, 6 * 4)), ("flat",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).eval().requires_grad_(False)


def video(frames: int) -> Tensor:
    """A pattern that moves, in multiples of 1/8."""
    pattern = torch.randint(-8, 9, (1, 8, 8), generator=torch.Generator().manual_seed(1)) / 8
    return torch.stack([pattern.roll(number // 2, -1) for number in range(frames)])


def by_hand(net: SpikingNetwork, frames: Tensor, steps: int) -> Tensor:
    """Summed outputs of each frame, ``[F, K]``: the state goes on, but for what counts a frame."""
    sums, state = [], None
    for frame in frames:
        current = net.encode(frame[None])
        if state is not None:
            fresh = dict(zip(net.state_layout, net.initial_state(1, net.dtype), strict=True))
            left = dict(zip(net.state_layout, state, strict=True))
            for node, name in net.state_layout:
                op = net.graph[node].op
                if name == "v" and isinstance(op, Neuron):
                    theta = float(op.v_threshold)
                    fresh[node, name] = left[node, name].clip(0, theta)
            state = tuple(fresh.values())
        total = torch.zeros(1, 3)
        for _ in range(steps):
            output, state = net.advance(current, state)
            total = total + output
        sums.append(total[0])
    return torch.stack(sums)


@pytest.mark.parametrize("engine", ["reference", "float32", "int8"])
@pytest.mark.parametrize("name", NEURONS)
def test_a_frame_starts_from_the_membranes_of_the_last(name: str, engine: str) -> None:
    net, frames = network(NEURONS[name]), video(12)
    snn = SNN(network=net, manifest={"timesteps": 3}, policy=FixedExit())
    if engine == "int8" and name in FLOAT_ONLY:
        with pytest.raises(UnsupportedError, match="no exact integer form"):
            snn.make_engine(engine)
        return
    expected = by_hand(net, frames, 3)
    cold = snn.predict(frames, engine=engine).logits_sum
    for slots in (1, 8):
        found = torch.stack([p.logits_sum for p in snn.stream(iter(frames), engine=engine, slots=slots, warm=True)])
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, cold, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found[0], cold[0])


@pytest.mark.parametrize("engine", ["reference", "float32", "int8"])
def test_every_stream_begins_afresh_also_in_slots_that_others_used(engine: str) -> None:
    snn = SNN(network=network(NEURONS["signed"]), manifest={"timesteps": 3}, policy=FixedExit())
    session = snn.session(engine)
    frames = video(6)

    def answers() -> Tensor:
        from seenn import Request

        return torch.stack([p.logits_sum for p in session.stream((Request(image=f) for f in frames), warm=True)])

    first = answers()
    assert torch.equal(answers(), first)


@pytest.mark.parametrize("engine", ["reference", "float32", "int8"])
def test_frames_leave_at_heads_and_go_on_from_what_each_segment_left(engine: str) -> None:
    net = deep_network()
    snn = SNN(network=net, manifest={"timesteps": 3}, policy=ConfidenceExit(threshold=0.6))
    random = torch.Generator().manual_seed(0)
    still = torch.rand(1, *net.input_shape, generator=random)
    found = list(snn.stream((still[0] + 0.01 * k for k in range(40)), engine=engine, warm=True))
    assert [p.index for p in found] == list(range(40))
    assert all(bool(p.logits_sum.isfinite().all()) for p in found)
    assert len({(p.exit_timestep, p.exit_segment) for p in found}) > 1


def test_int8_stays_within_what_was_proven_however_long_the_stream() -> None:
    snn = SNN(network=network(NEURONS["signed"]), manifest={"timesteps": 4}, policy=FixedExit())
    engine = snn.make_engine("int8")
    slots = engine.open(1)
    rows, dark = torch.tensor([0]), -torch.ones(1, 1, 8, 8)
    membranes = [name for name in slots._kept if name.endswith(".v")]  # type: ignore[attr-defined]
    furthest = []
    for frame in range(50):
        slots.load(rows, dark, warm=frame > 0)
        for _ in range(4):
            slots.step(rows)
        furthest.append(max(float(slots._kept[name].abs().max()) for name in membranes))  # type: ignore[attr-defined]
    assert max(furthest[1:]) == furthest[-1]  # driven down by every frame, and no further than by one
    thresholds = [fire.threshold for fire in engine.program.step if hasattr(fire, "threshold")]  # type: ignore[attr-defined]
    assert max(furthest) <= furthest[0] + 2 * max(float(theta.max()) for theta in thresholds)


def test_a_current_that_decays_goes_over_as_it_is() -> None:
    nodes = [
        Node("flat", Flatten(), (INPUT,)),
        Node("hidden", Linear(torch.eye(4)), ("flat",)),
        Node("current", LeakySum(0.5), ("hidden",)),
        Node("lif", LIFNeuron(100.0, decay=0.5), ("current",)),
        Node("sum", Linear(torch.ones(2, 4)), ("lif",)),
    ]
    net = SpikingNetwork(OpGraph(nodes, "sum"), (1, 2, 2)).requires_grad_(False)
    state = net.advance(net.encode(torch.ones(1, 1, 2, 2)), None)[1]
    assert all(torch.equal(after, before) for after, before in zip(net.warm_state(state), state, strict=True))


def test_says_once_that_what_was_calibrated_does_not_hold(caplog: pytest.LogCaptureFixture) -> None:
    snn = SNN(network=network(NEURONS["if"]), manifest={"timesteps": 3}, policy=FixedExit())
    list(snn.stream(iter(video(4)), engine="float32"))
    assert not caplog.records
    list(snn.stream(iter(video(4)), engine="float32", warm=True))
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "a warm stream starts each image from the membranes of the last: what exits were"
    )


def test_a_frame_that_cannot_be_run_ends_a_warm_stream_after_those_before_it() -> None:
    snn = SNN(network=network(NEURONS["if"]), manifest={"timesteps": 3}, policy=FixedExit())

    def frames() -> Iterator[Tensor]:
        yield from video(3)
        yield torch.full((1, 8, 8), torch.nan)

    answers = snn.stream(frames(), engine="float32", warm=True)
    assert [next(answers).index for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="image 3 holds NaN"):
        next(answers)


def test_networks_with_initial_steps_are_refused() -> None:
    snn = SNN(network=network(PrepassIFNeuron(0.5, prepass=2)), manifest={"timesteps": 3})
    with pytest.raises(UnsupportedError, match="in initial steps, so it cannot start warm: leave out warm=True"):
        snn.stream(iter(video(3)), warm=True)
