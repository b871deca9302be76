"""A checkpoint on a test split: accuracy, exits, spikes and energy, each measured, none in hindsight."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from seenn.analysis.collect import start_states
from seenn.analysis.report import Evaluation, easiest_and_hardest
from seenn.analysis.synops import SpikeMeter, analog_nodes, dense_cost
from seenn.batch import Batch
from seenn.checkpoint import Checkpoint
from seenn.core.network import evaluating
from seenn.data import Split, check_split
from seenn.distributed import world
from seenn.errors import DataError
from seenn.exits.budget import policy_macs
from seenn.exits.fixed import FixedExit
from seenn.exits.policy import ExitPolicy, policy_to_json
from seenn.exits.record import check_exit_record
from seenn.exits.scored import ScoredExit, exit_scores
from seenn.metrics import (
    accuracy_per_timestep,
    average_exit_time,
    correct_per_timestep,
    exit_curve,
    exit_statistics,
    oracle_exit_time,
    wilson_interval,
)
from seenn.metrics.energy import MAC_PJ, ann_energy_pj, snn_energy_pj
from seenn.runtime.predictions import Predictions
from seenn.runtime.reference import run_reference
from seenn.runtime.session import run_engine
from seenn.runtime.slots import Engine
from seenn.version import versions


def evaluate(
    checkpoint: Checkpoint,
    split: Split,
    *,
    name: str,
    data: str,
    timesteps: int | None = None,
    policy: ExitPolicy | None = None,
    engine: Engine | None = None,
    batch_size: int = 64,
    limit: int | None = None,
    class_names: tuple[str, ...] = (),
    seed: int = 0,
    command: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Runs the split three times: the ANN (where there is one), the SNN for all T steps, and the SNN with its exits.

    The third run is the real one: samples leave as they exit, and its accuracy, spikes and energy are those
    of the steps that were run. The second gives the accuracy after every step and the exact trade-off curve.

    Args:
        checkpoint: network, preprocessing and policy.
        split: labelled images that nothing was calibrated on.
        name: what reports call the network.
        data: what reports call the data set.
        timesteps: T; None is the checkpoint's own.
        policy: None is the checkpoint's own, and without one every image runs T steps.
        engine: runs the SNN, made for this network; None is the reference engine. The ANN always runs in float.
        batch_size: images at once; the slots of an engine.
        limit: the first so many images only, at least 1.

    Raises:
        ValueError: ``limit`` or ``timesteps`` is below 1.
        DataError: the split is empty, was used to calibrate this network, or has other classes.
        CalibrationError: the checkpoint's policy was made for another network or T.
    """
    check_split(checkpoint.manifest, split, use="test")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    network = checkpoint.network
    timesteps = checkpoint.timesteps if timesteps is None else timesteps
    if policy is None and checkpoint.policy is not None:
        check_exit_record(checkpoint.manifest, network, timesteps)
    policy = policy or checkpoint.policy or FixedExit()
    samples = len(split) if limit is None else min(limit, len(split))
    if samples == 0:
        raise DataError(f"the {split.name} split is empty: there is nothing to evaluate")
    labels = split.labels[:samples]
    classes = network.graph.shapes(network.input_shape)[network.graph.output][0]
    if int(labels.max()) >= classes:
        raise DataError(f"{data} has a label {int(labels.max())}, but the network knows {classes} classes")
    here = world()
    mine = torch.arange(samples)[here.batches(samples, batch_size)]  # under torchrun the processes share the split
    total = 3 * len(mine)

    def run(offset: int, exit_policy: ExitPolicy, keep: bool, meter: SpikeMeter) -> Predictions:
        if engine is not None:
            batches = split.batches(batch_size, order=mine)
            answers = run_engine(
                engine,
                _counted(batches, lambda done: progress(offset + done, total)),
                exit_policy,
                timesteps,
                slots=min(batch_size, len(mine)),
                keep_logits=keep,
                observe=meter,
            )
            meter.gather(here)
            return answers.gathered(here)
        parts = []
        for batch in split.batches(batch_size, order=mine):
            parts.append(
                run_reference(
                    network,
                    batch.inputs.to(network.device),
                    exit_policy,
                    timesteps,
                    keep_logits=keep,
                    observe=meter,
                )
            )
            done = sum(map(len, parts))
            progress(offset + done, total)
        meter.gather(here)
        return Predictions.concatenate(parts).gathered(here).cpu()

    with torch.no_grad(), evaluating(network):
        ann_accuracy = None
        if checkpoint.has_ann:
            ann_right, done = 0, 0
            twin = network.analog()
            for batch in split.batches(batch_size, order=mine):
                ann_right += int((twin(batch.inputs.to(network.device)).argmax(-1).cpu() == batch.labels).sum())
                done += len(batch)
                progress(done, total)
            ann_accuracy = int(here.sum_(torch.tensor(ann_right))) / samples
        full_meter, exit_meter = SpikeMeter(network), SpikeMeter(network)
        full = run(len(mine), FixedExit(), True, full_meter)
        early = run(2 * len(mine), policy, False, exit_meter)

    assert full.logits_sum_per_step is not None
    logits_sum = full.logits_sum_per_step
    correct = correct_per_timestep(logits_sum, labels)
    early_right = early.labels == labels
    exits = exit_statistics(early.exit_timestep, timesteps)
    curve = None
    if isinstance(policy, ScoredExit):
        state = start_states(policy, split, limit=samples) if policy_macs(policy) else None
        curve = exit_curve(exit_scores(policy, logits_sum, state), correct).after(network.prepass)
    cost, own_macs = dense_cost(network, sequence=split.is_sequence), policy_macs(policy)
    synops, synops_full = exit_meter.synops / samples, full_meter.synops / samples
    easiest, hardest = easiest_and_hardest(labels, early.labels, early.exit_timestep, early.confidence)
    right = int(early_right.sum())
    return Evaluation(
        network=name,
        source=str(_object(checkpoint.manifest.get("source")).get("name", "a spiking network")),
        data=data,
        split=split.name,
        samples=samples,
        timesteps=timesteps,
        policy=policy_to_json(policy),
        ann_accuracy=ann_accuracy,
        accuracy=right / samples,
        accuracy_interval=wilson_interval(right, samples),
        accuracy_per_timestep=tuple(accuracy_per_timestep(logits_sum, labels).tolist()),
        exit=exits,
        aet=network.prepass + average_exit_time(correct),
        oracle_aet=network.prepass + oracle_exit_time(correct),
        curve=curve,
        spike_rate_per_site=dict(exit_meter.rates),
        synops=synops,
        synops_full=synops_full,
        energy_pj=snn_energy_pj(cost, synops, exits.mean) + MAC_PJ * own_macs,
        energy_full_pj=snn_energy_pj(cost, synops_full, timesteps),
        ann_energy_pj=ann_energy_pj(cost),
        ann_macs=cost.ann,
        analog_macs=cost.once + cost.per_step * exits.mean,
        analog_macs_per_step=cost.per_step,
        analog_nodes=analog_nodes(network),
        prepass=network.prepass,
        policy_macs=own_macs,
        easiest=easiest,
        hardest=hardest,
        class_names=class_names,
        manifest=checkpoint.manifest,
        seed=seed,
        versions=versions(),
        command=command,
    )


def _counted(batches: Iterable[Batch], progress: Callable[[int], None]) -> Iterator[Tensor]:
    """The images of the batches; says how many have been taken."""
    done = 0
    for batch in batches:
        yield batch.inputs
        progress(done := done + len(batch))


def _object(value: object) -> Mapping[str, Any]:
    """A part of a manifest that ought to be an object; nothing where it is not there."""
    return value if isinstance(value, Mapping) else {}
