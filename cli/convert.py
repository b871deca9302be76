"""``seenn convert``: a trained classifier becomes a spiking network."""

from __future__ import annotations

import itertools
import logging
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cli.common import Console, command, command_line
from cli.errors import usage
from cli.groups import NEURON, NOT_NEEDED, SNN_FILE, DataOptions, ModelOptions, ReportOptions, named
from cli.options import COUNT, PATH, TIMESTEPS, FiniteRange, Integer, Registered, given, option, removed
from cli.output import beside, output_file

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from seenn.core.ops import Encoder
    from seenn.snn import SNN

RECIPE = Registered("recipe", "converter.recipes", "converter.recipes:RECIPES")
CORRECTION = Registered("correction", "converter.corrections", "converter.corrections:CORRECTIONS")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What becomes of which model."""

    model: str = option(
        "timm name (resnet18, hf-hub:…), torchvision:NAME, package.module:factory, or a .onnx file.",
        required=True,
        metavar="NAME",
    )
    ckpt: str | None = option("Trained weights: a file of torch or safetensors, or its folder.", type=PATH)
    recipe: str | None = option(
        "How thresholds are chosen.  [default: mmse; qcfs, as they were learned, for a QCFS network]", type=RECIPE
    )
    percentile: float | None = option(
        "For --recipe percentile.  [default: 99.9]", metavar="Q", type=FiniteRange(0, 100, min_open=True)
    )
    per_channel: bool = option("One threshold a channel or a site.", name="--per-channel/--per-layer", default=True)
    neuron: str | None = option(
        "if: binary; burst: several spikes a step; signed: able to take spikes back.  [default: signed; if for a "
        "QCFS network, and for cos and srp]",
        type=NEURON,
    )
    levels: int | None = option("Most spikes a step.  [default: 4; if: 1]", type=Integer(1, 127))
    correction: str | None = option(
        "Cancels each channel's mean error by current or initial charge, or each neuron's by initial steps over "
        "the image (cos, srp).  [default: potential; none for a QCFS network]",
        type=CORRECTION,
    )
    prepass: int | None = option(
        "Initial steps of cos and srp, on top of T.  [default: 8 for them, else none]",
        type=Integer(1, 4096),
    )
    timesteps: int | None = option(
        "T to convert for.  [default: 8; as many as it has levels for a QCFS network]", short="-T", type=TIMESTEPS
    )
    min_agreement: float | None = option(
        "Choose --levels, --encoder-levels and --timesteps, those that are not given: the fewest spikes with which ANN "
        "and SNN agree on this share of held-out images.",
        metavar="SHARE",
        type=FiniteRange(0, 1),
    )
    max_accuracy_drop: float | None = option(
        "Likewise, by the accuracy that may be lost on held-out images, 0.005 for half a point.",
        metavar="SHARE",
        type=FiniteRange(0, 1),
    )
    memory: float | None = option(
        "GiB for values between layers; the rest goes to temporary files. Changes no result.  [default: 1, or half of "
        "what is free]",
        metavar="GIB",
        type=FiniteRange(0),
    )
    calibration_images: int | None = option("How many, at least 16.  [default: 512, or all]", type=COUNT)
    check_images: int = option("Held-out images that compare ANN and SNN.", type=COUNT, default=1000)
    silent_channels: Literal["borrow", "refuse"] = option(
        "Channels never active in calibration: borrow the site's largest threshold, or refuse.", default="borrow"
    )
    encoder_levels: int | None = option(
        "Levels of either sign of the neurons in front of what is not spikes.  [default: 15]",
        type=Integer(1, 127),
    )
    coding: Literal["rate", "differential"] | None = option(
        "What spikes carry. differential: how running means change, so that what has settled is silent; takes one "
        "initial step, and the reference engine.  [default: rate]"
    )
    strict: bool = option("Refuse anything but affine layers and integrate-and-fire neurons.")
    analog_islands: bool = removed(NOT_NEEDED)
    task: Literal["classes", "binary", "labels", "values"] | None = option(
        "What the model's scores say: binary, a logit for yes or no; labels, a logit for each; values, quantities.  "
        "[default: classes; with a sigmoid at the end binary or labels]"
    )
    force: bool = option("Convert a model that is not shown to be better than chance on held-out images.")
    output: str = option("The spiking network.", short="-o", metavar="FILE", default=SNN_FILE)

    def chosen(self, qcfs_levels: int | None) -> dict[str, Any]:
        """What the options say of a ``ConvertConfig``. Wrong values are wrong usage."""
        from converter.config import ConvertConfig
        from converter.recipes import RECIPES

        with usage():
            name = self.recipe or ConvertConfig.suited(qcfs_levels=qcfs_levels).recipe.name
            settings: dict[str, Any] = {} if self.per_channel else {"per_channel": False}
            if self.percentile is not None:
                if name != "percentile":
                    raise ValueError(f"--percentile goes with --recipe percentile, not with {name}")
                settings["q"] = self.percentile
            names = (
                "neuron",
                "levels",
                "correction",
                "timesteps",
                "silent_channels",
                "encoder_levels",
                "coding",
                "strict",
            )
            found = {"recipe": RECIPES.get(name)(**settings), "initial_steps": self.prepass, **given(self, *names)}
            ConvertConfig.suited(qcfs_levels=qcfs_levels, **found)
            return found


@command("Turn a trained classifier into a spiking network.")
def convert(
    console: Console, options: ConvertOptions, model: ModelOptions, data: DataOptions, report: ReportOptions
) -> None:
    """Convert a trained classifier into a spiking network, and check it against the original.

    Thresholds come from the calibration split, the comparison from the exit split; the test split is not
    touched. Without --ckpt or --pretrained the weights are random, which is refused.
    """
    ckpt, target = options.ckpt, output_file(options.output)
    options.chosen(None)  # what the options get wrong among themselves
    spec = model.spec(options.model)  # files that are no model say so before anybody asks for weights
    from converter.load.onnx_source import is_onnx

    with usage():
        if ckpt is None and not model.pretrained and not is_onnx(spec.name):
            raise ValueError("give the trained weights with --ckpt FILE, or --pretrained to download them")
        if ckpt is None and data.data is None:
            raise ValueError("pretrained weights do not say which data to calibrate on: name it with --data")
    from converter import convert as run
    from converter.images import refuse_few
    from converter.known import fitted
    from converter.load import load_model
    from converter.load.weights import read_weights
    from seenn.analysis.report.conversion import write_conversion
    from seenn.data import check_splits
    from seenn.errors import ModelError

    record = read_weights(ckpt).record if ckpt else {}
    if data.data is None and "data" not in record:
        log.warning("%s does not record its data: taking the digits; --data names another set", ckpt)
    own = data.splits(record, None, in_chans=model.in_chans)
    if options.calibration_images is None:
        refuse_few(own)
    loaded = load_model(spec, ckpt, image_size=own.preprocessing.shape if is_onnx(spec.name) else None)
    chosen, size = options.chosen(loaded.spec.levels), own.preprocessing.shape
    if data.input_size and loaded.input_shape not in (None, size):
        takes, got = ("×".join(map(str, shape)) for shape in (loaded.input_shape or (), size))
        raise ModelError(f"{options.model} takes {takes} alone, and --input-size says {got}: leave --input-size out")
    if loaded.preprocessing is None:
        base, likely = fitted(loaded, own.preprocessing), loaded.suggestion
        library = "as the model's library has it" if likely is not None and likely.mean == base.mean else ""
        splits = data.prepared(own, base, model.in_chans, source=library)
    else:
        splits = data.prepared(own.with_preprocessing(loaded.preprocessing), loaded.preprocessing, model.in_chans)
    check_splits(record, splits, use="calibration")
    with console.progress("calibrating sites") as update:
        done = itertools.count()
        snn = run(
            loaded,
            splits,
            weights=ckpt,
            preprocessing=None if splits.guess else splits.preprocessing,
            force=options.force,
            memory=None if options.memory is None else int(options.memory * 2**30),
            min_agreement=options.min_agreement,
            max_accuracy_drop=options.max_accuracy_drop,
            task=options.task,
            calibration_images=options.calibration_images,
            check_images=options.check_images,
            device=console.device,
            seed=console.seed,
            progress=lambda site, total: update(next(done) % total + 1, total),
            **chosen,
        )
    if console.first:
        snn.save(target)
    check, summary = snn.manifest["check"], _summary(snn)
    figures = ("ann_accuracy", "accuracy_per_timestep", "agreement", "output_error", "diverged", "float64_difference")
    records = ("task", "outputs", "per_site", "conversion", "goal", "source", "data")
    network, encoders = snn.network, len(_encoders(snn))
    result = {
        "sites": len(network.sites) - encoders,
        "encoders": encoders,
        "neurons": sum(math.prod(network.shapes[site]) for site in network.sites),
        **{name: check[name] for name in figures},
        "check_split": check["split"],
        "check_samples": check["samples"],
        **snn.manifest["spiking"],
        **{name: snn.manifest[name] for name in records if name in snn.manifest},
        "output": str(target),
    }
    page = Path(report.report)
    if console.first:
        with beside(target):
            page = write_conversion(snn, result, summary, target.name, command_line(), report.report)
    exits = snn.task in ("classes", "binary")
    following = f"calibrate-exit{named(target)} --threshold 0.95" if exits else f"predict {target} SAMPLES"
    console.answer({**result, "report": str(page)}, *map(_wrapped, summary), f"wrote {target}; next: seenn {following}")
    report.show(console, page)


def significant_loss(check: Mapping[str, Any]) -> float | None:
    """Accuracy that the SNN loses at T, a fraction; None where chance explains it at 99 %, or there are no classes.

    McNemar's test on the images where only one of both is right, of which there are at most as many as answers differ:
    the statistic is never larger than with their true number.
    """
    if check["ann_accuracy"] is None or not check["accuracy_per_timestep"]:
        return None
    lost = float(check["ann_accuracy"] - check["accuracy_per_timestep"][-1])
    differ = check["samples"] * (1 - check["agreement"])
    return lost if differ > 0 and check["samples"] * lost > 2.33 * math.sqrt(differ) else None


def _wrapped(text: str) -> str:
    """For a terminal of 80 columns."""
    wrap = textwrap.TextWrapper(80, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrap.fill, text.splitlines()))


def _encoders(snn: SNN) -> list[Encoder]:
    from seenn.core.ops import Encoder

    return [op for op in snn.network.graph.ops if isinstance(op, Encoder)]


def _summary(snn: SNN) -> list[str]:
    """What became of the model, line by line."""
    sites, check, spiking = (snn.manifest[name] for name in ("per_site", "check", "spiking"))
    accuracies, steps = check["accuracy_per_timestep"], snn.network.initial_steps
    after = f", after {steps} initial steps, which every figure counts on top" if steps else ""
    encoders = _encoders(snn)
    lines = [
        f"{len(sites) - len(encoders)} activation sites became {len(snn.network.sites) - len(encoders)} neuron sites",
        f"graph equals the source within {check['float64_difference']:.0e} in float64",
    ]
    if (head := snn.manifest["outputs"]["head"]) is not None:
        lines.append(f"the final {head} is left out: the network returns logits")
    if check["ann_accuracy"] is not None:
        shown = {"ANN": check["ann_accuracy"]}
        for t, accuracy in enumerate(accuracies, 1):
            if t & (t - 1) == 0 or t == len(accuracies):  # powers of two, and T
                shown[f"SNN, t = {t}"] = accuracy
        rows = (f"\n  {name:<13} {100 * accuracy:6.2f} %" for name, accuracy in shown.items())
        lines.append(f"accuracy on {check['samples']} held-out images{after}:{''.join(rows)}")
    elif check["output_error"] is not None:
        same = "" if check["agreement"] is None else f", same answers {100 * check['agreement']:.2f} %"
        lines.append(
            f"{snn.task} on {check['samples']} held-out samples{after}: relative error of the output "
            f"{check['output_error']:.3f}{same}"
        )
    if goal := snn.manifest.get("goal"):
        picked = snn.manifest["conversion"]
        lines.append(
            f"picked T = {picked['timesteps']}, {picked['neuron']['max_spikes']} levels, of encoders "
            f"{picked['encoder_levels']}: of the choices that reach what was asked on these samples, the one with the "
            f"fewest spikes, {len(goal['tried'])} tried; on others it may miss it"
        )
    if sites:
        clipped = max(sites, key=lambda site: float(site["clipped_energy"]))
        lines.append(
            f"most clipped on images that its range was not chosen on: {100 * clipped['clipped_unseen']:.2g} % of the "
            f"values, {100 * clipped['clipped_energy']:.2g} % of their energy, at {clipped['site']}"
        )
        worst = max(sites, key=lambda site: float(site["relative_error"]))
        lines.append(f"largest relative error of a site: {worst['relative_error']:.3f}, at {worst['site']}")
    if encoders:
        lines.insert(1, f"{len(encoders)} encoders carry other values: up to ±{encoders[0].max_spikes} spikes a step")
    lines.append(
        f"{100 * spiking['spiking_mac_share']:.1f} % of the MACs behind the first layers are fed by spikes; "
        f"analog MACs: {spiking['macs_once']:,} once an image, {spiking['macs_per_step']:,} in every step"
    )
    if spiking["events"] is not None:
        figures = (f"{spiking[name]:,.0f} {name}" for name in ("events", "popcount", "spikes"))
        lines.append(f"in {len(accuracies) or snn.timesteps} steps an image takes {', '.join(figures)}")
    if means := spiking["running_means"]:
        lines.append(f"{len(means)} nodes act on running means: {', '.join(sorted(set(means.values())))}")
    if not sites:
        lines.append("WARNING: nothing in this network spikes, and it saves nothing over the ANN")
    if (lost := significant_loss(check)) is not None:
        lines.append(
            f"WARNING: after {len(accuracies)} steps the SNN is {100 * lost:.1f} points below its ANN, more than "
            "chance explains: try more --timesteps or --levels, or state --min-agreement"
        )
    if check["diverged"]:
        lines.append(
            f"WARNING: from {check['diverged']} on the spikes do not follow the ANN (relative error of 1 or more): "
            "try --neuron signed, more --timesteps, or more --calibration-images"
        )
    return lines
