"""``seenn evaluate``: the figures, on data that nothing was tuned on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.common import Session, command_line, read_snn, verb
from cli.options import (
    SNN_FILE,
    TIMESTEPS,
    chosen_engine,
    data_options,
    engine_json,
    engine_options,
    import_own_policy,
    output_folder,
    own_policy_option,
    recorded_splits,
)


@click.command(short_help="Accuracy, exits, spikes, energy and plots on the test split.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as recorded]"
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Images run at once."
)
@click.option("--limit", metavar="N", type=click.IntRange(min=1), help="The first so many test images only.")
@click.option(
    "--report",
    "folder",
    metavar="DIR",
    default="seenn-report",
    show_default=True,
    help="Folder of plots and report.json.",
)
@own_policy_option
@engine_options
@data_options
@verb
def evaluate(
    session: Session,
    snn: str,
    timesteps: int | None,
    batch_size: int,
    limit: int | None,
    folder: str,
    own_policy: str | None,
    engine: str,
    float_sites: str,
    **source: Any,
) -> None:
    """Evaluate SNN (default: snn.safetensors) on the test split: accuracy, exits, spikes, energy, plots.

    ANN, SNN with all T steps, and SNN with early exit are each really run.
    """
    target = output_folder(folder, "--report")
    from seenn.analysis.evaluate import evaluate as run
    from seenn.analysis.report import summary_table, verdict, write_report

    import_own_policy(own_policy)
    checkpoint = read_snn(snn)
    splits = recorded_splits(checkpoint, source)
    checkpoint.network.to(session.device)
    runner = chosen_engine(session, checkpoint, engine, timesteps or checkpoint.timesteps, float_sites)
    with session.progress("ANN, SNN, SNN with exits") as update:
        evaluation = run(
            checkpoint,
            splits.test,
            name=Path(snn).name,
            data=splits.spec,
            timesteps=timesteps,
            engine=runner,
            batch_size=batch_size,
            limit=limit,
            class_names=splits.class_names,
            seed=session.seed,
            command=command_line(),
            progress=update,
        )
    shown = {sample.index: splits.test.raw(sample.index) for sample in (*evaluation.easiest, *evaluation.hardest)}
    path = write_report(evaluation, shown, target) if session.first else target
    session.answer(
        {**evaluation.to_json(), "engine": engine_json(runner), "report": str(path)},
        summary_table(evaluation),
        "\n".join(verdict(evaluation)),
    )
    session.say(f"report: {path}")
