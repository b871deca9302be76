"""``seenn train-ann``: an ordinary classifier, ready to convert."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import click

from cli.common import Console, command
from cli.errors import usage
from cli.groups import DataOptions, ModelOptions
from cli.options import PATH, SHARE, Integer, option
from cli.output import output_file
from cli.training import AugmentOptions, RunFolder, TrainOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainAnnOptions:
    """What is trained, and where it goes."""

    model: str = option(
        "timm name (resnet18), torchvision:NAME, or package.module:factory.", required=True, metavar="NAME"
    )
    ckpt: str | None = option("Start from these weights: a file of torch or safetensors, or its folder.", type=PATH)
    activation: Literal["relu", "qcfs"] | None = option(
        "The model's own, or quantised ones whose thresholds are learned and become the neurons'.  "
        "[default: as in --ckpt, else relu]"
    )
    levels: int | None = option(
        "Of --activation qcfs.  [default: as in --ckpt, else 4]", metavar="L", type=Integer(1, 4096)
    )
    distil: float = option(
        "Share of the loss that imitates the network of --ckpt, as it is, instead of the labels.",
        metavar="SHARE",
        type=SHARE,
        default=0.0,
    )
    output: str = option("The trained weights.", short="-o", metavar="FILE", default="ann.pth")

    def __post_init__(self) -> None:
        if self.levels is not None and self.activation != "qcfs":
            raise ValueError("--levels goes with --activation qcfs")
        if self.distil and self.ckpt is None:
            raise ValueError("--distil imitates the network of --ckpt: name one")


@command("Train an ordinary classifier.")
def train_ann(
    console: Console,
    options: TrainAnnOptions,
    model: ModelOptions,
    training: TrainOptions,
    where: RunFolder,
    augment: AugmentOptions,
    data: DataOptions,
) -> None:
    """Train a classifier on the train split; the epoch kept is the best on the calibration split."""
    ckpt, target = options.ckpt, output_file(options.output, kind=".pth")
    from converter.images import too_few
    from converter.known import with_channel
    from converter.load import load_model, model_to_train
    from converter.load.weights import SAFETENSORS_SUFFIX, TORCH_SUFFIXES, read_weights, write_weights
    from seenn.data import check_splits
    from seenn.files import fingerprint
    from seenn.training import Augment, OptimConfig, TrainConfig
    from seenn.training import train_ann as train

    endings = (*TORCH_SUFFIXES, SAFETENSORS_SUFFIX)
    if target.suffix not in endings:
        raise click.BadParameter(f"{target} must end in one of {', '.join(endings)}", param_hint="-o")
    spec = model.spec(options.model)
    start = read_weights(ckpt) if ckpt else None
    before = start.record if start else {}
    splits = data.splits(before, None, in_chans=model.in_chans)
    check_splits(before, splits, use="calibration")
    if few := too_few(splits):
        log.warning("%s, which convert will ask for", few)
    spec = spec.for_classes(splits.num_classes)
    splits = with_channel(spec, splits)
    optim = OptimConfig(lr=0.02) if ckpt else OptimConfig()
    base = TrainConfig(optim=optim, augment=Augment.suggest(splits))
    config = training.config(base, seed=console.seed)
    levels = (options.levels or 4) if options.activation == "qcfs" else None
    loaded = model_to_train(spec, splits, ckpt, levels=levels)
    if loaded.preprocessing is not None:
        with usage():
            splits = splits.with_preprocessing(data.stated(model.in_chans).over(loaded.preprocessing))
    config = augment.add(config, splits)
    record = {
        "model": loaded.spec.to_record(),
        "preprocessing": splits.preprocessing.to_json(),
        "data": splits.manifest(),
        "training": {**config.to_record(), "distil": options.distil},
        **({"from": {"file": start.file.name, "sha256": fingerprint(start.file)}} if start else {}),
    }
    teacher = None
    if ckpt is not None and options.distil:
        teacher = load_model(spec, ckpt, image_size=splits.preprocessing.shape).module
    run = where.run(record)
    with console.progress("training") as update:
        result = train(
            loaded.module,
            splits,
            config,
            teacher=teacher,
            distil=options.distil,
            device=console.device,
            run=run,
            on_step=update,
        )
    if console.first:
        write_weights(target, result.module.state_dict(), {**record, "validation_accuracy": result.best.accuracy})
    console.answer(
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
        f"wrote {target}; next: seenn convert --model {options.model} --ckpt {target}",
    )
