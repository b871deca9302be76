"""Everything `seenn train-policy` does: SEENN-II from a spiking network, its data and a kind of policy network."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from converter.load import ModelSpec, build_model
from converter.passes import normalise, prove_equal
from converter.trace import trace_model
from seenn.analysis.collect import collect_logits
from seenn.checkpoint import Checkpoint
from seenn.data import DataSplits, Split
from seenn.exits import BudgetExit, PolicyNetwork, exit_record
from seenn.files import atomic_path
from seenn.metrics import correct_per_timestep
from seenn.training import PolicyConfig, PolicyResult, ResNet8, Run, train_policy

logger = logging.getLogger(__name__)

RESNET8 = "resnet8"
DEFAULT_SIZE = 32  # pixels a side, at most


@dataclass(frozen=True, kw_only=True)
class PolicySpec:
    """What looks at the image: ``resnet8``, or any model that ``converter.load`` builds."""

    model: str = RESNET8
    kwargs: Mapping[str, Any] | None = None  # of the model's factory
    size: int | None = None  # pixels a side; None: the image's, at most DEFAULT_SIZE

    def input_shape(self, image: tuple[int, ...]) -> tuple[int, int, int]:
        """``(C, size, size)`` for images ``(C, H, W)``.

        Raises:
            ValueError: the size is larger than the image: there is nothing to gain from enlarging it.
        """
        size = min(DEFAULT_SIZE, *image[1:]) if self.size is None else self.size
        if not 1 <= size <= min(image[1:]):
            raise ValueError(f"the policy's images have {size} pixels a side; expected 1 to {min(image[1:])}")
        return image[0], size, size

    def build(self, input_shape: tuple[int, int, int], timesteps: int, seed: int) -> nn.Module:
        """The network with random weights, one score a number of timesteps."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            if self.model == RESNET8:
                return ResNet8(input_shape[0], timesteps, **(self.kwargs or {}))
            spec = ModelSpec(name=self.model, kwargs=dict(self.kwargs or {}), num_classes=timesteps)
            return build_model(spec, input_shape).module


@dataclass(frozen=True, kw_only=True)
class SpikingAnswers:
    """Whether a spiking network is right after each step, bool ``[T, N]``, on the images that policies learn from."""

    train: Tensor
    exit: Tensor


def spiking_answers(
    checkpoint: Checkpoint,
    splits: DataSplits,
    timesteps: int,
    *,
    limit: int | None = None,
    batch_size: int = 64,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpikingAnswers:
    """One pass of all T steps over the first ``limit`` training images, and over the exit split.

    With ``keep``, a file, the answers are written there, or read where it holds those of this very network, T
    and data: taking up a training does not run the network again.
    """
    samples = len(splits.train) if limit is None else min(limit, len(splits.train))
    origin = {
        "network": checkpoint.network.graph.fingerprint(),
        "timesteps": str(timesteps),
        "samples": str(samples),
        "data": json.dumps(splits.manifest()),
    }
    if keep is not None and (found := _read_answers(keep, origin)) is not None:
        return found
    total = samples + len(splits.exit)

    def right(split: Split, limit: int, offset: int) -> Tensor:
        def counted() -> Any:
            done = offset
            for batch in split.batches(batch_size, limit=limit):
                yield batch
                done += len(batch)
                progress(done, total)

        return correct_per_timestep(*collect_logits(checkpoint.network, counted(), timesteps))

    train = right(splits.train, samples, 0)
    answers = SpikingAnswers(train=train, exit=right(splits.exit, len(splits.exit), samples))
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(keep) as temporary:
            save_file({name: t.contiguous() for name, t in vars(answers).items()}, temporary, origin)
    return answers


def _read_answers(path: Path, origin: Mapping[str, str]) -> SpikingAnswers | None:
    """The answers in ``path`` if they are of this origin; None where they are of another, or unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            if dict(file.metadata() or {}) == origin:
                return SpikingAnswers(train=file.get_tensor("train"), exit=file.get_tensor("exit"))
    except (OSError, SafetensorError) as error:
        logger.info("no answers to take up in %s: %s", path, error)
    return None


@dataclass(frozen=True, kw_only=True)
class TrainedPolicy:
    """The checkpoint with its policy, ready to be saved, and how training went."""

    checkpoint: Checkpoint
    policy: BudgetExit
    result: PolicyResult


def train_policy_checkpoint(
    checkpoint: Checkpoint,
    splits: DataSplits,
    answers: SpikingAnswers,
    spec: PolicySpec,
    config: PolicyConfig,
    *,
    device: torch.device | str = "cpu",
    run: Run | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> TrainedPolicy:
    """Trains a policy network for ``checkpoint``'s network and stores it, as a graph, in its checkpoint.

    Raises:
        UnsupportedError: the policy network has a call outside the closed op set; before any training.
        TrainingError: see ``train_policy``.
    """
    timesteps = len(answers.train)
    shape = spec.input_shape(checkpoint.network.input_shape)
    module = spec.build(shape, timesteps, config.train.seed)
    capture_policy(module, shape)
    result = train_policy(
        module,
        splits,
        answers.train,
        answers.exit,
        shape[1:],
        config,
        device=device,
        run=run,
        on_step=on_step,
    )
    result = replace(result, mean_timesteps=checkpoint.network.prepass + result.mean_timesteps)
    policy = BudgetExit(network=capture_policy(module.cpu(), shape))
    record = exit_record(
        policy,
        network=checkpoint.network.graph.fingerprint(),
        timesteps=timesteps,
        engine="reference",
        data=splits.manifest(),
        samples=answers.exit.shape[1],
        training_samples=answers.train.shape[1],
        training=config.to_record() | {"model": spec.model, "best_epoch": result.training.best.epoch},
        accuracy=result.accuracy,
        full_accuracy=result.full_accuracy,
        mean_timesteps=result.mean_timesteps,
    )
    manifest = {**checkpoint.manifest, "timesteps": timesteps, "exit": record}
    return TrainedPolicy(checkpoint=replace(checkpoint, policy=policy, manifest=manifest), policy=policy, result=result)


def capture_policy(module: nn.Module, input_shape: tuple[int, int, int]) -> PolicyNetwork:
    """``module`` as a graph with its normalisation folded, proven equal in float64; the module stays as it is.

    Raises:
        UnsupportedError: lists every call outside the closed op set.
        ConversionError: the graph is not equal to the module.
    """
    source = copy.deepcopy(module).cpu().double().eval()
    example = torch.randn(4, *input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = normalise(trace_model(source, example), input_shape)
    prove_equal(source, graph, example)
    return PolicyNetwork(graph.float(), input_shape)
