"""``seenn add-heads``: exits in depth, trained in one pass over the training images."""

from __future__ import annotations

from dataclasses import dataclass

import click

from cli.common import Console, command, text_table
from cli.errors import usage
from cli.groups import DataOptions, EngineChoice, OutputOptions, SnnFile
from cli.options import AT_ONCE, COUNT, Commas, option


@dataclass(frozen=True, kw_only=True)
class HeadOptions(OutputOptions):
    """Where heads are put, and what they learn from."""

    at: tuple[str, ...] | None = option(
        "Neurons behind which a head is put, by the names that `seenn inspect` shows.  [default: chosen by the work "
        "up to them]",
        metavar="NODE,…",
        type=Commas(click.STRING),
    )
    heads: int = option("How many at most, where they are chosen: none where another is near.", type=COUNT, default=4)
    limit: int = option("The first so many training images only.", type=COUNT, default=12_000)
    replace: bool = option("Leave out the heads that the network has.")
    batch_size: int = option("Images run at once.", type=AT_ONCE, default=64)


@command("Exits within a step: heads behind some layers.")
def add_heads(console: Console, file: SnnFile, options: HeadOptions, how: EngineChoice, data: DataOptions) -> None:
    """Put small classifiers behind some layers of SNN (default: snn.safetensors), so that easy images leave there.

    The network itself stays as it is. Heads learn on the train split, from one pass over its images; exits have to be
    calibrated anew.
    """
    target = file.output(options.output)
    from seenn.core.cuts import choose_cuts
    from seenn.training.heads import HeadsConfig

    with usage():
        config = HeadsConfig(at=options.at, heads=options.heads, limit=options.limit)
    snn = file.load(with_policy=False).to(console.device)
    if config.at is not None:
        with usage():
            choose_cuts(snn.network, config.at, config.heads)
    snn, splits = data.of(snn)
    with console.progress("running the training images") as update:
        made = snn.add_heads(
            splits,
            config,
            engine=how.engine,
            batch_size=options.batch_size,
            replace_heads=options.replace,
            progress=update,
        )
    if console.first:
        made.save(target)
    record = made.manifest["heads"]
    rows = [(h["at"], f"{100 * h['cost']:.1f} %", f"{100 * h['accuracy']:.2f} %") for h in record["heads"]]
    console.answer(
        {**record, "output": str(target)},
        text_table({"head behind": "", "of a step": ">", "accuracy": ">"}, rows),
        f"accuracy after one step, on a third of {record['samples']:,} training images that it was not fitted on\n"
        f"wrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
