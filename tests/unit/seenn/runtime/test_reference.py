from __future__ import annotations

import pytest
import torch
from torch import Tensor

import seenn
from seenn.core.network import SpikingNetwork
from seenn.errors import SeennError
from seenn.exits import ConfidenceExit, FixedExit, replay
from seenn.predict import predict
from seenn.runtime import Predictions, run_reference

EARLY = ConfidenceExit(threshold=0.9, accumulation="sum")


def test_a_sample_that_exits_gives_what_running_everything_gives_in_hindsight(
    network: SpikingNetwork, images: Tensor
) -> None:
    early = run_reference(network, images, EARLY, 6, keep_logits=True)
    full = run_reference(network, images, FixedExit(), 6, keep_logits=True).logits_sum_per_step
    assert full is not None
    exits = replay(EARLY, full)
    assert 1 < len(exits.unique()) <= 6
    assert torch.equal(early.exit_timestep, exits)
    at_exit = full[exits - 1, torch.arange(len(images))]
    torch.testing.assert_close(early.logits_sum, at_exit)
    assert torch.equal(early.labels, at_exit.argmax(-1))
    torch.testing.assert_close(early.confidence, EARLY.confidence(exits, at_exit))
    steps = early.logits_sum_per_step
    assert steps is not None
    ran = torch.arange(1, 7)[:, None] <= exits
    assert torch.equal(~steps.isnan().any(-1), ran)
    torch.testing.assert_close(steps[ran], full[ran])


def test_a_sample_that_exits_is_not_computed_any_more(network: SpikingNetwork, images: Tensor) -> None:
    seen: dict[int, list[int]] = {}

    def observe(t: int, rows: Tensor, site: str, count: Tensor) -> None:
        assert len(count) == len(rows)
        seen.setdefault(t, rows.tolist())
        assert seen[t] == rows.tolist()

    exits = run_reference(network, images, EARLY, 6, observe=observe).exit_timestep
    for t, rows in seen.items():
        assert rows == (exits >= t).nonzero().flatten().tolist()


def test_everybody_is_forced_out_at_the_last_timestep(network: SpikingNetwork, images: Tensor) -> None:
    never = run_reference(network, images, ConfidenceExit(threshold=1.0), 3)
    assert never.exit_timestep.tolist() == [3] * len(images)
    assert run_reference(network, images, FixedExit(timesteps=9), 2).exit_timestep.tolist() == [2] * len(images)


def test_when_all_have_left_the_remaining_steps_cost_nothing(network: SpikingNetwork, images: Tensor) -> None:
    steps = []
    found = run_reference(
        network, images, FixedExit(timesteps=2), 5, keep_logits=True, observe=lambda t, *_: steps.append(t)
    )
    assert set(steps) == {1, 2}
    assert found.logits_sum_per_step is not None
    assert found.logits_sum_per_step.isnan().all(-1).all(-1).tolist() == [False, False, True, True, True]


def test_answers_keep_the_order_of_the_images(network: SpikingNetwork, images: Tensor) -> None:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(3))
    straight = predict(network, images, EARLY, 6, keep_logits=True)
    shuffled = predict(network, images[order], EARLY, 6, batch_size=5)
    batches = predict(network, iter(images.split(7)), EARLY, 6, keep_logits=True)
    assert len(batches) == len(images)
    for name in ("labels", "exit_timestep", "confidence", "logits_sum"):
        torch.testing.assert_close(getattr(shuffled, name), getattr(straight, name)[order])
        torch.testing.assert_close(getattr(batches.cpu(), name), getattr(straight, name))
    torch.testing.assert_close(batches.logits_sum_per_step, straight.logits_sum_per_step, equal_nan=True)


def test_gradients_flow_through_the_engine(network: SpikingNetwork, images: Tensor) -> None:
    network.requires_grad_(True)
    run_reference(network, images, EARLY, 4).logits_sum.square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in network.parameters())


def test_prediction_uses_running_statistics_whatever_the_mode() -> None:
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3), seenn.IFNeuron(), torch.nn.Flatten(), torch.nn.Linear(12, 2)
    )
    network = seenn.capture(model.train(), torch.zeros(1, 1, 4, 4))
    images = torch.randn(5, 1, 4, 4)
    before = model[1].running_mean.clone()
    together = predict(network, images, timesteps=3)
    alone = predict(network, images, timesteps=3, batch_size=1)
    torch.testing.assert_close(together.logits_sum, alone.logits_sum)
    assert torch.equal(model[1].running_mean, before)
    assert network.graph["1"].op.training


@pytest.mark.parametrize("timesteps", [0, -1, True, 2.0])
def test_timesteps_must_be_a_whole_number_of_at_least_one(
    network: SpikingNetwork, images: Tensor, timesteps: int
) -> None:
    with pytest.raises(ValueError, match=f"timesteps must be an integer from 1 to .*, got {timesteps!r}"):
        predict(network, images, timesteps=timesteps)


def test_bad_images_are_refused(network: SpikingNetwork, images: Tensor) -> None:
    with pytest.raises(ValueError, match="there are no images to run: got an empty batch"):
        predict(network, images[:0])
    with pytest.raises(ValueError, match="there are no images to run: got none"):
        predict(network, [])
    with pytest.raises(ValueError, match=r"images must have shape \[B, 2, 6, 6\], got \[12, 2, 6, 5\]"):
        predict(network, images[..., 1:])
    with pytest.raises(ValueError, match="batch_size must be an integer from 1"):
        predict(network, images, batch_size=0)
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="images hold NaN or infinite pixels: check the preprocessing"):
        predict(network, images)


def test_outputs_that_are_not_finite_are_an_error(network: SpikingNetwork, images: Tensor) -> None:
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(SeennError, match="the outputs of image 3 are not finite after 2 timesteps: check the image"):
        run_reference(network, images, EARLY, 2)
    weight = network.graph["conv2"].op.tensors()["weight"]
    weight.data[0, 0, 0, 0] = torch.nan
    with pytest.raises(SeennError, match=r"the outputs of image 0 are not finite .* and the network's weights"):
        predict(network, images[:2], timesteps=2)


def test_predictions_concatenate_without_logits(network: SpikingNetwork, images: Tensor) -> None:
    part = run_reference(network, images, EARLY, 2)
    both = Predictions.concatenate([part, part])
    assert len(both) == 2 * len(images)
    assert both.logits_sum_per_step is None
    assert both.cpu().logits_sum_per_step is None
