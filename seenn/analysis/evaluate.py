"""A spiking network on a test split: accuracy, exits, spikes and energy, each measured, none in hindsight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from seenn.analysis.collect import Progress, measure, part_of, start_states
from seenn.analysis.report.evaluation import DepthExits, Evaluation
from seenn.analysis.report.samples import easiest_and_hardest
from seenn.analysis.synops import SpikeMeter, analog_steps, dense_cost, most_levels, running_means
from seenn.core.cuts import read_by
from seenn.core.network import evaluating
from seenn.data import Split
from seenn.distributed import world
from seenn.errors import DataError
from seenn.exits import CachedRun, ScoredExit, cost_of_steps, policy_macs
from seenn.exits.policy import policy_to_json
from seenn.metrics import (
    average_exit_time,
    exit_statistics,
    oracle_exit_time,
    wilson_interval,
)
from seenn.metrics.energy import MAC_PJ, QuantisedANN, ann_energy_pj, snn_energy_pj
from seenn.runtime import ALARM_RATE, Predictions, Session
from seenn.version import versions

if TYPE_CHECKING:
    from seenn.snn import SNN

UNNAMED = "a spiking network"


def evaluate(
    snn: SNN,
    split: Split,
    session: Session,
    *,
    limit: int | None = None,
    name: str = "spiking network",
    seed: int = 0,
    command: str = "",
    alarm: float = ALARM_RATE,
    progress: Progress = lambda done, total: None,
) -> Evaluation:
    """Runs the split three times: the ANN (where there is one), the SNN for all T steps, and the SNN with its exits.

    The third run is the real one: samples leave as they exit, and its accuracy, spikes and energy are those
    of the steps that were run. The second gives the accuracy after every step and the exact trade-off curve.

    Under ``torchrun`` the processes share the split by whole batches.

    Args:
        snn: whose ANN, manifest and cost are reported.
        split: labelled samples that nothing was calibrated on.
        session: of this network, with the policy and T to evaluate. The ANN always runs in float.
        limit: the first so many samples only, at least 1.
        name: what reports call the network.
        seed, command: for the report.
        alarm: see ``SNN.drift_alarm``.

    Raises:
        ValueError: ``limit`` is below 1.
        DataError: the split is empty, was used to calibrate this network, or has other classes.
    """
    snn.check_split(split, use="test")
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, got {limit}")
    network, timesteps, policy = snn.network, session.timesteps, session.policy
    samples = len(split) if limit is None else min(limit, len(split))
    if samples == 0:
        raise DataError(f"the {split.name} split is empty: there is nothing to evaluate")
    labels = split.labels[:samples]
    here = world()
    mine = torch.arange(samples)[here.batches(samples, session.slots)]
    total = 3 * len(mine)
    ann_accuracy = None
    if snn.has_ann and not split.is_sequence:
        right, done = 0, 0
        twin = network.analog()
        with torch.no_grad(), evaluating(network):
            for batch in split.batches(session.slots, order=mine):
                right += int((twin(batch.inputs.to(network.device)).argmax(-1).cpu() == batch.labels).sum())
                progress(done := done + len(batch), total)
        ann_accuracy = int(here.sum_(torch.tensor(right))) / samples

    def run(chosen: Session, before: int) -> tuple[Predictions, SpikeMeter, Tensor]:
        batches = split.batches(chosen.slots, order=mine)
        return measure(chosen, network, batches, len(mine), part_of(progress, before, total))

    _, full_meter, logits_sum = run(Session(session.engine, None, timesteps, session.slots), len(mine))
    early, meter, _ = run(session, 2 * len(mine))
    if (watch := snn.drift_alarm(session, alarm)) is not None:
        watch.test.see(logits_sum[0])
        watch.judge()
    segments = len(network.segments)
    spent = cost_of_steps(timesteps, network.initial_steps, network.exit_costs)
    full = CachedRun(logits_sum=logits_sum, labels=labels, cost=spent, segments=segments)
    points, right = early.points(segments), int((early.labels == labels).sum())
    at_each = full.correct()
    correct = at_each[segments - 1 :: segments]  # after whole steps
    analog = float(analog_steps(network, timesteps)[points - 1].mean())
    exits = exit_statistics(early.exit_timestep, timesteps)
    depth = None
    if network.graph.heads:
        depth = DepthExits(
            heads=network.graph.heads,
            behind=tuple(read_by(network.graph, head) for head in network.graph.heads),
            cost=tuple(spent.tolist()),
            exits=tuple(torch.bincount(points, minlength=len(spent) + 1)[1:].tolist()),
            accuracy=tuple(at_each.double().mean(1).tolist()),
        )
    curve = None
    if isinstance(policy, ScoredExit):
        state = start_states(policy, split, limit=samples) if policy_macs(policy) else None
        curve = full.of(policy, state).curve(policy)
    cost, own_macs = dense_cost(network, sequence=split.is_sequence), policy_macs(policy)
    synops, synops_full = float(meter.until(points).mean()), float(full_meter.synops.sum()) / samples
    quantised = QuantisedANN.of(cost, most_levels(network, timesteps))
    easiest, hardest = easiest_and_hardest(labels, early.labels, early.exit_timestep, early.confidence)
    source = snn.manifest.get("source")
    return Evaluation(
        network=name,
        fingerprint=network.graph.fingerprint(),
        source=str(source.get("name", UNNAMED)) if isinstance(source, Mapping) else UNNAMED,
        data=split.spec,
        split=split.name,
        samples=samples,
        timesteps=timesteps,
        policy=policy_to_json(policy),
        ann_accuracy=ann_accuracy,
        accuracy=right / samples,
        accuracy_interval=wilson_interval(right, samples),
        accuracy_per_timestep=tuple(correct.double().mean(1).tolist()),
        exit=exits,
        depth=depth,
        drift=None if watch is None else watch.to_json(),
        aet=average_exit_time(at_each, full.cost),
        oracle_aet=oracle_exit_time(at_each, full.cost),
        curve=curve,
        spike_rate_per_site=dict(meter.rates),
        synops=synops,
        synops_full=synops_full,
        energy_pj=snn_energy_pj(cost, synops, analog) + MAC_PJ * own_macs,
        energy_full_pj=snn_energy_pj(cost, synops_full, timesteps),
        ann_energy_pj=ann_energy_pj(cost),
        quantised=quantised,
        integer_energy_pj=quantised.snn_energy_pj(cost, synops, analog),
        **{name: total / samples for name, total in meter.totals.items()},
        ann_macs=cost.ann,
        analog_macs=cost.once + cost.per_step * analog,
        analog_macs_per_step=cost.per_step,
        spiking_mac_share=cost.spiking_mac_share,
        running_means=running_means(network),
        initial_steps=network.initial_steps,
        policy_macs=own_macs,
        easiest=easiest,
        hardest=hardest,
        class_names=split.class_names,
        manifest=snn.manifest,
        seed=seed,
        versions=versions(),
        command=command,
    )
