"""``seenn finetune``: a spiking network trained on, so that its first answers become good ones."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.common import Console, command
from cli.errors import usage
from cli.groups import DataOptions, SnnFile
from cli.options import SHARE, TIMESTEPS, FiniteRange, given, option
from cli.output import output_file
from cli.training import AugmentOptions, RunFolder, TrainOptions, save_memory_option

FINETUNED_FILE = "snn-finetuned.safetensors"


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions:
    """What it is trained for."""

    timesteps: int = option("T to train for.", short="-T", type=TIMESTEPS, default=2)
    early: float = option("Step t weighs t^−X in the loss: 0 weighs all alike.", type=FiniteRange(0, 16), default=1.0)
    distil: float = option(
        "Share of the loss that imitates the network's analog twin instead of the labels.",
        metavar="SHARE",
        type=SHARE,
        default=0.5,
    )
    heads: bool = option("Train the heads of add-heads too: all exits in a step weigh alike.")
    save_memory: bool = save_memory_option()
    output: str = option("The trained network.", short="-o", metavar="FILE", default=FINETUNED_FILE)


@command("Train a spiking network on, for answers in fewer steps.")
def finetune(
    console: Console,
    file: SnnFile,
    options: FinetuneOptions,
    training: TrainOptions,
    where: RunFolder,
    augment: AugmentOptions,
    data: DataOptions,
) -> None:
    """Train SNN (default: snn.safetensors) with surrogate gradients: weights, thresholds and initial membranes.

    The loss asks for the right answer after every step, most of all after the first. The epoch that is kept is
    the best on the calibration split; exits have to be calibrated anew.
    """
    target = output_file(options.output)
    from seenn.training import FinetuneConfig
    from seenn.training.finetune import default_train_config

    snn = file.load()
    snn, splits = data.of(snn)
    train_options = training.config(default_train_config(splits, snn.network), seed=console.seed)
    with usage():
        train = augment.add(train_options, splits)
        config = FinetuneConfig(train=train, **given(options, "timesteps", "early", "distil", "heads", "save_memory"))
    source = {"file": Path(file.snn).name, "sha256": file.fingerprint}
    run = where.run({"finetune": config.to_record(), "source": source, "data": splits.manifest()})
    with console.progress("fine-tuning") as update:
        made = snn.finetune(splits, config, source=source, device=console.device, run=run, on_step=update)
    if console.first:
        made.save(target)
    record = made.manifest["finetune"]
    found = zip(record["accuracy_per_timestep_before"], record["accuracy_per_timestep"], strict=True)
    rows = "\n".join(f"  t = {t:<4} {100 * old:6.2f} % -> {100 * new:6.2f} %" for t, (old, new) in enumerate(found, 1))
    ann = record["twin_accuracy_before"]
    twin = "" if ann is None else f" (analog twin before: {100 * ann:.2f} %)"
    console.answer(
        {**record, "data": splits.spec, "output": str(target)},
        f"accuracy on {record['samples']} calibration images{twin}:\n"
        f"{rows}\nwrote {target}; next: seenn calibrate-exit {target} --max-accuracy-drop 0.005",
    )
