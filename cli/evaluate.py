"""``seenn evaluate``: the figures, on data that nothing was tuned on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command, command_line
from cli.groups import (
    DataOptions,
    EngineOptions,
    OwnPolicyOptions,
    SnnFile,
    batch_size_option,
    engine_json,
    limit_option,
    output_folder,
    report_option,
    timesteps_option,
)


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is run, and where the report goes."""

    timesteps: int | None = timesteps_option("as recorded")
    batch_size: int = batch_size_option()
    limit: int | None = limit_option("test images")
    report: str = report_option("plots and report.json")


@command("Accuracy, exits, spikes, energy and plots on the test split.")
def evaluate(
    console: Console,
    file: SnnFile,
    options: EvaluateOptions,
    own: OwnPolicyOptions,
    how: EngineOptions,
    data: DataOptions,
) -> None:
    """Evaluate SNN (default: snn.safetensors) on the test split: accuracy, exits, spikes, energy, plots.

    ANN, SNN with all T steps, and SNN with early exit are each really run.
    """
    target = output_folder(options.report, "--report")
    from seenn.analysis.report import summary_table, verdict, write_report

    own.load()
    snn = file.load().to(console.device)
    splits = data.splits(snn.manifest, snn.preprocessing)
    steps = options.timesteps or snn.timesteps
    engine = how.make(console, snn, steps)
    with console.progress("ANN, SNN, SNN with exits") as update:
        evaluation = snn.evaluate(
            splits.test,
            engine=engine,
            timesteps=steps,
            batch_size=options.batch_size,
            limit=options.limit,
            name=Path(file.snn).name,
            seed=console.seed,
            command=command_line(),
            progress=update,
        )
    if console.first:
        shown = {sample.index: splits.test.raw(sample.index) for sample in (*evaluation.easiest, *evaluation.hardest)}
        target = write_report(evaluation, shown, target)
    console.answer(
        {**evaluation.to_json(), "engine": engine_json(engine), "report": str(target)},
        summary_table(evaluation),
        "\n".join(verdict(evaluation)),
    )
    console.say(f"report: {target}")
