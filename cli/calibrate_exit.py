"""``seenn calibrate-exit``: decides when an image may stop, on data held out for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from cli.common import Session, read_snn, usage, verb
from cli.exit_rules import ONE_SIDED, RULES, STORED, RuleName, build_rule, stored_rule, threshold_of
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, output_file, recorded_splits

if TYPE_CHECKING:
    from seenn.exits import ExitCalibration, Guarantee
    from seenn.exits.scores import Accumulation


@click.command(name="calibrate-exit", short_help="Choose when an image may stop.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option(
    "--policy",
    type=RuleName((*RULES, STORED)),
    default="confidence",
    show_default=True,
    help="When to stop: confidence (SEENN-I), entropy (DT-SNN), gap, cutoff (a gap for every timestep), scaled "
    "(Dynamic Confidence), patience, conformal (SpikeCP), failure (will going on help?), fixed, two-sided (give up "
    "the hopeless as well), seenn-ii (as train-policy stored it in SNN), or package.module:Class, a rule of your own "
    "(imports and runs its code).",
)
@click.option(
    "--inner", metavar="NAME", type=click.Choice(ONE_SIDED), help="The rule inside two-sided.  [default: confidence]"
)
@click.option(
    "--threshold",
    metavar="P",
    type=FiniteRange(0),
    help="Stop when the score exceeds this: a confidence above 0 and at most 1, a gap, equal answers in a row "
    "(patience), classes in the set (conformal), timesteps (fixed), or the lead of so many steps over any more, in "
    "log-probability (seenn-ii, whose own is 0).",
)
@click.option(
    "--max-accuracy-drop",
    metavar="DROP",
    type=FiniteRange(0, 1, max_open=True),
    help="Find the threshold with the "
    "fewest timesteps whose accuracy stays within this of full T (0.005 is half a point).",
)
@click.option(
    "--target-timesteps",
    metavar="STEPS",
    type=FiniteRange(1),
    help="Find the threshold with the highest accuracy within this mean.",
)
@click.option(
    "--target-energy",
    metavar="PJ",
    type=FiniteRange(0, min_open=True),
    help="Find the threshold with the highest accuracy within this mean energy per image, in pJ (the estimate for "
    "45 nm, up to each image's exit).",
)
@click.option(
    "--confidence",
    metavar="P",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="With --max-accuracy-drop: keep it on new images with this probability, say 0.95.",
)
@click.option(
    "--guarantee",
    type=click.Choice(["marginal", "conditional"]),
    help="With --confidence: on average over all images, or among those that stopped by t, for every t.  "
    "[default: marginal]",
)
@click.option(
    "--temperature",
    metavar="A",
    type=FiniteRange(0, min_open=True),
    help="Divides the logits (confidence).  [default: 1]",
)
@click.option(
    "--accumulation",
    type=click.Choice(["mean", "sum"]),
    help="Score of the mean or of the summed logits (confidence, entropy, gap, cutoff).  [default: sum]",
)
@click.option(
    "--alpha",
    metavar="A",
    type=FiniteRange(0, 1, min_open=True, max_open=True),
    help="How often the label may be missing from the set (conformal).  [default: 0.1]",
)
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as converted]"
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Images run at once."
)
@data_options
@click.option("-o", "--output", metavar="FILE", help="Where to write.  [default: the SNN itself]")
@verb
def calibrate_exit(
    session: Session,
    snn: str,
    policy: str,
    inner: str | None,
    threshold: float | None,
    max_accuracy_drop: float | None,
    target_timesteps: float | None,
    target_energy: float | None,
    confidence: float | None,
    guarantee: Guarantee | None,
    temperature: float | None,
    accumulation: Accumulation | None,
    alpha: float | None,
    timesteps: int | None,
    batch_size: int,
    output: str | None,
    **source: Any,
) -> None:
    """Choose when an image may stop in SNN (default: snn.safetensors) on its exit split, and store it there.

    Give one of --threshold, --max-accuracy-drop, --target-timesteps and --target-energy. The data is the one recorded
    in the file. Rules that learn (cutoff, scaled, conformal, failure, two-sided) and guarantees set a third of it
    aside.
    """
    targets = {
        "max_accuracy_drop": max_accuracy_drop,
        "target_timesteps": target_timesteps,
        "target_energy": target_energy,
    }
    _check_targets(policy, threshold, targets, confidence, guarantee)
    target = output_file(output or snn)
    from dataclasses import replace

    from seenn.analysis.collect import collect_run, start_states
    from seenn.checkpoint import save
    from seenn.data.recorded import refuse_seen_exit_split
    from seenn.exits import FixedExit, exit_record, find_exit, policy_macs

    own = {"temperature": temperature, "accumulation": accumulation, "alpha": alpha}
    built = None if policy == STORED else build_rule(policy, threshold, inner, **own)
    checkpoint = read_snn(snn, with_policy=built is None)
    steps = timesteps or checkpoint.timesteps
    rule = built or stored_rule(checkpoint, threshold, steps, inner=inner, **own)
    if guarantee == "conditional" and not isinstance(rule, FixedExit):
        with usage():
            rule.at((rule.never,))  # whether it can have a threshold per timestep
    splits = recorded_splits(checkpoint, source)
    refuse_seen_exit_split(checkpoint.manifest, splits)
    network = checkpoint.network.to(session.device)
    with session.progress("running the exit split") as update:
        run = collect_run(
            network, splits.exit.batches(batch_size), steps, progress=lambda done: update(done, len(splits.exit))
        )
    state = start_states(rule, splits.exit) if policy_macs(rule) else None
    found: ExitCalibration[Any] = find_exit(
        run, rule, state=state, confidence=confidence, guarantee=guarantee, **targets
    )
    chosen = threshold_of(found.policy)
    record = exit_record(
        found.policy,
        network=checkpoint.network.graph.fingerprint(),
        timesteps=steps,
        engine="reference",
        data=splits.manifest(),
        threshold=chosen,
        **targets,
        confidence=confidence,
        guarantee=None if confidence is None else guarantee or "marginal",
        samples=found.samples,
        accuracy=found.accuracy,
        full_accuracy=found.full_accuracy,
        mean_timesteps=found.mean_timesteps,
        mean_energy_pj=found.mean_energy_pj,
    )
    shown = ", ".join(f"{value:.6g}" for value in (chosen if isinstance(chosen, tuple) else (chosen,)))
    manifest = {**checkpoint.manifest, "timesteps": steps, "exit": record}
    if session.first:
        save(target, replace(checkpoint, network=network, policy=found.policy, manifest=manifest))
    session.answer(
        {**record, "output": str(target)},
        f"exit threshold {shown}, tried on {found.samples} held-out images:\n"
        f"  every step   {100 * found.full_accuracy:6.2f} % in {run.cost[-1]:g} timesteps\n"
        f"  early exit   {100 * found.accuracy:6.2f} % in {found.mean_timesteps:.2f} timesteps on average,\n"
        f"               at an estimated {found.mean_energy_pj:.4g} pJ per image\n"
        f"wrote {target}; next: seenn evaluate",
    )


def _check_targets(
    policy: str,
    threshold: float | None,
    targets: Mapping[str, float | None],
    confidence: float | None,
    guarantee: Guarantee | None,
) -> None:
    """Refuses combinations of options that say too little or contradict each other."""
    context = click.get_current_context()
    if sum(target is not None for target in (threshold, *targets.values())) != 1:
        raise click.UsageError(
            "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005, or --target-timesteps 2.5, or "
            "--target-energy 5e7",
            context,
        )
    if guarantee is not None and confidence is None:
        raise click.UsageError("--guarantee needs --confidence 0.95, the probability that it holds with", context)
    if confidence is not None and not targets["max_accuracy_drop"]:
        raise click.UsageError("--confidence needs --max-accuracy-drop above 0, the drop that it bounds", context)
    if confidence is not None and policy == "fixed":
        raise click.UsageError("--confidence needs a rule with a score, and fixed has none", context)
    if policy == "cutoff" and (threshold is not None or confidence is not None):
        raise click.UsageError(
            "cutoff finds one threshold per timestep for --max-accuracy-drop, --target-timesteps or --target-energy; "
            "with --threshold or --confidence use --policy gap",
            context,
        )
