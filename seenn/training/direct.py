"""Direct training of a spiking network: what of it is not the common loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Unpack

import torch
from torch import Tensor, nn

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops.arguments import integer
from seenn.data import DataSplits
from seenn.data.encoding import PoissonEncoding, poisson
from seenn.training.config import TrainConfig
from seenn.training.loop import FitOptions, TrainingResult, accuracies, fit
from seenn.training.losses import LossOverTime, TETLoss


@dataclass(frozen=True, kw_only=True)
class DirectConfig:
    """How a spiking network sees images over time, and what its outputs are held to."""

    timesteps: int = 4  # T
    loss: LossOverTime = field(default_factory=TETLoss)
    encoding: PoissonEncoding | None = None  # of images in [0, 1]; None: a constant current, or a sequence as it is
    mixed_timesteps: bool = False  # every batch runs 1 to T steps, drawn with equal odds
    save_memory: bool = False  # compute most of the forward pass again in the backward pass instead of remembering it

    def __post_init__(self) -> None:
        integer("timesteps", self.timesteps, low=1, high=4096)

    def to_record(self) -> dict[str, Any]:
        """What determines the outcome, as JSON values."""
        return {
            "timesteps": self.timesteps,
            "loss": {"name": type(self.loss).__name__, **vars(self.loss)},
            "encoding": None if self.encoding is None else self.encoding.to_json(),
            "mixed_timesteps": self.mixed_timesteps,
        }


class OverTime(nn.Module):
    """A network with its time inside: the outputs of every step, ``[T, B, K]``."""

    def __init__(self, network: SpikingNetwork, config: DirectConfig, *, heads: bool = False) -> None:
        """With ``heads`` its outputs are those of every exit in a step, ``[D, T, B, K]``."""
        super().__init__()
        network.refuse_training()
        self.heads = heads
        self.network = network
        self.config = config

    def forward(self, batch: Batch, timesteps: int | None = None) -> Tensor:
        """The first ``timesteps`` of T; None: all. In training, Poisson spikes come from torch's global generator."""
        config, inputs = self.config, batch.inputs
        timesteps = config.timesteps if timesteps is None else timesteps
        if batch.is_sequence:
            inputs = inputs[:timesteps]
        elif config.encoding is not None:
            inputs = poisson(inputs, timesteps) if self.training else config.encoding(inputs)
        return self.network.unroll(inputs, timesteps, save_memory=config.save_memory, heads=self.heads).float()


def summed(module: nn.Module, batch: Batch) -> Tensor:
    """``logits_sum`` of an :class:`OverTime` after t = 1 … T steps, ``[T, B, K]``."""
    return at_exits(module, batch)[-1]


def at_exits(module: nn.Module, batch: Batch) -> Tensor:
    """What a session sums up at every exit of every step, ``[D, T, B, K]``: whole steps before, and this one's exit."""
    outputs: Tensor = module(batch)
    outputs = outputs if outputs.dim() == 4 else outputs.unsqueeze(0)
    whole = outputs[-1].cumsum(0)
    return torch.cat([whole - outputs[-1] + outputs[:-1], whole[None]])


def train_direct(
    network: SpikingNetwork,
    splits: DataSplits,
    config: TrainConfig,
    direct: DirectConfig,
    **options: Unpack[FitOptions],
) -> TrainingResult:
    """Trains ``network`` in place by backpropagation through time; see :func:`seenn.training.fit` for the rest.

    Batch normalisation must still be in the network: it learns over the merged axis of time and batch.
    ``config.label_smoothing`` gives way to that of ``direct.loss``.
    """

    def loss_fn(module: nn.Module, batch: Batch, shared: torch.Generator) -> Tensor:
        timesteps = direct.timesteps
        if direct.mixed_timesteps:
            timesteps = int(torch.randint(1, timesteps + 1, (), generator=shared))
        return direct.loss(module(batch, timesteps), batch.known_labels)

    def validate(module: nn.Module) -> float:
        limit, device = config.validation_images, options.get("device", "cpu")
        return accuracies(module, splits.calibration, summed, limit=limit, device=device)[-1]

    return fit(OverTime(network, direct), loss_fn, splits, config, validate=validate, **options)
