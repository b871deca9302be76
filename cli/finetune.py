"""``seenn finetune``: a spiking network trained on, so that its first answers become good ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command, read_snn
from cli.errors import usage
from cli.groups import TIMESTEPS, DataOptions, output_file, snn_argument
from cli.options import FiniteRange, option
from cli.training import AugmentOptions, RunOptions, TrainOptions, epochs_option, lr_option, save_memory_option

FINETUNED_FILE = "snn-finetuned.safetensors"


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """What is trained on, and for what."""

    snn: str = snn_argument()
    timesteps: int = option("--timesteps", "-T", type=TIMESTEPS, metavar="T", default=2, help="T to train for.")
    early: float = option(
        "--early",
        metavar="X",
        type=FiniteRange(0, 16),
        default=1.0,
        help="Step t weighs t^−X in the loss: 0 weighs all alike.",
    )
    distil: float = option(
        "--distil",
        metavar="SHARE",
        type=FiniteRange(0, 1),
        default=0.5,
        help="Share of the loss that imitates the network's analog twin instead of the labels.",
    )
    save_memory: bool = save_memory_option()
    output: str = option("-o", "--output", metavar="FILE", default=FINETUNED_FILE, help="The trained network.")


@dataclass(frozen=True, kw_only=True)
class FineTraining(TrainOptions):
    """Training with the defaults of fine-tuning."""

    epochs: float = epochs_option(1)
    lr: float | None = lr_option("0.05, or 0.004 where neurons fire several times a step")


@command("Train a spiking network on, for answers in fewer steps.")
def finetune(
    console: Console,
    options: FinetuneOptions,
    training: FineTraining,
    where: RunOptions,
    augment: AugmentOptions,
    data: DataOptions,
) -> None:
    """Train SNN (default: snn.safetensors) with surrogate gradients: weights, thresholds and initial membranes.

    The loss asks for the right answer after every step, most of all after the first. The epoch that is kept is
    the best on the calibration split; exits have to be calibrated anew.
    """
    target = output_file(options.output, keep=options.snn)
    from seenn.checkpoint import save
    from seenn.files import fingerprint
    from seenn.training import FinetuneConfig, finetuned_checkpoint
    from seenn.training import finetune as train
    from seenn.training.finetune import default_train_config

    checkpoint = read_snn(options.snn)
    splits = data.splits(checkpoint.manifest, checkpoint.preprocessing)
    train_options = training.config(default_train_config(splits, checkpoint.network), seed=console.seed)
    with usage():
        config = FinetuneConfig(
            timesteps=options.timesteps,
            early=options.early,
            distil=options.distil,
            save_memory=options.save_memory,
            train=augment.add(train_options, splits),
        )
    file = {"file": Path(options.snn).name, "sha256": fingerprint(options.snn)}
    run = where.run({"finetune": config.to_record(), "source": file, "data": splits.manifest()})
    with console.progress("fine-tuning") as update:
        result = train(checkpoint.network, splits, config, device=console.device, run=run, on_step=update)
    made = finetuned_checkpoint(checkpoint, splits, config, result, file=file)
    if console.first:
        save(target, made)
    rows = "\n".join(
        f"  t = {t:<4} {100 * before:6.2f} % -> {100 * after:6.2f} %"
        for t, (before, after) in enumerate(zip(result.before, result.after, strict=True), 1)
    )
    record = made.manifest["finetune"]
    twin = "" if result.twin is None else f" (analog twin before: {100 * result.twin:.2f} %)"
    console.answer(
        {**record, "data": splits.spec, "output": str(target)},
        f"accuracy on {record['samples']} calibration images{twin}:\n"
        f"{rows}\nwrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
