"""Every exit policy on the same images: accuracy against timesteps, energy and time, and how near the oracle is."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from seenn.analysis.collect import Progress, collect_run, part_of, start_states
from seenn.analysis.report.comparison import Amount, Comparison, PolicyFigures
from seenn.analysis.report.samples import easiest_and_hardest
from seenn.analysis.synops import dense_cost, most_levels
from seenn.core.ops import State
from seenn.data import DataSplits, Split
from seenn.errors import CalibrationError
from seenn.exits import (
    CachedRun,
    FixedExit,
    ScoredExit,
    default_rules,
    find_exit,
    policy_macs,
    softmax_confidence,
)
from seenn.exits.policy import ExitPolicy, policy_to_json
from seenn.metrics import (
    bootstrap_mean_interval,
    expected_calibration_error,
    oracle_exit_time,
)
from seenn.metrics.energy import MAC_PJ, QuantisedANN, ann_energy_pj
from seenn.runtime import Session

if TYPE_CHECKING:
    from seenn.snn import SNN

#: Of an image, by what full T shows: how hard it is for this network.
EASY, MEDIUM, HARD = "right from the first step on", "right in between", "wrong at T"


def compare_exits(
    snn: SNN,
    splits: DataSplits,
    session: Session,
    rules: Mapping[str, ExitPolicy] | None = None,
    *,
    max_accuracy_drop: float | None = None,
    target_timesteps: float | None = None,
    target_energy: float | None = None,
    limit: int | None = None,
    latency_images: int = 0,
    latency_batch: int = 1,
    name: str = "spiking network",
    seed: int = 0,
    command: str = "",
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Calibrates every rule on the exit split for one target, and compares them on the test split.

    The network's own policy, and full T, take part as they are; SEENN-II calibrated like the others as well. A rule
    that cannot meet the target, or cannot learn from so few images, is left out and the reason kept.

    Args:
        session: of this network, with its engine and T.
        rules: uncalibrated, by the name under which they are reported; None: all of seenn's.
        max_accuracy_drop, target_timesteps, target_energy: one target; 0.005 of accuracy where none is given.
        limit: the first so many images of either split.
        latency_images: whose time is measured with each policy; 0: none.
        latency_batch: images at once while time is measured.
        progress: images done, and all.
    """
    snn.check_split(splits.exit, use="exit")
    snn.check_split(splits.test, use="test")
    network, engine, timesteps = snn.network, session.engine, session.timesteps
    if max_accuracy_drop is None and target_timesteps is None and target_energy is None:
        max_accuracy_drop = 0.005
    targets = {
        "max_accuracy_drop": max_accuracy_drop,
        "target_timesteps": target_timesteps,
        "target_energy": target_energy,
    }
    sizes = [len(split) if limit is None else min(limit, len(split)) for split in (splits.exit, splits.test)]
    held, run = (
        collect_run(
            network,
            split,
            timesteps,
            engine=engine,
            batch_size=session.slots,
            limit=limit,
            progress=part_of(progress, before, sum(sizes)),
        )
        for split, before in ((splits.exit, 0), (splits.test, sizes[0]))
    )
    stored = snn.policy
    looking = {stored.kind: stored} if isinstance(stored, ScoredExit) and policy_macs(stored) else {}
    states = {kind: start_states(policy, splits.exit, limit=limit) for kind, policy in looking.items()}
    candidates = {**(default_rules() if rules is None else rules), **looking}
    policies, left_out = calibrated(held, candidates, targets, states)
    parts: dict[str, CachedRun] = {}
    scored = next((rule for rule in candidates if isinstance(candidates[rule], ScoredExit)), None)
    if run.segments > 1 and scored is not None:  # what exits in depth are worth, and exits in time
        for where, points in {
            "time": slice(run.segments - 1, None, run.segments),
            "depth": slice(run.segments),
        }.items():
            label = f"{scored}, in {where} only"
            found, refused = calibrated(held.only(points), {label: candidates[scored]}, targets)
            policies, left_out, parts = policies | found, left_out | refused, parts | {label: run.only(points)}
    policies["every step"] = FixedExit()
    if stored is not None:
        policies[f"stored {stored.kind}"] = stored
    states = {
        policy_name: start_states(policy, splits.test, limit=limit)
        for policy_name, policy in policies.items()
        if policy_macs(policy)
    }
    images = min(latency_images, sizes[1])
    latencies = {
        policy_name: measure_latency(Session(engine, policy, timesteps, latency_batch), splits.test, images)
        for policy_name, policy in policies.items()
        if images and policy_name not in parts
    }
    cost = dense_cost(network)
    how = f"{engine.name} engine, batch {latency_batch}, {images} images, this machine"
    return compare_policies(
        run,
        policies,
        parts=parts,
        states=states,
        latencies=latencies,
        left_out=left_out,
        class_names=splits.class_names,
        seed=seed,
        network=name,
        fingerprint=network.graph.fingerprint(),
        data=splits.spec,
        split="test",
        latency=how if images else "not measured",
        command=command,
        ann_energy_pj=ann_energy_pj(cost) if snn.has_ann else None,
        quantised=QuantisedANN.of(cost, most_levels(network, timesteps)) if snn.has_ann else None,
    )


def calibrated(
    run: CachedRun,
    rules: Mapping[str, ExitPolicy],
    targets: Mapping[str, Any],
    states: Mapping[str, State] | None = None,
) -> tuple[dict[str, ExitPolicy], dict[str, str]]:
    """Each rule calibrated on ``run``; and of those that cannot be, why. ``states`` as for ``compare_policies``."""
    found: dict[str, ExitPolicy] = {}
    left_out: dict[str, str] = {}
    for name, rule in rules.items():
        try:
            found[name] = find_exit(run, rule, state=(states or {}).get(name), **targets).policy
        except CalibrationError as error:
            left_out[name] = str(error)
    return found, left_out


def compare_policies(
    run: CachedRun,
    policies: Mapping[str, ExitPolicy],
    *,
    parts: Mapping[str, CachedRun] | None = None,
    states: Mapping[str, State] | None = None,
    latencies: Mapping[str, tuple[float, float]] | None = None,
    left_out: Mapping[str, str] | None = None,
    class_names: Sequence[str] = (),
    seed: int = 0,
    ann_energy_pj: float | None = None,
    quantised: QuantisedANN | None = None,
    **origin: str,
) -> Comparison:
    """What each policy, calibrated elsewhere, does on ``run``; nothing is chosen here.

    Exits are replayed on the cached logits (the engine gives the same ones) and their energies looked up;
    intervals are 95 % percentile bootstrap ones over images.

    Args:
        run: one pass of all T steps over the test split.
        policies: by the name under which they are reported.
        parts: runs of their own for some policies, which may stop at fewer points: by name.
        states: for policies that look at images, what ``policy.start`` said about those of ``run``.
        latencies: from ``measure_latency``, by name.
        left_out: policies that could not take part, and why.
        class_names: for the table of classes; by number where empty.
        seed: of the bootstrap.
        ann_energy_pj, quantised: of the ANN, where there is one.
        origin: network, data, split, command: for the report.
    """
    states, latencies, parts, steps = states or {}, latencies or {}, parts or {}, run.whole_steps
    correct, oracle, most = steps.correct(), oracle_exit_time(run.correct(), run.cost), float(run.cost[-1])
    full = correct[-1].double().mean()
    settled = correct.all(0)
    groups = {EASY: settled, MEDIUM: correct[-1] & ~settled, HARD: ~correct[-1]}
    present = sorted(set(run.labels.tolist()))
    classes = {class_names[k] if k < len(class_names) else str(k): run.labels == k for k in present}

    def figures(name: str, policy: ExitPolicy) -> PolicyFigures:
        plain = parts.get(name, run)
        own = plain.of(policy, states.get(name))
        exits, energy_pj = own.exits(policy), plain.energy_with(policy)
        at_exit = (exits - 1, torch.arange(len(exits)))
        right, taken = own.correct()[at_exit].double(), own.cost[exits - 1]
        mean_ms, p95_ms = latencies.get(name, (None, None))
        saved = most - float(taken.mean())
        return PolicyFigures(
            name=name,
            policy=policy_to_json(policy),
            accuracy=_amount(right, seed),
            timesteps=_amount(taken, seed),
            energy_pj=_amount(energy_pj[at_exit], seed),
            policy_energy_pj=MAC_PJ * policy_macs(policy),
            latency_ms=mean_ms,
            latency_p95_ms=p95_ms,
            below_full=float(full - right.mean()),
            oracle_share=saved / (most - oracle) if oracle < most else 1.0,
            exits_per_class={label: float(taken[chosen].mean()) for label, chosen in classes.items()},
            accuracy_per_class={label: float(right[chosen].mean()) for label, chosen in classes.items()},
            exits_by_difficulty={label: float(taken[c].mean()) for label, c in groups.items() if bool(c.any())},
            curve=own.curve(policy) if isinstance(policy, ScoredExit) else None,
        )

    shown = next((name for name, policy in policies.items() if isinstance(policy, ScoredExit)), next(iter(policies)))
    exits = run.of(policies[shown], states.get(shown)).exits(policies[shown])
    at_exit, t = run.logits_sum[exits - 1, torch.arange(len(exits))], run.t[exits - 1]
    easiest, hardest = easiest_and_hardest(run.labels, at_exit.argmax(-1), t, softmax_confidence(t, at_exit))
    sure = [softmax_confidence(torch.full_like(t, step), logits) for step, logits in enumerate(steps.logits_sum, 1)]
    ece = [expected_calibration_error(s.clamp(max=1.0), c) for s, c in zip(sure, correct, strict=True)]
    return Comparison(
        **origin,
        samples=len(run.labels),
        timesteps=run.timesteps,
        accuracy_per_timestep=tuple(correct.double().mean(1).tolist()),
        ann_energy_pj=ann_energy_pj,
        quantised=quantised,
        energy_per_timestep_pj=tuple(steps.energy_with(FixedExit()).mean(1).tolist()),
        ece_per_timestep=tuple(ece),
        oracle_aet=oracle,
        policies=_mark_pareto([figures(name, policy) for name, policy in policies.items()]),
        left_out=dict(left_out or {}),
        sample_policy=shown,
        easiest=easiest,
        hardest=hardest,
        class_names=tuple(class_names),
        seed=seed,
        initial_steps=run.initial_steps,
    )


def measure_latency(session: Session, split: Split, images: int) -> tuple[float, float]:
    """Wall-clock ms per image on this machine, the mean and the 95th percentile of batches.

    The first ``images`` of ``split`` run in batches as large as the session's slots, samples really leaving; the
    policy's own work is inside.
    """
    batches = list(split.batches(session.slots, limit=images))
    session.run(batches[0])  # warm-up
    spent = []
    for batch in batches:
        begin = time.perf_counter()
        session.run(batch)
        spent.append(1000 * (time.perf_counter() - begin))
    per_image = torch.tensor([ms / len(batch) for ms, batch in zip(spent, batches, strict=True)])
    return sum(spent) / sum(map(len, batches)), float(per_image.quantile(0.95))


def _amount(values: Tensor, seed: int) -> Amount:
    low, high = bootstrap_mean_interval(values, seed=seed, resamples=1000)
    return Amount(mean=float(values.mean()), low=low, high=high)


def _mark_pareto(figures: Sequence[PolicyFigures]) -> tuple[PolicyFigures, ...]:
    """Says for each cost which policies no other one beats: not cheaper at the same accuracy or more."""
    costs: dict[str, Callable[[PolicyFigures], float]] = {
        "timesteps": lambda f: f.timesteps.mean,
        "energy": lambda f: f.energy_pj.mean,
        "latency": lambda f: math.inf if f.latency_ms is None else f.latency_ms,
    }

    def best(f: PolicyFigures, cost: Callable[[PolicyFigures], float]) -> bool:
        own = (cost(f), f.accuracy.mean)
        others = [(cost(g), g.accuracy.mean) for g in figures]
        beaten = any(price <= own[0] and right >= own[1] and (price, right) != own for price, right in others)
        return own[0] < math.inf and not beaten

    return tuple(replace(f, pareto=tuple(name for name, cost in costs.items() if best(f, cost))) for f in figures)
