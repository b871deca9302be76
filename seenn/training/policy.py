"""Training SEENN-II: a policy network against what a frozen spiking network gets right after each timestep.

The spiking network runs once over the images, for all T steps; everything after that is on its answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from seenn.data import Split
from seenn.errors import TrainingError
from seenn.exits.policy_network import shrink
from seenn.training.augment import Augment
from seenn.training.loop import EpochReport, Step, best_of, epoch_seed, run_epochs
from seenn.training.optim import OptimConfig, build_optimizer, warmup_cosine

Reward = Literal["exact", "sampled"]


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """How a policy is trained; with the same module and answers, the whole outcome on a CPU."""

    beta: float = 1.0  # what a wrong answer costs, >= 0; a right one after t steps earns 2^-(t-1)
    reward: Reward = "exact"  # the expectation over budgets, or REINFORCE on one drawn budget
    epochs: int = 20
    patience: int = 5  # epochs without a better validation reward before training stops
    batch_size: int = 64
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(lr=0.01))
    augment: Augment = field(default_factory=Augment)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0.0 <= self.beta < float("inf"):
            raise ValueError(f"beta must be at least 0 and finite, got {self.beta}")
        if self.reward not in get_args(Reward):
            raise ValueError(f"reward must be 'exact' or 'sampled', got {self.reward!r}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")

    def to_record(self) -> dict[str, Any]:
        """The configuration as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Images of a split, prepared for the policy network, and whether the spiking network is right on each."""

    images: Tensor  # [N, C, h, w], at the policy network's size
    correct: Tensor  # bool [T, N]: after t steps

    @classmethod
    def of(cls, split: Split, correct: Tensor, size: tuple[int, ...], *, batch_size: int = 256) -> Answers:
        """Of the first N images of ``split``, ``correct`` being ``[T, N]``."""
        batches = split.batches(batch_size, limit=correct.shape[1])
        return cls(images=torch.cat([shrink(images, size) for images, _ in batches]), correct=correct)


@dataclass(frozen=True, kw_only=True)
class PolicyResult:
    """The trained module (best epoch's weights, eval mode) and what it does on the validation images."""

    module: nn.Module
    epochs: tuple[EpochReport, ...]
    best_epoch: int  # 1-based
    reward: float  # mean, greedy
    accuracy: float  # at the budgets
    mean_timesteps: float
    full_accuracy: float  # at T


def rewards(correct: Tensor, beta: float) -> Tensor:
    """``2^-(t-1)`` where the answer after t steps is right, ``-beta`` where it is wrong: ``[B, T]`` from ``[B, T]``."""
    earned = 2.0 ** -torch.arange(correct.shape[1], device=correct.device)
    return torch.where(correct, earned, -beta)


def sample_weights(correct: Tensor, right_at_once: float) -> Tensor:
    """``1`` for images that are right after one step, ``r / (1 - r)`` for the others, ``[B]``.

    r = ``right_at_once`` is the share of the former: both kinds then weigh the same in sum.
    """
    return torch.where(correct[:, 0], 1.0, right_at_once / (1 - right_at_once))


def policy_loss(scores: Tensor, correct: Tensor, weights: Tensor, beta: float, reward: Reward) -> Tensor:
    """Minus the mean weighted reward of budgets drawn from ``p = softmax(scores)``, as a scalar to differentiate.

    ``exact`` is the expectation itself, ``-mean_b w_b Σ_t p_t R_t``: what the authors' code does. ``sampled`` is
    REINFORCE as their paper says: ``-mean_b w_b (R_t - R_greedy) log p_t`` for one drawn t, whose gradient has
    the same mean; the reward of the greedy budget is the baseline.

    Args:
        scores: the policy network's, ``[B, T]``.
        correct: whether the spiking network is right after t steps, bool ``[B, T]``.
        weights: ``[B]``.
    """
    gain = rewards(correct, beta)
    if reward == "exact":
        return -(weights * (scores.softmax(-1) * gain).sum(-1)).mean()
    log_p = scores.log_softmax(-1)
    drawn = log_p.detach().exp().multinomial(1)
    greedy = scores.detach().argmax(-1, keepdim=True)
    advantage = (gain.gather(1, drawn) - gain.gather(1, greedy)).squeeze(1)
    return -(weights * advantage * log_p.gather(1, drawn).squeeze(1)).mean()


def train_policy(
    module: nn.Module,
    train: Answers,
    validation: Answers,
    config: PolicyConfig,
    *,
    device: torch.device | str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> PolicyResult:
    """Trains ``module`` in place; the epoch that is kept has the best mean reward on ``validation``.

    Args:
        module: images of ``train``'s size to one score for each t = 1 … T.
        train: of the train split.
        validation: of the exit split.
        config: how to train.
        device: where.
        on_epoch, on_step: see ``train_ann``.

    Raises:
        TrainingError: one step is right on every training image, or on none: nothing to learn; or the loss
            became NaN or infinite.
    """
    right_at_once = float(train.correct[0].double().mean())
    if not 0.0 < right_at_once < 1.0:
        raise TrainingError(
            f"after one timestep the network is right on {'every' if right_at_once else 'none'} of the "
            f"{train.correct.shape[1]} training images, so there is nothing to tell apart: "
            "use a fixed exit (--policy fixed), or more images"
        )
    device = torch.device(device)
    module.to(device)
    samples = len(train.images)
    size = min(config.batch_size, samples)
    total_steps = config.epochs * (samples // size)
    optimizer = build_optimizer(module, config.optim)
    schedule = warmup_cosine(optimizer, total_steps=total_steps, warmup_fraction=config.optim.warmup_fraction)
    correct = train.correct.T.to(device)  # [N, T]
    weights = sample_weights(correct, right_at_once)

    def loss_fn(module: nn.Module, images: Tensor, index: Tensor) -> Tensor:
        return policy_loss(module(images), correct[index], weights[index], config.beta, config.reward)

    step = Step(module=module, loss_fn=loss_fn, optimizer=optimizer, schedule=schedule)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(epoch_seed(config.seed, epoch))
        order = torch.randperm(samples, generator=generator)[: samples // size * size]
        for index in order.split(size):
            yield config.augment(train.images[index], generator).to(device), index.to(device)
            if on_step is not None:  # resumed here once the step on this batch is done
                on_step(step.taken, total_steps)

    def judge(module: nn.Module) -> tuple[float, float, float]:
        """Mean reward, accuracy and timesteps of the greedy budgets on the validation images."""
        budget = greedy_budgets(module, validation.images, device)
        index = (budget - 1)[:, None]
        right, gain = (
            values.gather(1, index).double().mean().item()
            for values in (validation.correct.T, rewards(validation.correct.T, config.beta))
        )
        return gain, right, budget.double().mean().item()

    reports, best = run_epochs(
        step,
        batches,
        epochs=config.epochs,
        seed=config.seed,
        validate=lambda module: (judge(module)[0] + config.beta) / (1 + config.beta),  # in [0, 1]
        on_epoch=on_epoch,
        patience=config.patience,
    )
    module.load_state_dict(best)
    module.to(device).eval()
    reward, accuracy, mean_timesteps = judge(module)
    return PolicyResult(
        module=module,
        epochs=tuple(reports),
        best_epoch=best_of(reports).epoch,
        reward=reward,
        accuracy=accuracy,
        mean_timesteps=mean_timesteps,
        full_accuracy=validation.correct[-1].double().mean().item(),
    )


@torch.inference_mode()
def greedy_budgets(
    module: nn.Module, images: Tensor, device: torch.device | str = "cpu", batch_size: int = 256
) -> Tensor:
    """``argmax + 1`` of the scores, int64 ``[N]``, on the CPU."""
    return torch.cat([module(part.to(device)).argmax(-1).cpu() for part in images.split(batch_size)]) + 1
