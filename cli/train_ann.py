"""``seenn train-ann``: an ordinary classifier, ready to convert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cli.common import Session, usage, verb
from cli.options import FiniteRange, data_options, model_options, model_spec, output_file
from cli.training import augment_options, train_config, training_options, training_run, with_augmentation


@click.command(name="train-ann", short_help="Train an ordinary classifier.")
@click.option(
    "--model", required=True, metavar="NAME", help="timm name (resnet18), torchvision:NAME, or package.module:factory."
)
@click.option(
    "--ckpt", metavar="FILE", type=click.Path(dir_okay=False), help="Start from these weights: .pth or .safetensors."
)
@click.option(
    "--activation",
    type=click.Choice(["relu", "qcfs"]),
    help="The model's own, or quantised ones whose thresholds are learned and become the neurons'.  "
    "[default: as in --ckpt, else relu]",
)
@click.option(
    "--levels", metavar="L", type=click.IntRange(1, 4096), help="Of --activation qcfs.  [default: as in --ckpt, else 4]"
)
@click.option(
    "--distil",
    metavar="SHARE",
    type=FiniteRange(0, 1),
    default=0.0,
    show_default=True,
    help="Share of the loss that imitates the network of --ckpt, as it is, instead of the labels.",
)
@model_options
@training_options(epochs=10, lr="0.1; with --ckpt 0.02")
@augment_options
@data_options
@click.option("-o", "--output", metavar="FILE", default="ann.pth", show_default=True, help="The trained weights.")
@verb
def train_ann(session: Session, model: str, ckpt: str | None, output: str, **options: Any) -> None:
    """Train a classifier on the train split; the epoch kept is the best on the calibration split."""
    target = output_file(output, keep=ckpt)
    if options["levels"] is not None and options["activation"] != "qcfs":
        raise click.UsageError("--levels goes with --activation qcfs", click.get_current_context())
    if options["distil"] and ckpt is None:
        raise click.UsageError("--distil imitates the network of --ckpt: name one", click.get_current_context())
    from converter.load import load_model
    from converter.load.weights import SAFETENSORS_SUFFIX, TORCH_SUFFIXES, read_weights, write_weights
    from converter.trainable import model_to_train
    from seenn.data.recorded import check_splits, load_recorded_data
    from seenn.files import fingerprint
    from seenn.training import Augment, OptimConfig, TrainConfig
    from seenn.training import train_ann as train

    endings = (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX)
    if target.suffix not in endings:
        raise click.BadParameter(f"{target} must end in one of {', '.join(endings)}", param_hint="-o")
    before = read_weights(ckpt).record if ckpt else {}
    splits = load_recorded_data(
        before,
        None,
        spec=options["data"],
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"],
    )
    check_splits(before, splits, use="calibration")
    with usage():
        spec = model_spec(model, options, num_classes=options["num_classes"] or splits.num_classes)
        p = splits.preprocessing
        base = TrainConfig(
            optim=OptimConfig(lr=0.02) if ckpt else OptimConfig(), augment=Augment.suggest(splits.spec, height=p.height)
        )
        config = train_config(base, options, seed=session.seed)
    levels = (options["levels"] or 4) if options["activation"] == "qcfs" else None
    loaded = model_to_train(spec, splits, ckpt, levels=levels)
    if loaded.preprocessing is not None:
        splits = splits.with_preprocessing(loaded.preprocessing)
    with usage():
        config = with_augmentation(config, options, splits)
    record = {
        "model": loaded.record,
        "preprocessing": splits.preprocessing.to_json(),
        "data": splits.manifest(),
        "training": {**config.to_record(), "distil": options["distil"]},
        **({"from": {"file": Path(ckpt).name, "sha256": fingerprint(ckpt)}} if ckpt else {}),
    }
    teacher = None
    if ckpt is not None and options["distil"]:
        p = splits.preprocessing
        teacher = load_model(spec, ckpt, image_size=(p.channels, p.height, p.width)).module
    run = training_run(options, record)
    with session.progress("training") as update:
        result = train(
            loaded.module,
            splits,
            config,
            teacher=teacher,
            distil=options["distil"],
            device=session.device,
            run=run,
            on_step=update,
        )
    tensors = {k: v.cpu() for k, v in result.module.state_dict().items()}
    if session.first:
        write_weights(target, tensors, {**record, "validation_accuracy": result.best.accuracy})
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
