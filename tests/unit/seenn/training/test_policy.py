"""SEENN-II: rewards by hand, both estimators of the same gradient, and a policy that learns what the image shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from seenn.data import DataSplits, load_data
from seenn.data.encoding import PoissonEncoding
from seenn.errors import TrainingError
from seenn.training import OptimConfig, PolicyConfig, ResNet8, Run, TrainConfig, train_policy
from seenn.training.policy import policy_loss, rewards, sample_weights

CORRECT = torch.tensor([[True, True, True], [False, True, True], [False, False, False]])


def test_rewards_are_those_of_the_paper() -> None:
    assert rewards(CORRECT, 2.0).tolist() == [[1.0, 0.5, 0.25], [-2.0, 0.5, 0.25], [-2.0, -2.0, -2.0]]


def test_images_that_one_step_gets_wrong_weigh_as_much_as_the_others_in_sum() -> None:
    correct = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0)) < 0.8
    right = float(correct[:, 0].double().mean())
    weights = sample_weights(correct, right)
    assert weights[correct[:, 0]].eq(1).all()
    assert weights[~correct[:, 0]].sum().item() == pytest.approx(weights[correct[:, 0]].sum().item(), rel=1e-5)


def test_the_exact_loss_is_the_expected_reward() -> None:
    scores = torch.tensor([[0.0, 1.0, 2.0], [1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    weights = torch.tensor([1.0, 3.0, 3.0])
    expected = 0.0
    for n in range(3):
        p = scores[n].exp() / scores[n].exp().sum()
        for k in range(3):
            gain = 2.0**-k if CORRECT[n, k] else -1.5
            expected -= float(weights[n] * p[k] * gain) / 3
    assert float(policy_loss(scores, CORRECT, weights, 1.5, "exact")) == pytest.approx(expected, rel=1e-6)


def test_sampled_gradients_have_the_mean_of_the_exact_one() -> None:
    scores = torch.tensor([[0.3, 0.0, -0.2], [0.1, 0.4, 0.0], [0.0, 0.2, 0.1]], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 2.0])

    def gradient(reward: Any, repeat: int) -> Tensor:
        shape = (repeat, 3, 3)
        many, correct = scores.expand(shape).reshape(-1, 3), CORRECT.expand(shape).reshape(-1, 3)
        loss = policy_loss(many, correct, weights.repeat(repeat), 1.0, reward)
        return torch.autograd.grad(loss, scores)[0]

    torch.manual_seed(0)
    torch.testing.assert_close(gradient("sampled", 60_000), gradient("exact", 1), atol=4e-3, rtol=0)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> DataSplits:
    """600 images of 8 × 8, some with a bright corner: those need three steps."""
    random = np.random.default_rng(0)
    images = random.integers(0, 100, (600, 1, 8, 8), dtype=np.uint8)
    images[::3, :, :4, :4] += 120
    path = tmp_path_factory.mktemp("data") / "data.npz"
    np.savez(path, images=images, labels=np.arange(600) % 2)
    return load_data(f"npz:{path}")


def answers(split: Any) -> Tensor:
    hard = split.images()[:, 0, :4, :4].mean((1, 2)) > split.images()[:, 0, 4:].mean((1, 2)) + 0.5
    return torch.stack([~hard, ~hard, torch.ones_like(hard)])


def config(**changes: Any) -> PolicyConfig:
    train = TrainConfig(epochs=3, batch_size=20, optim=OptimConfig(lr=0.1), label_smoothing=0.0)
    return PolicyConfig(**{"train": train, **changes})


def fresh() -> nn.Module:
    torch.manual_seed(0)
    return ResNet8(1, 3, width=8)


@pytest.mark.parametrize("reward", ["exact", "sampled"])
def test_a_policy_learns_which_images_need_more_steps(splits: DataSplits, reward: Any) -> None:
    train, held = answers(splits.train), answers(splits.exit)
    result = train_policy(fresh(), splits, train, held, (8, 8), config(reward=reward))
    hard = float((~held[0]).double().mean())
    assert 0.2 < hard < 0.5
    assert result.accuracy > 0.95
    assert result.mean_cost == pytest.approx(1 + 2 * hard, abs=0.2)
    assert (result.full_accuracy, result.reward > 0.5) == (1.0, True)


def test_a_training_that_was_stopped_goes_on_bit_for_bit(splits: DataSplits, tmp_path: Path) -> None:
    train, held = answers(splits.train), answers(splits.exit)
    once = train_policy(fresh(), splits, train, held, (8, 8), config(reward="sampled"))

    def stop_after(steps: int) -> Any:
        def on_step(done: int, total: int) -> None:
            if done == steps:
                raise KeyboardInterrupt

        return on_step

    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_policy(
            fresh(),
            splits,
            train,
            held,
            (8, 8),
            config(reward="sampled"),
            run=Run(folder=folder, config={}, save_every=5),
            on_step=stop_after(23),
        )
    again = train_policy(
        fresh(), splits, train, held, (8, 8), config(reward="sampled"), run=Run(folder=folder, config={}, resume=True)
    )
    for name, tensor in once.module.state_dict().items():
        assert torch.equal(tensor, again.module.state_dict()[name]), name
    assert once.training.epochs == again.training.epochs


def test_training_stops_where_nothing_gets_better(splits: DataSplits) -> None:
    still = config(train=replace(config().train, epochs=8, patience=1, optim=OptimConfig(lr=1e-12)))
    reached = train_policy(fresh(), splits, answers(splits.train), answers(splits.exit), (8, 8), still)
    epochs = reached.training.epochs
    assert len(epochs) < 8 or epochs[-1].accuracy >= max(e.accuracy for e in epochs[:-1])


def test_where_there_is_nothing_to_learn_it_says_so(splits: DataSplits) -> None:
    held = answers(splits.exit)
    for value, word in ((True, "every one"), (False, "none")):
        same = torch.full((3, len(splits.train)), value)
        with pytest.raises(TrainingError, match=f"after one timestep the network is right on {word} of the .* fixed"):
            train_policy(fresh(), splits, same, held, (8, 8), config())


def test_sequences_are_refused(splits: DataSplits) -> None:
    preprocessing = replace(splits.preprocessing, mean=(0.0,), std=(1.0,))
    spikes = splits.with_preprocessing(preprocessing).with_encoding(PoissonEncoding(timesteps=3))
    with pytest.raises(TrainingError, match=r"a policy network learns from constant images, .* sequences of frames"):
        train_policy(fresh(), spikes, answers(splits.train), answers(splits.exit), (8, 8), config())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": -1.0}, "beta must be at least 0 and finite, got -1.0"),
        ({"beta": float("nan")}, "beta must be at least 0 and finite, got nan"),
        ({"reward": "guessed"}, "reward must be 'exact' or 'sampled', got 'guessed'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(**arguments)
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        TrainConfig(patience=0)


def test_resnet8_has_eight_layers_and_one_score_a_timestep() -> None:
    module = ResNet8(3, 5)
    layers = [
        m for m in module.modules() if isinstance(m, nn.Linear) or (isinstance(m, nn.Conv2d) and m.padding != (0, 0))
    ]
    assert len(layers) == 8
    assert module.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 5)
