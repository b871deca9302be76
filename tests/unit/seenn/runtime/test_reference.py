from __future__ import annotations

import pytest
import torch
from runs import run
from torch import Tensor

import seenn
from seenn import SNN
from seenn.core.network import SpikingNetwork
from seenn.errors import SeennError
from seenn.exits import ConfidenceExit, FixedExit, Progress, replay
from seenn.runtime import Predictions

EARLY = ConfidenceExit(threshold=0.9, accumulation="sum")


def test_a_sample_that_exits_gives_what_running_everything_gives_in_hindsight(
    network: SpikingNetwork, images: Tensor
) -> None:
    early = run(network, images, EARLY, 6)
    full = run(network, images, FixedExit(), 6).logits_sum_per_step
    exits = replay(EARLY, full)
    assert 1 < len(exits.unique()) <= 6
    assert torch.equal(early.exit_timestep, exits)
    at_exit = full[exits - 1, torch.arange(len(images))]
    torch.testing.assert_close(early.logits_sum, at_exit)
    assert torch.equal(early.labels, at_exit.argmax(-1))
    torch.testing.assert_close(early.confidence, EARLY.confidence(Progress.after(exits), at_exit))
    steps = early.logits_sum_per_step
    ran = torch.arange(1, 7)[:, None] <= exits
    assert torch.equal(~steps.isnan().any(-1), ran)
    torch.testing.assert_close(steps[ran], full[ran])


def test_a_sample_that_exits_is_not_computed_any_more(network: SpikingNetwork, images: Tensor) -> None:
    seen: dict[int, list[int]] = {}

    def observe(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        assert len(count) == len(rows)
        seen.setdefault(t, rows.tolist())
        assert seen[t] == rows.tolist()

    exits = run(network, images, EARLY, 6, observe=observe).exit_timestep
    for t, rows in seen.items():
        assert rows == (exits >= t).nonzero().flatten().tolist()


def test_everybody_is_forced_out_at_the_last_timestep(network: SpikingNetwork, images: Tensor) -> None:
    never = run(network, images, ConfidenceExit(threshold=1.0), 3)
    assert never.exit_timestep.tolist() == [3] * len(images)
    assert run(network, images, FixedExit(timesteps=9), 2).exit_timestep.tolist() == [2] * len(images)


def test_when_all_have_left_the_remaining_steps_cost_nothing(network: SpikingNetwork, images: Tensor) -> None:
    steps = []
    found = run(network, images, FixedExit(timesteps=2), 5, observe=lambda t, *_: steps.append(t))
    assert set(steps) == {1, 2}
    assert found.logits_sum_per_step.isnan().all(-1).all(-1).tolist() == [False, False, True, True, True]


def test_answers_keep_the_order_of_the_images(network: SpikingNetwork, images: Tensor) -> None:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
    straight = run(network, images, EARLY, 6)
    shuffled = run(network, images[order], EARLY, 6, slots=5)
    batches = run(network, images.split(7), EARLY, 6)
    assert len(batches) == len(images)
    for name in ("labels", "exit_timestep", "confidence", "logits_sum"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(straight, name)[order])
        torch.testing.assert_close(getattr(batches, name), getattr(straight, name))
    torch.testing.assert_close(batches.logits_sum_per_step, straight.logits_sum_per_step, equal_nan=True)


def test_prediction_uses_running_statistics_whatever_the_mode() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), seenn.IFNeuron(), torch.nn.Flatten(), torch.nn.Linear(12, 2)
    )
    network = seenn.capture(model.train(), torch.zeros(1, 1, 4, 4))
    images = torch.randn(5, 1, 4, 4)
    before = model[1].running_mean.clone()
    together = run(network, images, timesteps=3)
    alone = run(network, images, timesteps=3, slots=1)
    torch.testing.assert_close(together.logits_sum, alone.logits_sum)
    assert torch.equal(model[1].running_mean, before)
    assert network.graph["1"].op.training


@pytest.mark.parametrize("timesteps", [0, -1, True, 2.0])
def test_timesteps_must_be_a_whole_number_of_at_least_one(
    network: SpikingNetwork, images: Tensor, timesteps: int
) -> None:
    with pytest.raises(ValueError, match=f"timesteps must be an integer from 1 to .*, got {timesteps!r}"):
        run(network, images, timesteps=timesteps)


def test_bad_images_are_refused(network: SpikingNetwork, images: Tensor) -> None:
    snn = SNN(network=network)
    with pytest.raises(ValueError, match="there are no images to run: got none"):
        snn.predict(images[:0])
    with pytest.raises(ValueError, match=r"inputs have shape \[12, 2, 6, 5\], expected \[B, 2, 6, 6\]"):
        snn.predict(images[..., 1:])
    with pytest.raises(ValueError, match="batch_size must be an integer from 1"):
        snn.predict(images, batch_size=0)
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="image 3 holds NaN or infinite pixels: check the preprocessing"):
        snn.predict(images, engine="reference")


def test_outputs_that_are_not_finite_are_an_error(network: SpikingNetwork, images: Tensor) -> None:
    weight = network.graph["conv2"].op.tensors()["weight"]
    weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(SeennError, match="the outputs of image 0 are not finite after 2 timesteps: check the"):
        run(network, images[:2], timesteps=2)


def test_predictions_concatenate(network: SpikingNetwork, images: Tensor) -> None:
    part = SNN(network=network).predict(images, timesteps=2, engine="reference")
    both = Predictions.concatenate([part, part])
    assert len(both) == 2 * len(images)
    assert torch.equal(both.logits_sum, part.logits_sum.repeat(2, 1))
