"""Options that every training command shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cli.errors import usage
from cli.options import (
    AT_ONCE,
    COUNT,
    FOLDER,
    FRACTION,
    POSITIVE,
    PROBABILITY,
    SHARE,
    FiniteRange,
    Integer,
    given,
    option,
)

if TYPE_CHECKING:
    from seenn.data import DataSplits
    from seenn.training import Run, TrainConfig


def save_memory_option() -> Any:
    """``--save-memory``."""
    return option("Compute steps anew in the backward pass instead of remembering them.")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Optimiser, averaging and precision."""

    epochs: float | None = option(
        "Passes over the train split; 0.5 is half of one.  [default: 20; train-ann 10; finetune 1]", type=POSITIVE
    )
    batch_size: int = option("Images in a step, over all processes.", type=AT_ONCE, default=64)
    opt: Literal["sgd", "adamw"] = option("Optimiser.", default="sgd")
    lr: float | None = option(
        "Peak rate.  [default: 0.1; train-ann --ckpt 0.02; train-policy 0.01; finetune 0.05, or 0.004 where neurons "
        "fire several times a step]",
        metavar="RATE",
        type=POSITIVE,
    )
    weight_decay: float = option("Of kernels.", type=FiniteRange(0), default=5e-4)
    warmup: float = option("Of all steps; then a cosine to 0.", metavar="FRACTION", type=FRACTION, default=0.2)
    ema: float | None = option("Average the weights, and keep the averages.", metavar="DECAY", type=PROBABILITY)
    amp: bool = option("bfloat16 autocast.")
    validation_images: int | None = option(
        "Of the calibration split, to choose the epoch on.  [default: all]", type=COUNT
    )

    def config(self, base: TrainConfig, *, seed: int) -> TrainConfig:
        """``base`` with what the options say. Wrong values are wrong usage."""
        with usage():
            optim = replace(
                base.optim,
                opt=self.opt,
                weight_decay=self.weight_decay,
                warmup_fraction=self.warmup,
                **given(self, "lr"),
            )
            chosen = given(self, "epochs", "batch_size", "ema", "amp", "validation_images")
            return replace(base, optim=optim, seed=seed, **chosen)


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """Where the run is kept."""

    run_dir: str | None = option("Keep metrics, curves and the state there.", type=FOLDER)
    resume: bool = option("Continue the run in --run-dir where it stopped.")
    save_every: int = option("Steps between two saved states.", type=COUNT, default=100)
    tensorboard: bool = option("Also write TensorBoard events into --run-dir.")

    def __post_init__(self) -> None:
        if self.run_dir is None and (self.resume or self.tensorboard):
            needs = "--resume" if self.resume else "--tensorboard"
            raise ValueError(f"{needs} needs the run's folder: --run-dir DIR")

    def run(self, config: Mapping[str, Any], *parts: str) -> Run | None:
        """The run in ``--run-dir``, or the folder ``parts`` in it; None without.

        ``config`` is all that determines the outcome.
        """
        from seenn.training import Run

        if self.run_dir is None:
            return None
        kept = given(self, "resume", "save_every", "tensorboard")
        return Run(folder=Path(self.run_dir, *parts), config=config, **kept)


@dataclass(frozen=True, kw_only=True)
class AugmentOptions:
    """Mirroring and shifts, and timm's augmentations under the names of its training script."""

    flip: bool | None = option("Mirror half of the images.  [default: as the classes allow]", name="--flip/--no-flip")
    shift: int | None = option(
        "Move images by at most so many, up, down, left and right.  [default: by their height]",
        metavar="PIXELS",
        type=Integer(0),
    )
    aa: str | None = option("timm's AutoAugment policy: rand-m9-mstd0.5, augmix-m3-w3, …", metavar="POLICY")
    reprob: float = option("Probability of erasing a rectangle.", metavar="P", type=SHARE, default=0.0)
    mixup: float = option("0: no mixup.", metavar="ALPHA", type=FiniteRange(0), default=0.0)
    cutmix: float = option("0: no CutMix.", metavar="ALPHA", type=FiniteRange(0), default=0.0)

    def add(self, config: TrainConfig, splits: DataSplits) -> TrainConfig:
        """``config`` with these augmentations, on batches of ``splits``.

        Wrong usage: a policy that timm does not know, or mixing within an odd batch.
        """
        config = replace(config, augment=replace(config.augment, **given(self, "flip", "shift")))
        if not (self.aa or self.reprob or self.mixup or self.cutmix):
            return config
        from converter.augment import TimmAugment
        from seenn.data import Preprocessing

        with usage():
            if not isinstance(splits.preprocessing, Preprocessing):
                raise ValueError("--aa, --reprob, --mixup and --cutmix change pictures, and the data are numbers")
            if (self.mixup or self.cutmix) and config.batch_size % 2:
                raise ValueError(
                    f"--mixup and --cutmix mix images in pairs: --batch-size must be even, got {config.batch_size}"
                )
            transform = TimmAugment(
                preprocessing=splits.preprocessing,
                num_classes=splits.num_classes,
                policy=self.aa,
                erase=self.reprob,
                mixup=self.mixup,
                cutmix=self.cutmix,
            )
        return replace(config, transform=transform)
