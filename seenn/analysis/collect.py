"""One pass of all T steps over samples: what each would answer and cost at every exit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from seenn.analysis.synops import SpikeMeter, analog_steps, dense_cost
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import State
from seenn.data import Split
from seenn.distributed import World, world
from seenn.errors import CalibrationError
from seenn.exits import CachedRun, ExitPolicy, cost_of_steps
from seenn.metrics.energy import snn_energy_pj
from seenn.runtime import Engine, Predictions, ScoreTrace, Session, make_engine

Progress = Callable[[int, int], None]  # samples done, and all


def part_of(progress: Progress, before: int, total: int) -> Callable[..., None]:
    """The progress of one run among several: ``before`` samples were done before it, ``total`` are due in all."""
    return lambda done, *_: progress(before + done, total)


def collect_run(
    network: SpikingNetwork,
    source: Split | Sequence[Batch],
    timesteps: int,
    *,
    engine: Engine | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    labelled: bool = True,
    progress: Progress = lambda done, total: None,
) -> CachedRun:
    """One pass without early exit, with the energy that each sample has used by each exit point; all on the CPU.

    ``E_n(t) = 4.6 pJ · (MACs once + MACs per step · t) + 0.9 pJ · SynOps of sample n in steps 1 … t``.

    Under ``torchrun`` the processes share the samples by whole batches, and each gets the whole result.

    Args:
        engine: of this network; None is the reference.
        batch_size: samples at once: the engine's slots.
        limit: the first so many samples of a split.
        labelled: False takes samples without labels, and gives them -1.

    Raises:
        CalibrationError: there are no samples, or they have no labels.
        DataError: there are fewer batches than processes.
    """
    here = world()
    if not len(source):
        raise CalibrationError("there are no images to calibrate the exit on: got an empty split")
    mine, samples, is_sequence = _share(source, here, batch_size, limit)
    labels: list[Tensor] = []

    def noted() -> Iterable[Batch]:
        for batch in mine:
            if batch.labels is None and labelled:
                raise CalibrationError("the samples have no labels: give labelled ones, or bound the disagreement")
            labels.append(torch.full((len(batch),), -1) if batch.labels is None else batch.labels)
            yield batch

    runner = engine or make_engine("reference", network, timesteps=timesteps)
    session = Session(runner, None, timesteps, min(batch_size, samples))
    _, meter, logits_sum = measure(session, network, noted(), samples, part_of(progress, 0, samples))
    steps = analog_steps(network, timesteps)[:, None]
    return CachedRun(
        logits_sum=logits_sum,
        labels=here.cat(torch.cat(labels)),
        energy_pj=snn_energy_pj(dense_cost(network, sequence=is_sequence), meter.synops.cumsum(0), steps),
        cost=cost_of_steps(timesteps, network.initial_steps, network.exit_costs),
        segments=len(network.segments),
        groups=_groups(source, limit) if isinstance(source, Split) else None,
    )


def measure(
    session: Session, network: SpikingNetwork, batches: Iterable[Batch], samples: int, progress: Callable[[int], None]
) -> tuple[Predictions, SpikeMeter, Tensor]:
    """Answers, spikes, and outputs summed up to each exit point ``[P, N, K]``, of all processes' samples."""
    here, timesteps = world(), session.timesteps
    points = timesteps * len(network.segments)
    meter, trace = SpikeMeter(network, timesteps, samples), ScoreTrace(points, samples)
    answers = session.run(batches, observers=(meter, trace), progress=progress)
    meter.gather(here)
    return answers.gathered(here), meter, here.cat(trace.logits_sum, 1)


def start_states(
    policy: ExitPolicy, source: Split | Sequence[Batch], *, limit: int | None = None, batch_size: int = 256
) -> State:
    """What ``policy.start`` says about samples, in order; cheap for rules that look at logits only."""
    batches = source.batches(batch_size, limit=limit) if isinstance(source, Split) else source
    parts = [policy.start(batch.frame(1)) for batch in batches]
    return tuple(torch.cat(columns) for columns in zip(*parts, strict=True))


def _groups(split: Split, limit: int | None) -> Tensor | None:
    """The number of each sample's group."""
    groups = split.groups
    return None if groups is None else torch.from_numpy(np.unique(groups[:limit], return_inverse=True)[1])


def _share(
    source: Split | Sequence[Batch], here: World, batch_size: int, limit: int | None
) -> tuple[Iterable[Batch], int, bool]:
    """This process's batches, how many samples they hold, and whether those are frames over time."""
    if isinstance(source, Split):
        total = len(source) if limit is None else min(limit, len(source))
        mine = torch.arange(total)[here.batches(total, batch_size)]
        return source.batches(batch_size, order=mine), len(mine), source.is_sequence
    here.enough(len(source), f"{sum(map(len, source))} samples in batches")
    part = source[here.part(len(source))]
    return part, sum(map(len, part)), any(batch.is_sequence for batch in part)
