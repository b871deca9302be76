"""``seenn compare-exits``: every exit policy on the test split, each calibrated on the exit split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cli.common import Console, command, command_line, text_table
from cli.exit_rules import ExitTargets
from cli.groups import RULE, DataOptions, LimitedReport, RunOptions, SnnFile
from cli.options import AT_ONCE, Integer, option


@dataclass(frozen=True, kw_only=True)
class CompareOptions(LimitedReport, ExitTargets):
    """What is compared, on how much, and where the report goes."""

    policy: tuple[str, ...] = option(
        f"Only these rules: {', '.join(RULE.names)}, or those that --plugin adds; may be repeated.  [default: all]",
        metavar="NAME",
        type=RULE,
        multiple=True,
    )
    latency_images: int = option(
        "Images whose time is measured with each policy; 0 measures none.",
        type=Integer(0),
        default=64,
    )
    latency_batch: int = option("Images run at once while time is measured.", type=AT_ONCE, default=1)

    def __post_init__(self) -> None:
        if len(self.targets) > 1:
            raise ValueError("give one of --max-accuracy-drop, --target-timesteps and --target-energy")


@command("All exit policies side by side on the test split.")
def compare_exits(console: Console, file: SnnFile, options: CompareOptions, how: RunOptions, data: DataOptions) -> None:
    """Compare exit policies of SNN (default: snn.safetensors): accuracy against timesteps, energy and time.

    Each rule is calibrated on the exit split for the same target (by default a loss of 0.005), then judged on the test
    split, which nothing else looks at. The policy stored in the file takes part as it is.
    """
    from seenn.analysis.report.comparison import COLUMNS, beside_ann, comparison_rows, write_comparison
    from seenn.exits import EXIT_RULES, make_rule

    chosen = [name for name in options.policy if not hasattr(EXIT_RULES.get(name), "made_with")]
    snn = file.load().to(console.device)
    stored = "" if snn.policy is None else snn.policy.kind
    absent = {
        name: f"the file has none: run `{EXIT_RULES.get(name).made_with}`"
        for name in options.policy
        if name not in (*chosen, stored)
    }
    snn, splits = data.of(snn)
    engine = how.make(console, snn)
    with console.progress("exit split, test split, times") as update:
        comparison = snn.compare_exits(
            splits,
            {name: make_rule(name) for name in chosen} if options.policy else None,
            **options.targets,
            engine=engine,
            timesteps=how.timesteps,
            batch_size=how.batch_size,
            limit=options.limit,
            latency_images=options.latency_images,
            latency_batch=options.latency_batch,
            name=Path(file.snn).name,
            seed=console.seed,
            command=command_line(),
            progress=update,
        )
    comparison = replace(comparison, left_out={**comparison.left_out, **absent})
    written = write_comparison(comparison, splits.test.picture, options.report) if console.first else options.report
    columns = {name: "" if name in (COLUMNS[0], COLUMNS[-1]) else ">" for name in COLUMNS}
    console.answer(
        {**comparison.to_json(), "report": str(written)},
        comparison.subject,
        text_table(columns, comparison_rows(comparison)),
        f"full T: {100 * comparison.full_accuracy:.2f} % in {comparison.steps[-1]} timesteps; "
        f"oracle: {comparison.oracle_aet:.2f}; brackets: 95 % intervals",
        *([] if (beside := beside_ann(comparison)) is None else [beside]),
        *(f"left out: {name}: {reason}" for name, reason in comparison.left_out.items()),
        engine=engine,
    )
    options.show(console, Path(written))
