"""``seenn train-ann``: an ordinary classifier, ready to convert."""

from __future__ import annotations

from typing import Any

import click

from cli.common import Session, usage, verb
from cli.options import FiniteRange, data_options, model_options, model_spec, output_file


@click.command(name="train-ann", short_help="Train an ordinary classifier.")
@click.option(
    "--model", required=True, metavar="NAME", help="timm name (resnet18), torchvision:NAME, or package.module:factory."
)
@model_options
@data_options
@click.option(
    "--epochs", metavar="N", type=click.IntRange(min=1), default=10, show_default=True, help="Passes over the data."
)
@click.option(
    "--batch-size", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Images in a step."
)
@click.option(
    "--lr", metavar="RATE", type=FiniteRange(0, min_open=True), help="Peak learning rate.  [default: by the optimiser]"
)
@click.option("--amp", is_flag=True, help="bfloat16 autocast.")
@click.option("-o", "--output", metavar="FILE", default="ann.pth", show_default=True, help="The trained weights.")
@verb
def train_ann(session: Session, model: str, output: str, **options: Any) -> None:
    """Train a classifier on the train split; the epoch kept is the best on the calibration split."""
    target = output_file(output)
    from dataclasses import replace

    from converter.load import build_model
    from seenn.data import load_data
    from seenn.training import Augment, OptimConfig, TrainConfig
    from seenn.training import train_ann as train
    from seenn.weights import SAFETENSORS_SUFFIX, TORCH_SUFFIXES, write_weights

    endings = (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX)
    if target.suffix not in endings:
        raise click.BadParameter(f"{target} must end in one of {', '.join(endings)}", param_hint="-o")
    splits = load_data(
        options["data"] or "digits",
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"] or 0,
    )
    with usage():
        spec = model_spec(model, options, num_classes=options["num_classes"] or splits.num_classes)
        optim = OptimConfig() if options["lr"] is None else replace(OptimConfig(), lr=options["lr"])
        p = splits.preprocessing
        config = TrainConfig(
            epochs=options["epochs"],
            batch_size=options["batch_size"],
            optim=optim,
            augment=Augment.suggest(splits.spec, height=p.height),
            amp=options["amp"],
            seed=session.seed,
        )
    loaded = build_model(spec, (p.channels, p.height, p.width))
    if loaded.preprocessing is not None:
        splits = splits.with_preprocessing(loaded.preprocessing)
    with session.progress("training") as update:
        result = train(loaded.module, splits, config, device=session.device, on_step=update)
    record = {
        "model": loaded.record,
        "preprocessing": splits.preprocessing.to_json(),
        "data": splits.manifest(),
        "training": config.to_record(),
        "validation_accuracy": result.best.accuracy,
    }
    write_weights(target, {k: v.cpu() for k, v in result.module.state_dict().items()}, record)
    session.answer(
        {
            "validation_accuracy": result.best.accuracy,
            "validation_split": "calibration",
            "epoch": result.best.epoch,
            "epochs": len(result.epochs),
            "model": loaded.record,
            "data": splits.spec,
            "output": str(target),
        },
        f"validation accuracy {100 * result.best.accuracy:.2f} % (epoch {result.best.epoch} of {len(result.epochs)})\n"
        f"wrote {target}; next: seenn convert --model {model} --ckpt {target}",
    )
