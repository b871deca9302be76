"""``seenn convert``: a trained classifier becomes a spiking network."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import Session, usage, verb
from cli.options import SNN_FILE, TIMESTEPS, FiniteRange, data_options, model_options, model_spec, output_file

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from converter.config import ConvertConfig
    from converter.pipeline import ConvertedCheckpoint


@click.command(short_help="Turn a trained classifier into a spiking network.")
@click.option(
    "--model",
    required=True,
    metavar="NAME",
    help="timm name (resnet18, hf-hub:…), torchvision:NAME, package.module:factory, or a .onnx file.",
)
@click.option("--ckpt", metavar="FILE", type=click.Path(dir_okay=False), help="Trained weights: .pth or .safetensors.")
@model_options
@data_options
@click.option(
    "--recipe",
    type=click.Choice(["max", "percentile", "mmse", "qcfs"]),
    help="How thresholds are chosen.  [default: mmse; qcfs, as they were learned, for a QCFS network]",
)
@click.option(
    "--percentile",
    "q",
    metavar="Q",
    type=FiniteRange(0, 100, min_open=True),
    help="For --recipe percentile.  [default: 99.9]",
)
@click.option("--per-channel/--per-layer", default=True, show_default=True, help="One threshold a channel or a site.")
@click.option(
    "--neuron",
    type=click.Choice(["if", "burst", "signed"]),
    help="Binary; several spikes a step; or able to take spikes back.  [default: signed; if for a QCFS network, and "
    "for cos and srp]",
)
@click.option("--levels", metavar="N", type=click.IntRange(1, 127), help="Most spikes a step.  [default: 4; if: 1]")
@click.option(
    "--correction",
    type=click.Choice(["none", "bias", "potential", "joint", "cos", "srp"]),
    help="Cancels each channel's mean error by current or initial charge, or each neuron's by a pre-pass over the "
    "image (cos, srp).  [default: potential; none for a QCFS network]",
)
@click.option(
    "--prepass",
    metavar="N",
    type=click.IntRange(1, 4096),
    help="Steps of the pre-pass of cos and srp, on top of T.  [default: 8 for them, else none]",
)
@click.option(
    "--timesteps",
    "-T",
    type=TIMESTEPS,
    metavar="T",
    help="T to convert for.  [default: 8; as many as it has levels for a QCFS network]",
)
@click.option(
    "--calibration-images",
    metavar="N",
    type=click.IntRange(min=1),
    help="How many, at least 16.  [default: 512, or all]",
)
@click.option(
    "--check-images",
    metavar="N",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Held-out images that compare ANN and SNN.",
)
@click.option(
    "--silent-channels",
    type=click.Choice(["borrow", "refuse"]),
    default="borrow",
    show_default=True,
    help="Channels never active in calibration: borrow the site's largest threshold, or refuse.",
)
@click.option(
    "--analog-islands",
    is_flag=True,
    help="Keep gates, smooth activations, normalisation and attention analog instead of refusing them.",
)
@click.option("-o", "--output", metavar="FILE", default=SNN_FILE, show_default=True, help="The spiking network.")
@verb
def convert(session: Session, model: str, ckpt: str | None, output: str, **options: Any) -> None:
    """Convert a trained classifier into a spiking network, and check it against the original.

    Thresholds come from the calibration split, the comparison from the exit split; the test split is not
    touched. Without --ckpt or --pretrained the weights are random, which is refused.
    """
    target = output_file(output, keep=ckpt)
    context = click.get_current_context()
    if ckpt is None and not options["pretrained"] and not model.endswith(".onnx"):
        raise click.UsageError("give the trained weights with --ckpt FILE, or --pretrained to download them", context)
    if ckpt is None and options["data"] is None:
        raise click.UsageError("pretrained weights do not say which data to calibrate on: name it with --data", context)
    from converter.load import load_model
    from converter.load.weights import read_weights
    from converter.pipeline import convert_checkpoint
    from seenn.checkpoint import save
    from seenn.data.recorded import check_splits, load_recorded_data

    with usage():
        spec = model_spec(model, options)
        _config(options, None)  # what the options get wrong among themselves
    loaded = load_model(spec, ckpt)
    with usage():
        config = _config(options, loaded.spec.levels)
    record = read_weights(Path(ckpt)).record if ckpt else {}
    if options["data"] is None and "data" not in record:
        log.warning("%s does not record its data: taking the digits; --data names another set", ckpt)
    splits = load_recorded_data(
        record,
        loaded.preprocessing,
        spec=options["data"],
        data_dir=options["data_dir"],
        download=options["download"],
        split_seed=options["split_seed"],
    )
    check_splits(record, splits, use="calibration")
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
    if session.first:
        save(target, result.checkpoint)
    session.answer({**result.to_json(), "output": str(target)}, _summary(result, target))


def _config(options: dict[str, Any], qcfs_levels: int | None) -> ConvertConfig:
    """What the options say, and where they say nothing the default for this kind of network."""
    from converter.config import DEFAULT_PREPASS, PREPASS, RECIPES, ConvertConfig, NeuronSpec

    default = ConvertConfig() if qcfs_levels is None else ConvertConfig.for_qcfs(qcfs_levels)
    name, q = options["recipe"] or default.recipe.name, options["q"]
    if q is not None and name != "percentile":
        raise ValueError(f"--percentile goes with --recipe percentile, not with {name}")
    extra = {} if q is None else {"q": q}
    correction = options["correction"] or default.correction
    kind = "if" if correction in PREPASS else default.neuron.kind
    return ConvertConfig(
        recipe=RECIPES[name](per_channel=options["per_channel"], **extra),
        neuron=NeuronSpec.of(options["neuron"] or kind, options["levels"]),
        correction=correction,
        prepass=options["prepass"] or (DEFAULT_PREPASS if correction in PREPASS else 0),
        timesteps=options["timesteps"] or default.timesteps,
        silent_channels=options["silent_channels"],
        analog_islands=options["analog_islands"],
    )


def _summary(result: ConvertedCheckpoint, target: Path) -> str:
    check, conversion = result.check, result.conversion
    timesteps = len(check.accuracy_per_timestep)
    per_step = [
        f"  SNN, t = {t:<4} {100 * accuracy:6.2f} %"
        for t, accuracy in enumerate(check.accuracy_per_timestep, 1)
        if t & (t - 1) == 0 or t == timesteps  # powers of two, and T
    ]
    prepass = conversion.network.prepass
    after = f", after the {prepass} steps of a pre-pass, which every figure counts on top" if prepass else ""
    lines = [
        f"{len(conversion.sites)} activation sites became {len(conversion.network.sites)} neuron sites",
        f"graph equals the source within {conversion.float64_difference:.0e} in float64",
        f"accuracy on {check.samples} held-out images{after}:",
        f"  ANN           {100 * (check.ann_accuracy or 0):6.2f} %",
        *per_step,
    ]
    if check.relative_error:
        worst = max(check.relative_error, key=lambda site: check.relative_error[site])
        lines.append(f"largest relative error of a site: {check.relative_error[worst]:.3f}, at {worst}")
    lines.append(_analog(result.checkpoint.manifest["analog"]))
    if not conversion.sites:
        lines.append("WARNING: nothing in this network spikes: all of it is analog, and it saves nothing over the ANN")
    if check.diverged:
        lines.append(
            f"WARNING: from {check.diverged} on the spikes do not follow the ANN (relative error of 1 or more):\n"
            "try --neuron signed, more --timesteps, or more --calibration-images"
        )
    lines.append(f"wrote {target}; next: seenn calibrate-exit --threshold 0.95")
    return "\n".join(lines)


def _analog(found: Mapping[str, Any]) -> str:
    """What of the network is not spikes."""
    kinds = ", ".join(sorted(set(found["nodes"].values())))
    nodes = f"{len(found['nodes'])} nodes stay analog ({kinds}); " if found["nodes"] else ""
    return (
        f"{nodes}{100 * found['share_of_macs']:.1f} % of the ANN's MACs are not replaced by spikes:\n"
        f"  {found['macs_once']:,} once an image, {found['macs_per_step']:,} in every step"
    )
