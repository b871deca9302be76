"""``seenn finetune``: a spiking network trained on, so that its first answers become good ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.common import Session, read_snn, usage, verb
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, output_file, recorded_splits
from cli.training import augment_options, save_memory, train_config, training_options, training_run, with_augmentation

FINETUNED_FILE = "snn-finetuned.safetensors"


@click.command(short_help="Train a spiking network on, for answers in fewer steps.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option("--timesteps", "-T", type=TIMESTEPS, metavar="T", default=2, show_default=True, help="T to train for.")
@click.option(
    "--early",
    metavar="X",
    type=FiniteRange(0, 16),
    default=1.0,
    show_default=True,
    help="Step t weighs t^−X in the loss: 0 weighs all alike.",
)
@click.option(
    "--distil",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    default=0.5,
    show_default=True,
    help="Share of the loss that imitates the network's analog twin instead of the labels.",
)
@save_memory
@training_options(epochs=1, lr="0.05, or 0.004 where neurons fire several times a step")
@augment_options
@data_options
@click.option("-o", "--output", metavar="FILE", default=FINETUNED_FILE, show_default=True, help="The trained network.")
@verb
def finetune(session: Session, snn: str, output: str, **options: Any) -> None:
    """Train SNN (default: snn.safetensors) with surrogate gradients: weights, thresholds and initial membranes.

    The loss asks for the right answer after every step, most of all after the first. The epoch that is kept is
    the best on the calibration split; exits have to be calibrated anew.
    """
    target = output_file(output, keep=snn)
    from seenn.checkpoint import save
    from seenn.data import check_splits
    from seenn.files import fingerprint
    from seenn.training import FinetuneConfig, finetuned_checkpoint
    from seenn.training import finetune as train
    from seenn.training.finetune import default_train_config

    checkpoint = read_snn(snn)
    splits = recorded_splits(checkpoint, options)
    check_splits(checkpoint.manifest, splits, use="calibration")
    with usage():
        train_options = train_config(default_train_config(splits, checkpoint.network), options, seed=session.seed)
        config = FinetuneConfig(
            timesteps=options["timesteps"],
            early=options["early"],
            distil=options["distil"],
            save_memory=options["save_memory"],
            train=with_augmentation(train_options, options, splits),
        )
    file = {"file": Path(snn).name, "sha256": fingerprint(snn)}
    run = training_run(options, {"finetune": config.to_record(), "source": file, "data": splits.manifest()})
    with session.progress("fine-tuning") as update:
        result = train(checkpoint.network, splits, config, device=session.device, run=run, on_step=update)
    made = finetuned_checkpoint(checkpoint, splits, config, result, file=file)
    if session.first:
        save(target, made)
    rows = "\n".join(
        f"  t = {t:<4} {100 * before:6.2f} % -> {100 * after:6.2f} %"
        for t, (before, after) in enumerate(zip(result.before, result.after, strict=True), 1)
    )
    record = made.manifest["finetune"]
    twin = "" if result.twin is None else f" (analog twin before: {100 * result.twin:.2f} %)"
    session.answer(
        {**record, "data": splits.spec, "output": str(target)},
        f"accuracy on {record['samples']} calibration images{twin}:\n"
        f"{rows}\nwrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
