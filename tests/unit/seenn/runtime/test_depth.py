"""Exits in depth: a sample stands at (timestep, segment), and how it is run with others changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from runs import run
from small_snn import deep_network
from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.analysis.synops import SpikeMeter, fan_outs
from seenn.batch import Batch
from seenn.exits import ConfidenceExit, ExitPolicy, FixedExit, PatienceExit
from seenn.runtime import Engine, Request, ScoreTrace, Session, make_engine

T = 4
ENGINES = ["reference", "float32", "int8"]
RANDOM = torch.Generator().manual_seed(2)
IMAGES = torch.randn(40, 1, 8, 8, generator=RANDOM) * torch.rand(40, 1, 1, 1, generator=RANDOM)
LABELS = torch.arange(40) % 3
POLICIES = [
    ConfidenceExit(threshold=0.9),
    ConfidenceExit(threshold=tuple(torch.linspace(0.9, 0.5, 3 * T - 1).tolist())),
    PatienceExit(patience=2),
    FixedExit(timesteps=2),
    FixedExit(timesteps=2, segment=1),
]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return make_engine(request.param, deep_network(), timesteps=T)


def test_outputs_at_a_head_are_those_of_the_steps_before_and_its_own(engine: Engine) -> None:
    network, trace = deep_network(), ScoreTrace(3 * T, len(IMAGES))
    Session(engine, None, T).run(Batch(IMAGES), observers=[trace])
    current, state, before = network.encode(IMAGES), None, torch.zeros(len(IMAGES), 3)
    for t in range(T):
        outputs, state = network.advance_exits(current, state)
        for segment, output in enumerate(outputs):
            found = trace.logits_sum[3 * t + segment]
            if engine.exact:  # whose weights are rounded
                assert float((found - before - output).abs().mean()) < 0.2 * float(output.abs().mean())
            else:
                torch.testing.assert_close(found, before + output, rtol=1e-3, atol=1e-3)
        before = before + outputs[-1]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("slots", [1, 3, 8, 64])
def test_a_session_exits_where_the_cached_run_says(engine: Engine, policy: ExitPolicy, slots: int) -> None:
    cached = collect_run(deep_network(), [Batch(IMAGES, LABELS)], T, engine=engine)
    exits = cached.exits(policy)
    found = run(engine, IMAGES.split(7), policy, T, slots=slots)
    assert torch.equal(found.points(3), exits)
    torch.testing.assert_close(found.cost, cached.cost[exits - 1])
    torch.testing.assert_close(found.logits_sum, cached.logits_sum[exits - 1, torch.arange(40)], rtol=1e-3, atol=1e-3)
    assert torch.equal(found.exit_timestep, (exits - 1) // 3 + 1)


def test_samples_leave_in_depth_and_in_time(engine: Engine) -> None:
    found = run(engine, IMAGES, POLICIES[0], T)
    assert {1, 2, 3} == set(found.exit_segment.tolist())
    assert len(set(found.exit_timestep.tolist())) > 1
    assert float(found.cost.min()) < 1


def test_nobody_waits_for_ever_while_others_pass(engine: Engine) -> None:
    """One hard image among an endless stream of those that leave at the first head."""
    answers = run(engine, IMAGES, ConfidenceExit(threshold=0.5), T)
    easy = int((answers.points(3) == 1).nonzero()[0, 0])
    hard = int((answers.points(3) > 1).nonzero()[0, 0])

    def source() -> Iterator[Request]:
        yield Request(image=IMAGES[hard])
        while True:
            yield Request(image=IMAGES[easy])

    stream = Session(engine, ConfidenceExit(threshold=0.5), T, slots=4).stream(source())
    assert next(stream).exit_segment != 0
    stream.close()


def test_a_deadline_takes_the_answer_of_a_head(engine: Engine) -> None:
    late = Request(image=IMAGES[0], deadline_ms=1e-3)
    (answer,) = Session(engine, None, T, slots=1).stream([late])
    assert (answer.stopped_by, answer.exit_timestep, answer.exit_segment) == ("deadline", 1, 1)


@pytest.mark.parametrize("keeping", [False, True], ids=["in place", "moved"])
def test_who_goes_on_keeps_what_was_handed_on_when_others_leave(engine: Engine, keeping: bool) -> None:
    slots, alone = engine.open(4), engine.open(1)
    slots.load(torch.arange(4), IMAGES[:4])
    slots.step(torch.arange(4))
    slots.load(torch.tensor([1]), IMAGES[4:5])  # its place is taken before anybody goes on
    places = {0: 0, 2: 2, 3: 3}
    if keeping:
        slots.keep(torch.tensor([3, 0, 2]))
        places = {0: 1, 2: 2, 3: 0}
    found = slots.step(torch.tensor(sorted(places.values())), 2)
    for image, row in places.items():
        alone.load(torch.tensor([0]), IMAGES[image : image + 1])
        alone.step(torch.tensor([0]))
        expected = alone.step(torch.tensor([0]), 2)
        torch.testing.assert_close(found[sorted(places.values()).index(row)], expected[0], rtol=1e-3, atol=1e-3)


def test_spikes_cost_what_they_reach_up_to_the_exit() -> None:
    """The first neurons reach their head, the second block's convolution, and what its join leads to, in turn."""
    network = deep_network()
    parts = fan_outs(network)
    assert {site: sorted(reached) for site, reached in parts.items()} == {
        "a": [0, 1],
        "b.inner": [1],
        "b": [1, 2],
        "c": [2],
    }
    assert parts["a"][0].unique().tolist() == [3.0]  # the head's classes

    def synops(policy: ExitPolicy) -> Tensor:
        meter = SpikeMeter(network, T, len(IMAGES))
        session = Session(make_engine("reference", network, timesteps=T), policy, T)
        found = session.run(Batch(IMAGES), observers=[meter])
        return meter.until(found.points(3))

    at_head, whole = synops(FixedExit(timesteps=1, segment=1)), synops(FixedExit(timesteps=1))
    assert bool((at_head <= whole).all())
    assert float(at_head.sum()) < 0.1 * float(whole.sum())
    plain = network.without_heads()
    meter = SpikeMeter(plain, T, len(IMAGES))
    Session(make_engine("reference", plain, timesteps=T), FixedExit(timesteps=1), T).run(
        Batch(IMAGES), observers=[meter]
    )
    counts = {}
    network.advance(network.encode(IMAGES), None, counts.__setitem__)
    heads = 3 * (counts["a"].sum((1, 2, 3)) + counts["b"].sum((1, 2, 3)))
    torch.testing.assert_close(whole, meter.synops.sum(0) + heads.double())
