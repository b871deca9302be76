from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import pytest
import torch
from runs import run
from torch import Tensor

from seenn import SNN
from seenn.core.network import SpikingNetwork
from seenn.data import Preprocessing
from seenn.errors import PluginError, SeennError, UnsupportedError
from seenn.exits import ConfidenceExit
from seenn.runtime import ENGINES, Engine, Prediction, Request, make_engine
from seenn.runtime import slots as engine
from seenn.runtime.kernels import synapses as kernels

MakeNetwork = Callable[..., SpikingNetwork]
EARLY = ConfidenceExit(threshold=0.9, accumulation="sum")


@pytest.fixture
def small(make_network: MakeNetwork) -> SpikingNetwork:
    return make_network().float()


def stream(network: SpikingNetwork, source: Iterable[Tensor]) -> Iterator[Prediction]:
    return SNN(network=network, policy=EARLY).stream(source, engine="int8", timesteps=6, slots=3)


@pytest.fixture
def inputs(images: Tensor) -> Tensor:
    return images.float()


@pytest.mark.parametrize("name", ["auto", *ENGINES.names()])
def test_every_engine_answers_in_order(name: str, small: SpikingNetwork, inputs: Tensor) -> None:
    made = make_engine(name, small, timesteps=6)
    assert made.exact == (made.name == "int8")
    expected = run(small, inputs, EARLY, 6)
    found = run(made, inputs, EARLY, 6, slots=5)
    assert len(found) == len(inputs)
    tolerance = {"reference": 1e-4, "float32": 1e-4}.get(made.name, 0.3)
    relative = (found.logits_sum - expected.logits_sum).norm() / expected.logits_sum.norm()
    assert torch.equal(found.exit_timestep, expected.exit_timestep) or tolerance > 0.1
    assert float(relative) < tolerance
    assert torch.equal(found.labels, found.logits_sum.argmax(-1))


def test_an_unknown_engine_is_refused_with_the_nearest_name(small: SpikingNetwork) -> None:
    with pytest.raises(PluginError, match=r"unknown engine 'int4'\. Did you mean 'int8'"):
        make_engine("int4", small, timesteps=4)


def test_int8_that_cannot_be_exact_is_refused_and_auto_says_why(make_network: MakeNetwork) -> None:
    network = make_network(max_spikes=100).float()
    with pytest.raises(UnsupportedError, match="could leave the range in which integers are exact"):
        make_engine("int8", network, timesteps=10**6)
    pixels = Preprocessing(channels=2, height=6, width=6, mean=(0.5, 0.5), std=(0.5, 0.5))
    assert make_engine("auto", network, timesteps=8, preprocessing=pixels).name == "int8"
    fallback = make_engine("auto", network, timesteps=10**6, preprocessing=pixels)
    assert fallback.name == "float32"
    assert "could leave the range" in fallback.note


def test_auto_leaves_inputs_that_are_no_pixels_to_float(small: SpikingNetwork) -> None:
    engine = make_engine("auto", small, timesteps=4)
    assert engine.name == "float32"
    assert "not int8: inputs that are not 8-bit pixels would be rounded to multiples of 1/128, up to ±16" in engine.note
    assert "inputs rounded to multiples of 1/128, up to ±16" in make_engine("int8", small, timesteps=4).note


def test_more_timesteps_than_were_proven_are_refused(small: SpikingNetwork, inputs: Tensor) -> None:
    made = make_engine("int8", small, timesteps=4)
    assert made.max_timesteps is not None
    with pytest.raises(ValueError, match=f"exact up to {made.max_timesteps} timesteps, got 99999: make one with"):
        run(made, inputs, None, 99_999, slots=2)


@pytest.mark.parametrize("name", ["reference", "float32", "int8"])
def test_more_slots_than_memory_allows_are_refused_before_they_are_taken(name: str, small: SpikingNetwork) -> None:
    made = make_engine(name, small, timesteps=4)
    with pytest.raises(SeennError, match=r"100000000000 slots need [\d,]+ MiB .*: use at most \d+ slots"):
        made.open(100_000_000_000)


def test_memory_is_not_asked_for_where_the_system_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "available_memory", lambda device: None)
    engine.check_memory(10**9, 10**9, torch.device("cpu"))


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("name", ["reference", "int8"])
def test_a_stream_answers_every_image(name: str, ordered: bool, small: SpikingNetwork, inputs: Tensor) -> None:
    expected = run(make_engine(name, small, timesteps=6), inputs, EARLY, 6)
    snn = SNN(network=small, policy=EARLY)
    found = list(snn.stream(iter(inputs), timesteps=6, engine=name, slots=3, ordered=ordered))
    indices = [prediction.index for prediction in found]
    assert sorted(indices) == list(range(len(inputs)))
    assert (indices == sorted(indices)) == ordered
    for prediction in found:
        assert prediction.exit_timestep == expected.exit_timestep[prediction.index]
        assert prediction.label == expected.labels[prediction.index]
        assert prediction.stopped_by == ("timesteps" if prediction.exit_timestep == 6 else "policy")


def test_a_stream_takes_an_image_only_when_a_slot_is_free(small: SpikingNetwork, inputs: Tensor) -> None:
    taken = 0

    def endless() -> Iterator[Tensor]:
        nonlocal taken
        while True:
            taken += 1
            yield inputs[taken % len(inputs)]

    found = SNN(network=small).stream(endless(), slots=1, timesteps=3)
    for expected in range(1, 5):
        next(found)
        assert taken == expected


def test_a_source_that_fails_loses_no_answer(small: SpikingNetwork, inputs: Tensor) -> None:
    def broken() -> Iterator[Tensor]:
        yield from inputs[:7]
        raise OSError("the camera is gone")

    found: list[int] = []
    with pytest.raises(OSError, match="the camera is gone"):
        found.extend(prediction.index for prediction in stream(small, broken()))
    assert found == list(range(7))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(2, 5, 6), r"image 4: inputs have shape \[1, 2, 5, 6\], expected \[B, 2, 6, 6\]"),
        (torch.full((2, 6, 6), torch.nan), "image 4 holds NaN or infinite pixels"),
        (torch.full((2, 6, 6), 99.0), "outside the input scale"),
        (torch.zeros(3, 2, 6, 6), "image 4 is a batch of 3: a stream takes one at a time"),
    ],
)
def test_a_bad_image_in_a_stream_ends_it_after_the_answers(
    bad: Tensor, message: str, small: SpikingNetwork, inputs: Tensor
) -> None:
    found: list[int] = []
    with pytest.raises(ValueError, match=message):
        found.extend(p.index for p in stream(small, [*inputs[:4], bad, *inputs[4:]]))
    assert found == [0, 1, 2, 3]


@pytest.mark.parametrize("deadline", [0, -1.0, float("nan")])
def test_a_deadline_of_no_time_is_refused(deadline: float, small: SpikingNetwork, inputs: Tensor) -> None:
    with pytest.raises(ValueError, match="deadline_ms must be"):
        SNN(network=small).stream(inputs, deadline_ms=deadline)
    with pytest.raises(ValueError, match="deadline_ms must be"):
        Request(image=inputs[0], deadline_ms=deadline)


def test_at_its_deadline_a_request_gets_the_best_answer_so_far(small: SpikingNetwork, inputs: Tensor) -> None:
    requests = [Request(image=inputs[0], deadline_ms=1e-6), Request(image=inputs[1])]
    hurried, calm = SNN(network=small).stream(requests, engine="int8", timesteps=6, slots=2)
    assert (hurried.exit_timestep, hurried.stopped_by) == (1, "deadline")
    assert (calm.exit_timestep, calm.stopped_by) == (6, "timesteps")
    full = run(make_engine("int8", small, timesteps=6), inputs[:1], None, 1)
    assert torch.equal(hurried.logits_sum, full.logits_sum[0])


def test_another_device_holds_integers_in_float64() -> None:
    assert kernels.exact_kernels(torch.device("cuda")) == [kernels.DOUBLE]


@pytest.mark.parametrize(("int8", "float32"), [(900.0, 230.0), (20.0, 17.0), (17.0, 20.0)])
def test_int8_kernels_are_used_where_they_multiply_clearly_faster_than_float32(
    int8: float, float32: float, small: SpikingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    device, speeds = torch.device("cpu"), {kernels.INT8: int8, kernels.FLOAT32: float32}
    if not all(kernels.is_exact(kernel, device) for kernel in speeds):
        pytest.skip("oneDNN is missing, or one of its kernels is not exact on this machine")
    monkeypatch.setenv("SEENN_CACHE", "")
    monkeypatch.setattr(kernels, "gmacs", lambda kernel, threads: speeds[kernel])
    expected = kernels.INT8 if int8 == 900.0 else kernels.FLOAT32
    assert kernels.exact_kernels(device)[0] is expected
    kinds = make_engine("int8", small, timesteps=4).note.split("; ")[0].split(", ")
    synapses = [kind for kind in kinds if "synapses" in kind]
    assert synapses[-1].endswith(f"by {expected.name}")


@pytest.mark.parametrize("name", ["int8", "float32", "bfloat16", "reference"])
def test_engines_can_be_copied(name: str, make_network: Callable[..., SpikingNetwork], images: Tensor) -> None:
    engine, inputs = make_engine(name, make_network().float(), timesteps=4), images.float()

    def scores(engine: Engine) -> Tensor:
        slots = engine.open(len(inputs))
        slots.load(torch.arange(len(inputs)), inputs)
        return torch.stack([slots.step(torch.arange(len(inputs))) for _ in range(4)])

    expected = scores(engine)
    copies = [copy.copy(engine), copy.deepcopy(engine), copy.deepcopy(copy.deepcopy(engine))]
    del engine
    assert all(torch.equal(scores(made), expected) for made in copies)
