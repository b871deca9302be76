"""``seenn compare-exits``: every exit policy on the test split, each calibrated on the exit split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.common import Session, command_line, read_snn, text_table, verb
from cli.exit_rules import RULES, RuleName, build_rule
from cli.options import (
    SNN_FILE,
    TIMESTEPS,
    FiniteRange,
    data_options,
    import_own_policy,
    output_folder,
    recorded_splits,
)


@click.command(name="compare-exits", short_help="All exit policies side by side on the test split.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option(
    "--policy",
    "chosen",
    multiple=True,
    type=RuleName(),
    help="Only these rules, or package.module:Class, one of your own (imports and runs its code); may be repeated.  "
    "[default: all of seenn's]",
)
@click.option(
    "--max-accuracy-drop",
    metavar="DROP",
    type=FiniteRange(0, 1, max_open=True),
    help="What each rule may lose against full T on the exit split.  [default: 0.005]",
)
@click.option("--target-timesteps", metavar="STEPS", type=FiniteRange(1), help="Or: the mean that each may take.")
@click.option("--target-energy", metavar="PJ", type=FiniteRange(0, min_open=True), help="Or: the mean energy, in pJ.")
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as recorded]"
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Images run at once."
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first so many images of each split only.")
@click.option(
    "--latency-images",
    metavar="N",
    type=click.IntRange(min=0),
    default=64,
    show_default=True,
    help="Images whose time is measured with each policy; 0 measures none.",
)
@click.option(
    "--latency-batch",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Images run at once while time is measured.",
)
@click.option(
    "--report", "folder", metavar="DIR", default="seenn-report", show_default=True, help="Folder of exits.md and plots."
)
@data_options
@verb
def compare_exits(session: Session, snn: str, chosen: tuple[str, ...], folder: str, **options: Any) -> None:
    """Compare exit policies of SNN (default: snn.safetensors): accuracy against timesteps, energy and time.

    Each rule is calibrated on the exit split for the same target, then judged on the test split, which nothing else
    looks at. A policy stored in the file (SEENN-II, or one of your own named by --policy) takes part as it is.
    """
    target = output_folder(folder, "--report")
    names = ("max_accuracy_drop", "target_timesteps", "target_energy")
    targets = {name: options[name] for name in names if options[name] is not None}
    if len(targets) > 1:
        raise click.UsageError(
            "give one of --max-accuracy-drop, --target-timesteps and --target-energy", click.get_current_context()
        )
    targets = targets or {"max_accuracy_drop": 0.005}
    rules = {name: build_rule(name, None, None) for name in dict.fromkeys(chosen or RULES)}
    for path in chosen:
        import_own_policy(path if ":" in path else None)
    from seenn.analysis.compare import compare_exits as run
    from seenn.analysis.report.comparison import COLUMNS, comparison_rows, write_comparison
    from seenn.data.recorded import refuse_seen_exit_split
    from seenn.exits import check_record

    checkpoint = read_snn(snn)
    steps = options["timesteps"] or checkpoint.timesteps
    if checkpoint.policy is not None:
        fingerprint = checkpoint.network.graph.fingerprint()
        check_record(checkpoint.manifest.get("exit"), network=fingerprint, timesteps=steps)
    splits = recorded_splits(checkpoint, options)
    refuse_seen_exit_split(checkpoint.manifest, splits)
    checkpoint.network.to(session.device)
    with session.progress("exit split, test split, times") as update:
        comparison = run(
            checkpoint,
            splits,
            rules,
            targets,
            timesteps=steps,
            name=Path(snn).name,
            batch_size=options["batch_size"],
            limit=options["limit"],
            latency_images=options["latency_images"],
            latency_batch=options["latency_batch"],
            seed=session.seed,
            command=command_line(),
            progress=update,
        )
    shown = {s.index: splits.test.raw(s.index) for s in (*comparison.easiest, *comparison.hardest)}
    written = write_comparison(comparison, shown, target)
    head = f"{comparison.network} on {comparison.data} ({comparison.samples:,} test images)"
    left_out = "".join(f"\nleft out: {name}: {reason}" for name, reason in comparison.left_out.items())
    session.answer(
        {**comparison.to_json(), "report": str(written)},
        f"{head}\n{text_table([COLUMNS, *comparison_rows(comparison)], right=range(1, len(COLUMNS) - 1))}",
        f"full T: {100 * comparison.full_accuracy:.2f} % in {comparison.prepass + steps} timesteps; "
        f"oracle: {comparison.oracle_aet:.2f}; "
        "brackets: 95 % intervals" + left_out,
    )
    session.say(f"report: {written}")
