"""``seenn calibrate-exit``: decides when an image may stop, on data held out for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from cli.common import Session, read_snn, usage, verb
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, output_file

if TYPE_CHECKING:
    from torch import Tensor

    from seenn.exits.confidence import Accumulation


@click.command(name="calibrate-exit", short_help="Choose when an image may stop.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option(
    "--threshold",
    metavar="P",
    type=FiniteRange(0, 1, min_open=True),
    help="Stop when the confidence exceeds this, above 0 and at most 1.",
)
@click.option(
    "--max-accuracy-drop",
    metavar="DROP",
    type=FiniteRange(0, 1, max_open=True),
    help="Find the threshold with the "
    "fewest timesteps whose accuracy stays within this of full T (0.005 is half a point).",
)
@click.option(
    "--temperature",
    metavar="A",
    type=FiniteRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Divides the logits.",
)
@click.option(
    "--accumulation",
    type=click.Choice(["mean", "sum"]),
    default="mean",
    show_default=True,
    help="Confidence of the mean or of the summed logits.",
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
    threshold: float | None,
    max_accuracy_drop: float | None,
    temperature: float,
    accumulation: Accumulation,
    timesteps: int | None,
    batch_size: int,
    data: str | None,
    data_dir: str | None,
    download: bool,
    split_seed: int | None,
    output: str | None,
) -> None:
    """Choose the exit threshold of SNN (default: snn.safetensors) on its exit split, and store it there.

    Give one of --threshold and --max-accuracy-drop. The data is the one recorded in the file.
    """
    if (threshold is None) == (max_accuracy_drop is None):
        raise click.UsageError(
            "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005", click.get_current_context()
        )
    target = output_file(output or snn)
    from dataclasses import replace

    from seenn.checkpoint import save
    from seenn.exits import ConfidenceExit, calibrate_confidence, collect_logits, policy_to_json
    from seenn.recorded import load_recorded_data

    with usage():
        base = ConfidenceExit(
            threshold=1.0 if threshold is None else threshold,
            temperature=temperature,
            accumulation=accumulation,
        )
    checkpoint = read_snn(snn)
    splits = load_recorded_data(
        checkpoint.manifest,
        checkpoint.preprocessing,
        spec=data,
        data_dir=data_dir,
        download=download,
        split_seed=split_seed,
    )
    steps = timesteps or checkpoint.timesteps
    network = checkpoint.network.to(session.device)
    with session.progress("running the exit split") as update:

        def counted() -> Iterator[tuple[Tensor, Tensor]]:
            done = 0
            for images, labels in splits.exit.batches(batch_size):
                yield images, labels
                done += len(images)
                update(done, len(splits.exit))

        logits_sum, labels = collect_logits(network, counted(), steps)
    found = calibrate_confidence(logits_sum, labels, base, max_accuracy_drop=max_accuracy_drop)
    result = {
        "policy": policy_to_json(found.policy),
        "threshold": found.policy.threshold,
        "timesteps": steps,
        "max_accuracy_drop": max_accuracy_drop,
        "split": "exit",
        "samples": found.samples,
        "accuracy": found.accuracy,
        "full_accuracy": found.full_accuracy,
        "mean_timesteps": found.mean_timesteps,
    }
    manifest = {**checkpoint.manifest, "timesteps": steps, "exit": {**result, "data": splits.manifest()}}
    save(target, replace(checkpoint, network=network, policy=found.policy, manifest=manifest))
    session.answer(
        {**result, "output": str(target)},
        f"exit threshold {found.policy.threshold:.6g}, tried on {found.samples} held-out images:\n"
        f"  every step   {100 * found.full_accuracy:6.2f} % in {steps} timesteps\n"
        f"  early exit   {100 * found.accuracy:6.2f} % in {found.mean_timesteps:.2f} timesteps on average\n"
        f"wrote {target}; next: seenn evaluate",
    )
