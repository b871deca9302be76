"""SEENN-II: a policy network trained for a spiking network, and stored with it as a graph."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from converter.load import ModelSpec, build_model
from converter.passes import normalise, verify_equivalent
from converter.trace import trace_model
from seenn.analysis.collect import collect_run
from seenn.data import DataSplits, Split, as_splits
from seenn.device import recording_gradients
from seenn.exits import BudgetExit, PolicyNetwork, cost_of_steps
from seenn.files import atomic_path
from seenn.metrics import correct_per_timestep
from seenn.runtime import Engine
from seenn.snn import SNN
from seenn.training import PolicyConfig, Run
from seenn.training import train_policy as fit_policy
from seenn.training.policy import refuse_frames

logger = logging.getLogger(__name__)

RESNET8 = "resnet8"
_RESNET8 = "seenn.training:ResNet8"
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

    def checked(self, snn: SNN, timesteps: int, seed: int = 0) -> nn.Module:
        """The network for ``snn``, which can be stored with it.

        Raises:
            ModelError, ValueError: see ``build`` and ``input_shape``.
            UnsupportedError: it has a call outside the closed op set.
        """
        shape = self.input_shape(snn.network.input_shape)
        module = self.build(shape, timesteps * len(snn.network.segments), seed)
        capture_policy(module, shape)
        return module

    def build(self, input_shape: tuple[int, int, int], budgets: int, seed: int) -> nn.Module:
        """The network with random weights, one score a number of timesteps, or an exit point.

        Raises:
            ModelError: there is no such model, or it refuses its arguments.
        """
        spec = ModelSpec(
            name=_RESNET8 if self.model == RESNET8 else self.model,
            kwargs=self.kwargs or {},
            num_classes=budgets,
            in_chans=input_shape[0],
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build_model(spec, input_shape).module


@dataclass(frozen=True, kw_only=True)
class SpikingAnswers:
    """Whether a network is right at each exit point, bool ``[P, N]``, on the images that policies learn from."""

    train: Tensor
    exit: Tensor


@recording_gradients()
def train_policy(
    snn: SNN,
    data: Any,
    config: PolicyConfig | None = None,
    *,
    spec: PolicySpec | None = None,
    timesteps: int | None = None,
    engine: Engine | None = None,
    answers: SpikingAnswers | None = None,
    device: torch.device | str = "cpu",
    run: Run | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> SNN:
    """The network with a policy that chooses each image's timesteps before the network runs.

    It learns on the train split from what the network gets right there after each step; the epoch kept is the best on
    the exit split, whose figures are in ``manifest["exit"]``.

    Args:
        snn: the network; it is not changed, and its own policy gives way.
        data: ``DataSplits``, or what ``load_data`` makes some of, as it was made with; nothing else may have used the
            exit split.
        config: of the training.
        spec: the policy network; None is a ResNet-8.
        timesteps: T; None is the network's own.
        engine: runs the network; None is the reference.
        answers: from ``spiking_answers``, for several trainings; None runs the network now.

    Raises:
        DataError: the exit split holds samples that the network, or its figures, have another use for.
        UnsupportedError: the policy network has a call outside the closed op set; before any training.
        TrainingError: nothing to learn, sequences of frames, or the loss is no number any more.
    """
    config, spec, steps = config or PolicyConfig(), spec or PolicySpec(), snn.steps(timesteps)
    data = as_splits(data, "train_policy", snn.preprocessing)
    _check_data(snn, data)
    shape = spec.input_shape(snn.network.input_shape)
    module = spec.checked(snn, steps, config.train.seed)
    answers = answers or spiking_answers(snn, data, steps, engine=engine)
    result = fit_policy(
        module,
        data,
        answers.train,
        answers.exit,
        shape[1:],
        config,
        cost=cost_of_steps(steps, 0, snn.network.exit_costs),
        device=device,
        run=run,
        on_step=on_step,
    )
    policy = BudgetExit(network=capture_policy(module.cpu(), shape))
    training = config.to_record() | {
        "model": spec.model,
        "best_epoch": result.training.best.epoch,
        "epochs_run": len(result.training.epochs),
        "best_reward": result.reward,
    }
    return snn.with_policy(
        policy,
        timesteps=steps,
        engine="reference" if engine is None else engine.name,
        data=data.manifest(),
        samples=answers.exit.shape[1],
        training_samples=answers.train.shape[1],
        training=training,
        accuracy=result.accuracy,
        full_accuracy=result.full_accuracy,
        mean_timesteps=snn.network.initial_steps + result.mean_cost,
        mean_cost=snn.network.initial_steps + result.mean_cost,
    )


def spiking_answers(
    snn: SNN,
    data: DataSplits,
    timesteps: int,
    *,
    engine: Engine | None = None,
    limit: int | None = None,
    batch_size: int = 64,
    keep: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SpikingAnswers:
    """One pass of all T steps over the first ``limit`` training images, and over the exit split.

    With ``keep``, a file, the answers are written there, or read where it holds those of this very network, T, engine
    and data: taking up a training does not run the network again.

    Raises:
        DataError, TrainingError: what the policy could not learn from, see ``train_policy``.
    """
    _check_data(snn, data)
    samples = len(data.train) if limit is None else min(limit, len(data.train))
    origin = {
        "network": snn.network.graph.fingerprint(),
        "timesteps": str(timesteps),
        "engine": "reference" if engine is None else engine.name,
        "samples": str(samples),
        "data": json.dumps(data.manifest()),
    }
    if keep is not None and (found := _read_answers(keep, origin)) is not None:
        return found
    total = samples + len(data.exit)

    def right(split: Split, limit: int, before: int) -> Tensor:
        run = collect_run(
            snn.network,
            split,
            timesteps,
            engine=engine,
            batch_size=batch_size,
            limit=limit,
            progress=lambda done, _: progress(before + done, total),
        )
        return correct_per_timestep(run.logits_sum, run.labels)

    answers = SpikingAnswers(train=right(data.train, samples, 0), exit=right(data.exit, len(data.exit), samples))
    if keep is not None:
        keep.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(keep) as temporary:
            save_file({name: t.contiguous() for name, t in vars(answers).items()}, temporary, origin)
    return answers


def _check_data(snn: SNN, data: DataSplits) -> None:
    """Refuses what a policy of this network cannot learn from, before the network is run."""
    refuse_frames(data)
    snn.check_split(data.exit, use="exit")


def _read_answers(path: Path, origin: Mapping[str, str]) -> SpikingAnswers | None:
    """The answers in ``path`` if they are of this origin; None where they are of another, or unreadable."""
    try:
        with safe_open(path, framework="pt") as file:
            if dict(file.metadata() or {}) == origin:
                return SpikingAnswers(train=file.get_tensor("train"), exit=file.get_tensor("exit"))
    except (OSError, SafetensorError) as error:
        logger.info("no answers to take up in %s: %s", path, error)
    return None


def capture_policy(module: nn.Module, input_shape: tuple[int, int, int]) -> PolicyNetwork:
    """``module`` as a graph with its normalisation folded, verified in float64; the module stays as it is.

    Raises:
        UnsupportedError: lists every call outside the closed op set.
        ConversionError: the graph is not equal to the module.
    """
    source = copy.deepcopy(module).cpu().double().eval()
    example = torch.randn(4, *input_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    graph = normalise(trace_model(source, example), input_shape)
    verify_equivalent(source, graph, example)
    return PolicyNetwork(graph.float(), input_shape)
