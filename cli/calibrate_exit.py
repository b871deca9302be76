"""``seenn calibrate-exit``: decides when an image may stop, on data held out for that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.common import Console, command
from cli.exit_rules import RuleOptions
from cli.groups import DataOptions, OutputOptions, RunOptions, SnnFile, named


@command("Choose when an image may stop.")
def calibrate_exit(
    console: Console, file: SnnFile, rule: RuleOptions, out: OutputOptions, how: RunOptions, data: DataOptions
) -> None:
    """Choose when an image may stop in SNN (default: snn.safetensors) on its exit split, and store it there.

    Give one of --threshold, --max-accuracy-drop, --target-timesteps and --target-energy. The data is the one recorded
    in the file. Rules that learn (cutoff, scaled, conformal, failure, two-sided) and guarantees set a third of it
    aside.
    """
    from seenn.analysis.report.text import energy, thresholds

    target, made = file.output(out.output), rule.made()
    snn = file.load(with_policy=made is None).to(console.device)
    steps = snn.steps(how.timesteps)
    policy = made or rule.stored(snn, steps)
    snn, splits = data.of(snn)
    engine = how.make(console, snn)
    with console.progress("running the exit split") as update:
        found = snn.calibrate_exit(
            splits.exit,
            policy,
            **rule.targets,
            confidence=rule.confidence,
            guarantee=rule.guarantee or (None if rule.confidence is None else "marginal"),
            risk=rule.risk,
            engine=engine,
            timesteps=steps,
            batch_size=how.batch_size,
            progress=update,
        )
    if console.first:
        found.save(target)
    record = found.manifest["exit"]
    found_energy = record["mean_energy_pj"]
    worked = f"{'the work of ' * bool(snn.network.graph.heads)}{record['mean_cost']:.2f} timesteps"
    console.answer(
        {**record, "output": str(target)},
        f"exit threshold {thresholds(record['threshold'])}, tried on {record['samples']} held-out images"
        f"{_judged(record)}:\n"
        f"  every step   {100 * record['full_accuracy']:6.2f} % in {snn.network.initial_steps + steps} timesteps\n"
        f"  early exit   {100 * record['accuracy']:6.2f} % in {worked} on average,\n"
        f"               at an estimated {energy(found_energy)} ({found_energy:.4g} pJ) per image\n"
        f"{_guaranteed(record)}"
        f"wrote {target}; next: seenn evaluate{named(target)}",
        engine=engine,
    )


def _judged(record: Mapping[str, Any]) -> str:
    """What the percentages are of, where it is not labels."""
    return ", by how many agree with every step" if record.get("risk") == "disagreement" else ""


def _guaranteed(record: Mapping[str, Any]) -> str:
    """The guarantee in words, a line of its own; nothing where there is none."""
    kind, drop = record.get("guarantee"), record.get("max_accuracy_drop")
    if kind is None or drop is None:
        return ""
    points = f"at most {100 * drop:g} points below every step"
    if kind == "expected":
        return f"  guaranteed   {points}, on average over such calibrations\n"
    whom = "all that exit by any step, " if kind == "conditional" else ""
    return f"  guaranteed   {points}, {whom}with confidence {100 * record['confidence']:g} %\n"
