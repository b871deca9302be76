"""``seenn compare-exits``: every exit policy on the test split, each calibrated on the exit split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command, command_line, text_table
from cli.errors import usage
from cli.exit_rules import RULE, STORED, ExitTargets, own_rule
from cli.groups import (
    COUNT,
    DataOptions,
    EngineOptions,
    SnnFile,
    batch_size_option,
    engine_json,
    limit_option,
    output_folder,
    report_option,
    timesteps_option,
)
from cli.options import Integer, option


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ExitTargets):
    """What is compared, on how much, and where the report goes."""

    policy: tuple[str, ...] = option(
        f"Only these rules: {', '.join(RULE.names)}; or package.module:Class, one of your own (imports and runs "
        "its code); may be repeated.  [default: all of seenn's]",
        metavar="NAME",
        type=RULE,
        multiple=True,
    )
    timesteps: int | None = timesteps_option("as recorded")
    batch_size: int = batch_size_option()
    limit: int | None = limit_option("images of each split")
    latency_images: int = option(
        "Images whose time is measured with each policy; 0 measures none.",
        type=Integer(0),
        default=64,
    )
    latency_batch: int = option("Images run at once while time is measured.", type=COUNT, default=1)
    report: str = report_option("exits.md and plots")

    def __post_init__(self) -> None:
        if len(self.given) > 1:
            raise ValueError("give one of --max-accuracy-drop, --target-timesteps and --target-energy")


@command("All exit policies side by side on the test split.")
def compare_exits(
    console: Console, file: SnnFile, options: CompareOptions, how: EngineOptions, data: DataOptions
) -> None:
    """Compare exit policies of SNN (default: snn.safetensors): accuracy against timesteps, energy and time.

    Each rule is calibrated on the exit split for the same target (by default a loss of 0.005), then judged on the test
    split, which nothing else looks at. A policy stored in the file (SEENN-II, or one of your own named by --policy)
    takes part as it is.
    """
    target = output_folder(options.report, "--report")
    from seenn.analysis.report.comparison import COLUMNS, comparison_rows, write_comparison
    from seenn.exits import make_rule

    rules = None
    if options.policy:
        with usage():
            rules = {
                name: own_rule(name) if ":" in name else make_rule(name) for name in options.policy if name != STORED
            }
    snn = file.load().to(console.device)
    steps = options.timesteps or snn.timesteps
    splits = data.splits(snn.manifest, snn.preprocessing)
    engine = how.make(console, snn, steps)
    with console.progress("exit split, test split, times") as update:
        comparison = snn.compare_exits(
            splits,
            rules,
            **options.given,
            engine=engine,
            timesteps=steps,
            batch_size=options.batch_size,
            limit=options.limit,
            latency_images=options.latency_images,
            latency_batch=options.latency_batch,
            name=Path(file.snn).name,
            seed=console.seed,
            command=command_line(),
            progress=update,
        )
    shown = {s.index: splits.test.raw(s.index) for s in (*comparison.easiest, *comparison.hardest)}
    written = write_comparison(comparison, shown, target) if console.first else target
    head = f"{comparison.network} on {comparison.data} ({comparison.samples:,} test images)"
    left_out = "".join(f"\nleft out: {name}: {reason}" for name, reason in comparison.left_out.items())
    console.answer(
        {**comparison.to_json(), "engine": engine_json(engine), "report": str(written)},
        f"{head}\n{text_table([COLUMNS, *comparison_rows(comparison)], right=range(1, len(COLUMNS) - 1))}",
        f"full T: {100 * comparison.full_accuracy:.2f} % in {snn.network.initial_steps + steps} timesteps; "
        f"oracle: {comparison.oracle_aet:.2f}; brackets: 95 % intervals{left_out}",
    )
    console.say(f"report: {written}")
