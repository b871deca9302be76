"""``seenn convert``: a trained classifier becomes a spiking network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import SNN_FILE, Session, data_options, model_options, output_file, usage, verb

if TYPE_CHECKING:
    from converter.config import ConvertConfig
    from converter.pipeline import ConvertedCheckpoint


@click.command()
@click.option("--model", required=True, metavar="NAME", help="timm name (resnet18, hf-hub:…), torchvision:NAME, or "
              "package.module:factory.")  # fmt: skip
@click.option("--ckpt", type=click.Path(dir_okay=False), help="Trained weights: .pth or .safetensors.")
@model_options
@data_options
@click.option("--recipe", type=click.Choice(["max", "percentile", "mmse"]), default="mmse", show_default=True,
              help="How thresholds are chosen.")  # fmt: skip
@click.option("--percentile", "q", type=click.FloatRange(0, 100, min_open=True), help="For --recipe percentile.  "
              "[default: 99.9]")  # fmt: skip
@click.option("--per-channel/--per-layer", default=True, show_default=True, help="One threshold a channel or a site.")
@click.option("--neuron", type=click.Choice(["if", "burst", "signed"]), default="signed", show_default=True,
              help="Binary; several spikes a step; or able to take spikes back.")  # fmt: skip
@click.option("--levels", type=click.IntRange(1, 127), help="Most spikes a step.  [default: 4; if: 1]")
@click.option("--correction", type=click.Choice(["none", "bias", "potential"]), default="potential",
              show_default=True, help="Cancels each channel's mean error: current or initial charge.")  # fmt: skip
@click.option("--timesteps", "-T", type=click.IntRange(1, 4096), default=8, show_default=True, help="T to convert for.")
@click.option("--calibration-images", type=click.IntRange(min=1), help="How many.  [default: 512, or all]")
@click.option("--check-images", type=click.IntRange(min=1), default=1000, show_default=True,
              help="Held-out images that compare ANN and SNN.")  # fmt: skip
@click.option("--silent-channels", type=click.Choice(["borrow", "refuse"]), default="borrow", show_default=True,
              help="Channels never active in calibration: borrow the site's largest threshold, or refuse.")  # fmt: skip
@click.option("-o", "--output", default=SNN_FILE, show_default=True, help="The spiking network.")
@verb
def convert(session: Session, model: str, ckpt: str | None, output: str, **options: Any) -> None:
    """Convert a trained classifier into a spiking network, and check it against the original.

    Thresholds come from the calibration split, the comparison from the exit split; the test split is not
    touched. Without --ckpt or --pretrained the weights are random, which is refused.
    """
    target = output_file(output)
    if ckpt is None and not options["pretrained"]:
        raise click.UsageError("give the trained weights with --ckpt FILE, or --pretrained to download them")
    from converter.load import ModelSpec, load_model, parse_model_kwargs
    from converter.pipeline import convert_checkpoint
    from seenn.checkpoint import save
    from seenn.recorded import load_recorded_data
    from seenn.weights import read_weights

    with usage():
        spec = ModelSpec(
            name=model,
            kwargs=parse_model_kwargs(options["model_kwargs"]),
            num_classes=options["num_classes"],
            in_chans=options["in_chans"],
            stem=options["stem"],
            pretrained=options["pretrained"],
        )
        config = _config(options)
    loaded = load_model(spec, ckpt)
    splits = load_recorded_data(
        read_weights(Path(ckpt)).record if ckpt else {},
        loaded.preprocessing,
        spec=options["data"],
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"],
    )
    source = {"file": Path(ckpt).name} if ckpt else {}
    with session.progress("calibrating sites") as update:
        seen: list[str] = []

        def progress(site: str, total: int) -> None:
            seen.append(site)
            update(len(seen), total)

        result = convert_checkpoint(
            loaded,
            splits,
            config,
            calibration_images=options["calibration_images"],
            check_images=options["check_images"],
            device=session.device,
            seed=session.seed,
            source=source,
            progress=progress,
        )
    save(target, result.checkpoint)
    session.answer({**result.to_json(), "output": str(target)}, _summary(result, target))


def _config(options: dict[str, Any]) -> ConvertConfig:
    from converter.config import RECIPES, ConvertConfig, NeuronSpec

    name, q = options["recipe"], options["q"]
    if q is not None and name != "percentile":
        raise ValueError(f"--percentile goes with --recipe percentile, not with {name}")
    extra = {} if q is None else {"q": q}
    return ConvertConfig(
        recipe=RECIPES[name](per_channel=options["per_channel"], **extra),
        neuron=NeuronSpec.of(options["neuron"], options["levels"]),
        correction=options["correction"],
        timesteps=options["timesteps"],
        silent_channels=options["silent_channels"],
    )


def _summary(result: ConvertedCheckpoint, target: Path) -> str:
    check, conversion = result.check, result.conversion
    worst = max(check.relative_error, key=lambda site: check.relative_error[site])
    per_step = "  ".join(f"t={t}: {100 * a:.2f}" for t, a in enumerate(check.accuracy_per_timestep, 1) if _shown(t))
    lines = [
        f"{len(conversion.sites)} activation sites, {len(conversion.network.sites)} neurons; graph equals the source "
        f"within {conversion.float64_difference:.0e} (float64)",
        f"accuracy on {check.samples} held-out images (%): ANN {100 * (check.ann_accuracy or 0):.2f}   SNN {per_step}",
        f"largest error of a site: {check.relative_error[worst]:.3f} at {worst}",
    ]
    if check.diverged:
        lines.append(
            f"WARNING: from {check.diverged} on the spikes no longer follow the ANN (relative error above 1): "
            "try --neuron signed, more --timesteps, or more --calibration-images"
        )
    lines.append(f"wrote {target}; next: seenn calibrate-exit --threshold 0.95")
    return "\n".join(lines)


def _shown(t: int) -> bool:
    return t & (t - 1) == 0
