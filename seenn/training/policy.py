"""Training SEENN-II: a policy network against what a frozen spiking network gets right after each timestep.

The spiking network runs once over the images, for all T steps; everything after that is on its answers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Unpack, get_args

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.data import DataSplits
from seenn.errors import TrainingError
from seenn.exits.policy_network import shrink
from seenn.training.config import TrainConfig
from seenn.training.loop import FitOptions, TrainingResult, fit, refuse_sequences
from seenn.training.optim import OptimConfig

Reward = Literal["exact", "sampled"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How a policy is trained; with the same module and answers, the whole outcome on a CPU."""

    beta: float = 1.0  # what a wrong answer costs, >= 0; a right one after t steps earns 2^-(t-1)
    reward: Reward = "exact"  # the expectation over budgets, or REINFORCE on one drawn budget
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(epochs=20, patience=5, optim=OptimConfig(lr=0.01), label_smoothing=0.0)
    )

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta < float("inf"):
            raise ValueError(f"beta must be at least 0 and finite, got {self.beta}")
        if self.reward not in get_args(Reward):
            raise ValueError(f"reward must be 'exact' or 'sampled', got {self.reward!r}")

    def to_record(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """The trained module (best epoch's weights, eval mode) and what it does on the exit split."""

    module: nn.Module
    training: TrainingResult
    reward: float  # mean, greedy
    accuracy: float  # at the budgets
    mean_cost: float  # in full timesteps, without initial ones
    full_accuracy: float  # at T


def rewards(correct: Tensor, beta: float, cost: Tensor | None = None) -> Tensor:
    """``2^-(cost-1)`` where an answer is right, ``-beta`` where it is wrong: ``[B, P]`` from ``[B, P]``.

    ``cost`` is that of each answer in full timesteps, ``[P]``; None: 1 … T, one a step.
    """
    costs = torch.arange(1, correct.shape[1] + 1) if cost is None else cost
    earned = (2.0 ** (1 - costs.float())).to(correct.device)
    return torch.where(correct, earned, -beta)


def sample_weights(correct: Tensor, right_at_once: float) -> Tensor:
    """``1`` for images that are right after one step, ``r / (1 - r)`` for the others, ``[B]``.

    r = ``right_at_once`` is the share of the former: both kinds then weigh the same in sum.
    """
    return torch.where(correct[:, 0], 1.0, right_at_once / (1 - right_at_once))


def policy_loss(
    scores: Tensor, correct: Tensor, weights: Tensor, beta: float, reward: Reward, cost: Tensor | None = None
) -> Tensor:
    """Minus the mean weighted reward of budgets drawn from ``p = softmax(scores)``, as a scalar to differentiate.

    ``exact`` is the expectation itself, ``-mean_b w_b Σ_t p_t R_t``: what the authors' code does. ``sampled`` is
    REINFORCE as their paper says: ``-mean_b w_b (R_t - R_greedy) log p_t`` for one drawn t, whose gradient has
    the same mean; the reward of the greedy budget is the baseline.

    Args:
        scores: the policy network's, ``[B, T]``.
        correct: whether the spiking network is right after t steps, bool ``[B, T]``.
        weights: ``[B]``.
        cost: see ``rewards``.
    """
    gain = rewards(correct, beta, cost)
    if reward == "exact":
        return -(weights * (scores.softmax(-1) * gain).sum(-1)).mean()
    log_p = scores.log_softmax(-1)
    drawn = log_p.detach().exp().multinomial(1)
    greedy = scores.detach().argmax(-1, keepdim=True)
    advantage = (gain.gather(1, drawn) - gain.gather(1, greedy)).squeeze(1)
    return -(weights * advantage * log_p.gather(1, drawn).squeeze(1)).mean()


def refuse_frames(splits: DataSplits) -> None:
    """Raises TrainingError where samples are frames over time: a policy network looks at one image."""
    refuse_sequences(splits, "a policy network", "choose when they may stop with calibrate-exit")


def train_policy(
    module: nn.Module,
    splits: DataSplits,
    correct_train: Tensor,
    correct_exit: Tensor,
    size: tuple[int, ...],
    config: PolicyConfig,
    *,
    cost: Tensor | None = None,
    **options: Unpack[FitOptions],
) -> PolicyResult:
    """Trains ``module`` in place; the epoch that is kept has the best mean reward on the exit split.

    Args:
        module: images ``[B, C, *size]`` to one score for each t = 1 … T, or for each exit point.
        splits: the data.
        correct_train: whether the spiking network is right after t steps on the first N images of the train
            split, bool ``[T, N]``.
        correct_exit: the same on the exit split.
        size: ``(h, w)`` that images are shrunk to.
        config: how to train.
        cost: of each exit point in full timesteps; None: 1 … T.
        options: see :func:`seenn.training.fit`.

    Raises:
        TrainingError: one step is right on every training image, or on none: nothing to learn; or the loss
            became NaN or infinite; or the data are sequences of frames.
        DataError, CheckpointError: see :func:`seenn.training.fit`.
    """
    refuse_frames(splits)
    right_at_once = float(correct_train[0].double().mean())
    if not 0.0 < right_at_once < 1.0:
        raise TrainingError(
            f"after one timestep the network is right on {'every one' if right_at_once else 'none'} of the "
            f"{correct_train.shape[1]} training images, so there is nothing to tell apart: "
            "use a fixed exit (--policy fixed), or more images"
        )
    device = options.get("device", "cpu")
    correct = correct_train.T.to(device)
    weights = sample_weights(correct, right_at_once)

    def loss_fn(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        scores, number = module(shrink(batch.inputs, size)), batch.known_labels
        return policy_loss(scores, correct[number], weights[number], config.beta, config.reward, cost)

    @torch.inference_mode()
    def judge(module: nn.Module) -> tuple[float, float, float]:
        """Mean reward, accuracy and cost of the greedy budgets on the exit split."""
        batches = splits.exit.batches(256, limit=correct_exit.shape[1])
        chosen = torch.cat([module(shrink(batch.inputs.to(device), size)).argmax(-1).cpu() for batch in batches])
        index, right = chosen[:, None], correct_exit.T
        of_each = (rewards(right, config.beta, cost), right)
        gained, answered = (v.gather(1, index).double().mean().item() for v in of_each)
        return gained, answered, (chosen + 1 if cost is None else cost[chosen]).double().mean().item()

    def validate(module: nn.Module) -> float:
        most = 1.0 if cost is None else 2.0 ** (1 - float(cost[0]))
        return (judge(module)[0] + config.beta) / (most + config.beta)  # in [0, 1]

    numbered = replace(splits, train=splits.train.numbered(len(correct)))
    result = fit(module, loss_fn, numbered, config.train, validate=validate, **options)
    reward, accuracy, mean_cost = judge(result.module)
    return PolicyResult(
        module=result.module,
        training=result,
        reward=reward,
        accuracy=accuracy,
        mean_cost=mean_cost,
        full_accuracy=correct_exit[-1].double().mean().item(),
    )
