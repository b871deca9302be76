"""Options and steps that every training verb shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.options import FiniteRange

if TYPE_CHECKING:
    from seenn.data import DataSplits
    from seenn.training import Run, TrainConfig

Command = TypeVar("Command", bound=Callable[..., Any])
UNIT = FiniteRange(0, 1, min_open=True, max_open=True)


def training_options(*, epochs: float, lr: str) -> Callable[[Command], Command]:
    """Optimiser, averaging, precision and the run's folder; ``lr`` says what the default rate is."""
    options = (
        click.option(
            "--epochs",
            metavar="N",
            type=FiniteRange(0, min_open=True),
            default=epochs,
            show_default=True,
            help="Passes over the train split; 0.5 is half of one.",
        ),
        click.option(
            "--batch-size",
            metavar="N",
            type=click.IntRange(min=1),
            default=64,
            show_default=True,
            help="Images in a step, over all processes.",
        ),
        click.option("--opt", type=click.Choice(["sgd", "adamw"]), default="sgd", show_default=True, help="Optimiser."),
        click.option("--lr", metavar="RATE", type=FiniteRange(0, min_open=True), help=f"Peak rate.  [default: {lr}]"),
        click.option(
            "--weight-decay", metavar="X", type=FiniteRange(0), default=5e-4, show_default=True, help="Of kernels."
        ),
        click.option(
            "--warmup",
            metavar="FRACTION",
            type=FiniteRange(0, 1, max_open=True),
            default=0.2,
            show_default=True,
            help="Of all steps; then a cosine to 0.",
        ),
        click.option("--ema", metavar="DECAY", type=UNIT, help="Average the weights, and keep the averages."),
        click.option("--amp", is_flag=True, help="bfloat16 autocast."),
        click.option(
            "--validation-images",
            metavar="N",
            type=click.IntRange(min=1),
            help="Of the calibration split, to choose the epoch on.  [default: all]",
        ),
        click.option(
            "--run-dir",
            "folder",
            metavar="DIR",
            type=click.Path(file_okay=False),
            help="Keep metrics, curves and the state there.",
        ),
        click.option("--resume", is_flag=True, help="Continue the run in --run-dir where it stopped."),
        click.option(
            "--save-every",
            metavar="N",
            type=click.IntRange(min=1),
            default=100,
            show_default=True,
            help="Steps between two saved states.",
        ),
        click.option("--tensorboard", is_flag=True, help="Also write TensorBoard events into --run-dir."),
    )

    def add(function: Command) -> Command:
        for option in reversed(options):
            function = option(function)
        return function

    return add


save_memory = click.option(
    "--save-memory", is_flag=True, help="Compute steps anew in the backward pass instead of remembering them."
)


def augment_options(function: Command) -> Command:
    """Mirroring and shifts, and timm's augmentations under the names of its training script."""
    for option in reversed(
        (
            click.option(
                "--flip/--no-flip", default=None, help="Mirror half of the images.  [default: as the classes allow]"
            ),
            click.option(
                "--shift",
                metavar="PIXELS",
                type=click.IntRange(min=0),
                help="Move images by at most so many, up, down, left and right.  [default: by their height]",
            ),
            click.option("--aa", metavar="POLICY", help="timm's AutoAugment policy: rand-m9-mstd0.5, augmix-m3-w3, …"),
            click.option(
                "--reprob",
                metavar="P",
                type=FiniteRange(0, 1),
                default=0.0,
                show_default=True,
                help="Probability of erasing a rectangle.",
            ),
            click.option(
                "--mixup", metavar="ALPHA", type=FiniteRange(0), default=0.0, show_default=True, help="0: no mixup."
            ),
            click.option(
                "--cutmix", metavar="ALPHA", type=FiniteRange(0), default=0.0, show_default=True, help="0: no CutMix."
            ),
        )
    ):
        function = option(function)
    return function


def with_augmentation(config: TrainConfig, options: Mapping[str, Any], splits: DataSplits) -> TrainConfig:
    """``config`` with what ``augment_options`` ask for, on batches of ``splits``; around this goes ``usage()``.

    Raises:
        ValueError: a policy that timm does not know, or mixing within an odd batch.
    """
    given = {name: options[name] for name in ("flip", "shift") if options[name] is not None}
    config = replace(config, augment=replace(config.augment, **given))
    if not any(options[name] for name in ("aa", "reprob", "mixup", "cutmix")):
        return config
    from converter.augment import TimmAugment

    if (options["mixup"] or options["cutmix"]) and config.batch_size % 2:
        raise ValueError(
            f"--mixup and --cutmix mix images in pairs: --batch-size must be even, got {config.batch_size}"
        )
    transform = TimmAugment(
        preprocessing=splits.preprocessing,
        num_classes=splits.num_classes,
        policy=options["aa"],
        erase=options["reprob"],
        mixup=options["mixup"],
        cutmix=options["cutmix"],
    )
    return replace(config, transform=transform)


def train_config(base: TrainConfig, options: Mapping[str, Any], *, seed: int, **more: Any) -> TrainConfig:
    """``base`` with what the options say; around this goes ``usage()``.

    Raises:
        ValueError: an option is out of range, or needs ``--run-dir``.
    """
    if options["folder"] is None and (options["resume"] or options["tensorboard"]):
        needs = "--resume" if options["resume"] else "--tensorboard"
        raise ValueError(f"{needs} needs the run's folder: --run-dir DIR")
    optim = replace(
        base.optim,
        opt=options["opt"],
        weight_decay=options["weight_decay"],
        warmup_fraction=options["warmup"],
        **({} if options["lr"] is None else {"lr": options["lr"]}),
    )
    names = ("epochs", "batch_size", "ema", "amp", "validation_images")
    return replace(base, optim=optim, seed=seed, **{name: options[name] for name in names}, **more)


def training_run(options: Mapping[str, Any], config: Mapping[str, Any]) -> Run | None:
    """The run's folder, or None without ``--run-dir``; ``config`` is all that determines the outcome."""
    from seenn.training import Run

    if options["folder"] is None:
        return None
    return Run(
        folder=Path(options["folder"]),
        config=config,
        resume=options["resume"],
        save_every=options["save_every"],
        tensorboard=options["tensorboard"],
    )
