"""The one loop over time: order, refilled slots, slow sources, deadlines, frames, and what is refused."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.errors import SeennError, UnsupportedError
from seenn.exits import ConfidenceExit, GapExit
from seenn.runtime import Engine, Observer, Request, ScoreTrace, Session, SpikeSums, make_engine
from seenn.runtime.engines.reference import ReferenceEngine

MakeNetwork = Callable[..., SpikingNetwork]
T = 6


@pytest.fixture
def network(make_network: MakeNetwork) -> SpikingNetwork:
    return make_network().float()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(12, 2, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture(params=["reference", "float32"])
def engine(request: pytest.FixtureRequest, network: SpikingNetwork) -> Engine:
    return make_engine(request.param, network, timesteps=T)


def test_without_a_policy_the_sums_are_those_of_the_network(
    engine: Engine, network: SpikingNetwork, images: Tensor
) -> None:
    found = Session(engine, None, T, slots=5).run(Batch(images))
    torch.testing.assert_close(found.logits_sum / T, network(images, T), rtol=1e-4, atol=1e-4)
    assert found.exit_timestep.tolist() == [T] * 12
    assert found.cost.tolist() == [float(T)] * 12


def test_few_samples_open_no_more_slots_than_they_are(engine: Engine, images: Tensor) -> None:
    session = Session(engine, None, T, slots=64)
    session.run(Batch(images[:3]).split(2))
    assert [slots.capacity for slots in session._opened] == [3]
    assert len(list(session.answers(Batch(images[:5]).split(2)))) == 5
    assert [slots.capacity for slots in session._opened] == [5]


@pytest.mark.parametrize("slots", [1, 5, 64])
def test_batches_are_answered_one_by_one_and_taken_as_slots_are_free(
    engine: Engine, images: Tensor, slots: int
) -> None:
    taken = 0

    def batches() -> Iterator[Batch]:
        nonlocal taken
        for batch in Batch(images).split(2):
            taken += len(batch)
            yield batch

    session = Session(engine, ConfidenceExit(threshold=0.9, accumulation="sum"), T, slots)
    expected = session.run(Batch(images))
    answers = []
    for answer in session.answers(batches()):
        answers.append(answer)
        assert taken <= len(answers) + (T + 1) * slots + 2
    assert [answer.index for answer in answers] == list(range(12))
    assert [answer.exit_timestep for answer in answers] == expected.exit_timestep.tolist()
    torch.testing.assert_close(torch.stack([answer.logits_sum for answer in answers]), expected.logits_sum)
    assert sorted(answer.index for answer in session.answers(batches(), ordered=False)) == list(range(12))


@pytest.mark.parametrize("slots", [1, 5, 64])
def test_samples_that_leave_make_room_and_answers_keep_their_order(engine: Engine, images: Tensor, slots: int) -> None:
    policy = ConfidenceExit(threshold=0.9, accumulation="sum")
    alone = Session(engine, policy, T, slots=1)
    expected = [alone.run(Batch(image)) for image in images.split(1)]
    found = Session(engine, policy, T, slots).run(Batch(images).split(7))
    assert len(set(found.exit_timestep.tolist())) > 1
    assert found.exit_timestep.tolist() == [int(one.exit_timestep) for one in expected]
    torch.testing.assert_close(found.logits_sum, torch.cat([one.logits_sum for one in expected]), rtol=1e-4, atol=1e-4)


def test_a_rule_is_not_asked_about_samples_that_t_ends(engine: Engine, images: Tensor) -> None:
    never = GapExit(threshold=(GapExit.never,) * (T - 1))  # as calibration stores them: one for each t below T
    assert Session(engine, never, T, slots=5).run(Batch(images)).exit_timestep.tolist() == [T] * 12
    mixed = GapExit(threshold=(0.5,) * (T - 1))
    found = Session(engine, mixed, T, slots=5).run(Batch(images))
    assert torch.equal(found.exit_timestep, Session(engine, GapExit(threshold=0.5), T).run(Batch(images)).exit_timestep)
    assert len(found.exit_timestep.unique()) > 1


def test_a_session_that_ran_can_be_copied(engine: Engine, images: Tensor) -> None:
    session = Session(engine, None, T)
    expected = session.run(Batch(images)).logits_sum
    for made in (copy.copy(session), copy.deepcopy(session)):
        assert torch.equal(made.run(Batch(images)).logits_sum, expected)


def test_observers_see_every_step_of_every_sample_once(engine: Engine, network: SpikingNetwork, images: Tensor) -> None:
    seen: list[tuple[int, int]] = []

    class Steps(Observer):
        def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
            assert len(t) == len(samples) == len(counts)
            if site == "relu1":
                seen.extend(zip(samples.tolist(), t.tolist(), strict=True))

    trace, sums = ScoreTrace(T, 12), SpikeSums(12)
    policy = ConfidenceExit(threshold=0.9, accumulation="sum")
    found = Session(engine, policy, T, slots=5).run(Batch(images), observers=(Steps(), trace, sums))
    assert sorted(seen) == [(n, t) for n, steps in enumerate(found.exit_timestep.tolist()) for t in range(1, steps + 1)]
    ran = ~trace.logits_sum.isnan().any(-1)  # [T, N]
    assert ran.sum(0).tolist() == found.exit_timestep.tolist()
    at_exit = trace.logits_sum[found.exit_timestep - 1, torch.arange(12)]
    assert torch.equal(at_exit, found.logits_sum)
    assert sums.sums["relu1"].shape == (12, 4, 6, 6)


def test_frames_over_time_are_fed_step_by_step(engine: Engine, network: SpikingNetwork) -> None:
    frames = torch.randn(T, 7, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    expected = network.unroll(frames, T).cumsum(0)  # [T, B, K]
    trace = ScoreTrace(T, 7)
    found = Session(engine, None, T, slots=3).run(Batch(frames, is_sequence=True), observers=(trace,))
    torch.testing.assert_close(trace.logits_sum, expected, rtol=1e-4, atol=1e-4)
    assert len(found) == 7


def test_frames_and_constant_images_run_beside_each_other(engine: Engine, network: SpikingNetwork) -> None:
    frames = torch.randn(T, 2, 6, 6, generator=torch.Generator().manual_seed(2))
    requests = [Request(image=frames), Request(image=frames[0]), Request(image=frames)]
    first, still, again = Session(engine, None, T, slots=2).stream(requests)
    torch.testing.assert_close(first.logits_sum, again.logits_sum)
    torch.testing.assert_close(first.logits_sum, network.unroll(frames[:, None], T).sum(0)[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(still.logits_sum / T, network(frames[:1], T)[0], rtol=1e-4, atol=1e-4)


def test_frames_of_another_number_are_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match=f"sample 0 has 3 frames and {T} timesteps were asked for: give as many"):
        Session(engine, None, T).run(Batch(torch.zeros(3, 2, 2, 6, 6), is_sequence=True))


def test_frames_are_refused_where_initial_steps_need_a_constant_image(network: SpikingNetwork) -> None:
    engine = ReferenceEngine(network)
    engine.no_frames = "its initial steps are over one constant image"
    with pytest.raises(UnsupportedError, match="initial steps are over one constant image, got a sequence of frames"):
        Session(engine, None, T).run(Batch(torch.zeros(T, 2, 2, 6, 6), is_sequence=True))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(2, 5, 6), r"image 2 has shape \[2, 5, 6\], expected \[2, 6, 6\]"),
        (torch.zeros(2, 6, 6, dtype=torch.uint8), "image 2 is torch.uint8, expected floats"),
        (torch.full((2, 6, 6), torch.nan), "image 2 holds NaN or infinite pixels"),
    ],
)
def test_those_before_an_image_that_cannot_be_run_are_answered_first(
    engine: Engine, images: Tensor, image: Tensor, message: str
) -> None:
    requests = (Request(image=x) for x in (images[0], images[1], image, images[3]))
    found = []
    with pytest.raises(ValueError, match=message):
        found.extend(Session(engine, None, T, slots=8).stream(requests))
    # The stream ended with the error, after the answers of those before it.
    assert [p.index for p in found] == [0, 1] or not found


def test_an_error_of_the_source_comes_after_the_answers(engine: Engine, images: Tensor) -> None:
    def source() -> Iterator[Request]:
        yield Request(image=images[0])
        raise OSError("the camera is gone")

    answers = Session(engine, None, T).stream(source())
    assert next(answers).index == 0
    with pytest.raises(OSError, match="the camera is gone"):
        next(answers)


def test_a_stream_of_what_is_no_request_says_what_takes_it(engine: Engine, images: Tensor) -> None:
    for wrong, name in ((images.numpy(), "ndarray"), (["cat.png"], "str"), ([Request(image="cat.png")], "str")):  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=rf"takes Request\(image=…\) .* got {name}: snn\.stream takes pictures"):
            list(Session(engine, None, T).stream(wrong))  # type: ignore[arg-type]


def test_no_samples_are_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="there are no samples to run: got none"):
        Session(engine, None, T).run([])
    assert list(Session(engine, None, T).stream([])) == []


def test_a_slow_source_holds_up_no_running_sample(engine: Engine, images: Tensor) -> None:
    """The first image is answered although the second has not come, and never will by itself."""
    answered = threading.Event()

    def source() -> Iterator[Request]:
        yield Request(image=images[0])
        assert answered.wait(timeout=30), "the first answer waits for the second image"
        yield Request(image=images[1])

    found = []
    for prediction in Session(engine, None, T, slots=4).stream(source()):
        found.append(prediction.index)
        answered.set()
    assert found == [0, 1]


def test_nothing_more_is_asked_of_a_source_whose_run_cannot_begin(
    engine: Engine, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asked for as many requests as there are slots before there turned out to be no memory for them."""
    asked = 0

    def source() -> Iterator[Request]:
        nonlocal asked
        for image in images.repeat(10, 1, 1, 1):
            asked += 1
            yield Request(image=image)
            time.sleep(0.01)

    def no_memory(slots: int) -> None:
        raise SeennError("no memory")

    monkeypatch.setattr(engine, "open", no_memory)
    with pytest.raises(SeennError, match="no memory"):
        list(Session(engine, None, T, slots=64).stream(source()))
    then = asked
    time.sleep(0.2)
    assert asked <= then + 1 < 20


def test_with_one_slot_each_is_answered_before_the_next_is_taken(engine: Engine, images: Tensor) -> None:
    taken: list[int] = []

    def source() -> Iterator[Request]:
        for number, image in enumerate(images):
            taken.append(number)
            yield Request(image=image)

    answers = Session(engine, None, T, slots=1).stream(source())
    assert next(answers).index == 0
    assert taken == [0]
    answers.close()


class SlowSlots:
    """Slots whose step takes a known time."""

    def __init__(self, inner: object, seconds: float) -> None:
        self._inner, self._seconds = inner, seconds
        self.capacity: int = inner.capacity  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def step(self, rows: Tensor, segment: int = 1, observe: object = None) -> Tensor:
        time.sleep(self._seconds)
        result: Tensor = self._inner.step(rows, segment, observe)  # type: ignore[attr-defined]
        return result


class SlowEngine(ReferenceEngine):
    step_seconds = 0.05

    def open(self, slots: int) -> SlowSlots:  # type: ignore[override]
        return SlowSlots(super().open(slots), self.step_seconds)


def test_a_deadline_is_in_milliseconds_from_handing_in(network: SpikingNetwork, images: Tensor) -> None:
    """175 ms are three steps of 50 ms: a fourth would end after them."""
    session = Session(SlowEngine(network), None, 400, slots=1)
    (answer,) = session.stream([Request(image=images[0], deadline_ms=175.0)])
    assert answer.stopped_by == "deadline"
    assert 1 <= answer.exit_timestep <= 3


def test_a_step_that_would_end_after_the_deadline_is_not_run(network: SpikingNetwork, images: Tensor) -> None:
    """80 ms: after one step of 50 ms another would end at 100."""
    session = Session(SlowEngine(network), None, 400, slots=1)
    (answer,) = session.stream([Request(image=images[0], deadline_ms=80.0)])
    assert (answer.stopped_by, answer.exit_timestep) == ("deadline", 1)


def test_waiting_for_the_source_does_not_use_up_a_deadline(network: SpikingNetwork, images: Tensor) -> None:
    def source() -> Iterator[Request]:
        yield Request(image=images[0], deadline_ms=5_000.0)
        time.sleep(1.0)
        yield Request(image=images[1], deadline_ms=900.0)

    first, second = Session(SlowEngine(network), None, 3, slots=4).stream(source())
    assert first.stopped_by == "timesteps"
    assert second.exit_timestep >= 2


def test_a_policy_of_version_0_1_that_nobody_registered_still_decides_by_t(engine: Engine, images: Tensor) -> None:
    @dataclass(frozen=True)
    class Third:
        kind: ClassVar[str] = "third"

        def start(self, inputs: Tensor) -> tuple[Tensor, ...]:
            return ()

        def stop(self, t: Tensor, logits_sum: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
            return t >= 3, state

        def confidence(self, t: Tensor, logits_sum: Tensor) -> Tensor:
            return torch.ones(len(t))

    with pytest.warns(DeprecationWarning, match=r"Third\.stop and confidence: .*read progress\.t where t was"):
        session = Session(engine, Third(), T)  # type: ignore[arg-type]
    assert session.run(Batch(images)).exit_timestep.tolist() == [3] * 12
