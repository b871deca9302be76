"""``seenn evaluate``: the figures, on data that nothing was tuned on."""

from __future__ import annotations

from pathlib import Path

from cli.common import Console, command, command_line, text_table
from cli.groups import AlarmOptions, DataOptions, LimitedReport, OwnPolicyOptions, RunOptions, SnnFile


@command("Accuracy, exits, spikes, energy and plots on the test split.")
def evaluate(
    console: Console,
    file: SnnFile,
    options: LimitedReport,
    own: OwnPolicyOptions,
    how: RunOptions,
    data: DataOptions,
    warn: AlarmOptions,
) -> None:
    """Evaluate SNN (default: snn.safetensors) on the test split: accuracy, exits, spikes, energy, plots.

    ANN, SNN with all T steps, and SNN with early exit are each really run.
    """
    from seenn.analysis.report.summary import COLUMNS, summary_rows, verdict
    from seenn.analysis.report.write import write_report

    snn = file.load().to(console.device)
    snn, splits = data.of(snn)
    engine = how.make(console, snn)
    with console.progress("ANN, SNN, SNN with exits") as update:
        found = snn.evaluate(
            splits.test,
            engine=engine,
            timesteps=how.timesteps,
            batch_size=how.batch_size,
            limit=options.limit,
            alarm=warn.drift_alarm,
            name=Path(file.snn).name,
            seed=console.seed,
            command=command_line(),
            progress=update,
        )
    written = write_report(found, splits.test.picture, options.report) if console.first else options.report
    console.answer(
        {**found.to_json(), "report": str(written)},
        f"{found.subject}\n",
        text_table({name: ">" if number else "" for number, name in enumerate(COLUMNS)}, summary_rows(found)),
        "\n".join(["", *verdict(found)]),
        engine=engine,
    )
    options.show(console, Path(written))
