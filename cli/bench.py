"""``seenn bench``: how fast, beside the ANN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.common import Console, command, read_snn, text_table
from cli.groups import COUNT, FILE, FOLDER, DataOptions, ModelOptions, snn_argument, timesteps_option
from cli.options import option

if TYPE_CHECKING:
    from torch import nn

    from converter.load import ModelSpec
    from seenn.data import DataSplits


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, how often, and beside what."""

    snn: str = snn_argument()
    ann: str | None = option(
        "--ann", metavar="MODEL", help="The ANN to compare with.  [default: the one that SNN stands for]"
    )
    ckpt: str | None = option("--ckpt", metavar="FILE", type=FILE, help="Weights of --ann.")
    timesteps: int | None = timesteps_option("as recorded")
    slots: int = option("--slots", metavar="N", type=COUNT, default=64, help="Images at once.")
    limit: int = option("--limit", metavar="N", type=click.IntRange(min=64), default=512, help="Test images.")
    repeats: int = option("--repeats", metavar="N", type=COUNT, default=5, help="Runs of every timing.")
    threads: int | None = option(
        "--threads", metavar="N", type=COUNT, help="For every contender.  [default: as torch finds]"
    )
    per_site: bool = option("--per-site", help="Also where the time of a step goes.")
    per_layer: int | None = option(
        "--per-layer",
        metavar="N",
        type=COUNT,
        help="Also what int8 costs in each layer alone: accuracy and error of the scores, on N test images.",
    )
    plots: str | None = option("--plots", metavar="FOLDER", type=FOLDER, help="Draw speed.png and growth.png there.")

    def __post_init__(self) -> None:
        if self.ann is None and self.ckpt is not None:
            raise ValueError("--ckpt gives the weights of --ann: name the model too")


@command("Speed beside the ANN: ratios, latency, profile.")
def bench(console: Console, options: BenchOptions, model: ModelOptions, data: DataOptions) -> None:
    """Measure SNN (default: snn.safetensors) beside its ANN in torch and onnxruntime, and OpenVINO if it is there.

    Contenders run in turn on test images; ratios are of medians. Nothing else should run meanwhile.
    """
    import torch

    from seenn.analysis.bench import (
        ann_contenders,
        layer_losses,
        plot_growth,
        plot_speed,
        profile_sites,
        run_bench,
        this_machine,
    )
    from seenn.exits import FixedExit
    from seenn.runtime import make_engine
    from seenn.runtime.kernels.fused import FusedEngine

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    checkpoint = read_snn(options.snn)
    splits = data.splits(checkpoint.manifest, checkpoint.preprocessing)
    network, steps = checkpoint.network, options.timesteps or checkpoint.timesteps
    engines = {}
    for name in ("int8" if options.per_layer else "auto", "float32", "reference"):  # int8 says why it cannot be
        engine = make_engine(
            name,
            network,
            timesteps=steps,
            preprocessing=checkpoint.preprocessing,
            calibration=checkpoint.rounding,
        )
        engines[engine.name] = engine
    module = network.analog() if options.ann is None else _given_ann(console, model.spec(options.ann), options.ckpt, splits)
    images, labels = splits.test.images(options.limit), splits.test.labels[: options.limit]
    found = run_bench(
        engines,
        ann_contenders(module, splits.calibration.images(limit=64)),
        checkpoint.policy or FixedExit(),
        steps,
        images,
        labels,
        slots=options.slots,
        repeats=options.repeats,
        say=console.say,
    )
    result = {
        "network": Path(options.snn).name,
        "machine": this_machine().to_json(),
        "samples": len(labels),
        **found.to_json(),
    }
    parts = [text_table([("ratio", "value"), *((k, f"{v:.3f}") for k, v in found.ratios.items())], right=(1,))]
    rows = [("contender", "accuracy %", "p50 ms", "images/s")]
    for name in found.latency_ms:
        accuracy = found.accuracy.get(name, found.accuracy.get(f"{name} with exits", 0.0))
        rate = max(found.images_per_second[name].values())
        rows.append((name, f"{100 * accuracy:.2f}", f"{found.latency_ms[name][0]:.2f}", f"{rate:.1f}"))
    parts.append("\n" + text_table(rows, right=(1, 2, 3)))
    if options.per_site:
        first = next(iter(engines.values()))
        assert isinstance(first, FusedEngine)
        sites = profile_sites(first, network, images)
        result["per_site"] = [site.to_json() for site in sites]
        table = [("computes", "ms/image", "share %", "MACs", "spike rate")]
        for site in sites:
            rate_text = "" if site.spike_rate is None else f"{site.spike_rate:.3f}"
            table.append(
                (site.name, f"{site.milliseconds:.3f}", f"{100 * site.share:.1f}", f"{site.macs:,}", rate_text)
            )
        parts.append("\n" + text_table(table, right=(1, 2, 3, 4)))
    if options.per_layer:
        losses = layer_losses(
            network,
            images[: options.per_layer],
            labels[: options.per_layer],
            steps,
            checkpoint.preprocessing,
            rounding=checkpoint.rounding,
            say=console.say,
        )
        result["per_layer"] = [loss.to_json() for loss in losses]
        table = [("int8 in", "bits", "weights %", "scores %", "points lost")]
        for loss in losses:
            weights = "" if loss.weight_error is None else f"{100 * loss.weight_error:.3f}"
            bits = "" if loss.bits is None else str(loss.bits)
            table.append((loss.layer, bits, weights, f"{100 * loss.score_error:.3f}", f"{loss.points_lost:+.2f}"))
        parts.append("\n" + text_table(table, right=(1, 2, 3, 4)))
    if options.plots:
        folder = Path(options.plots)
        folder.mkdir(parents=True, exist_ok=True)
        subject = f"{Path(options.snn).name}, {len(labels)} test images"
        plot_speed(found.speed_and_accuracy, subject, folder / "speed.png")
        plot_growth([found.growth], subject, folder / "growth.png")
    for note in found.notes:
        console.say(note)
    console.answer(result, *parts)


def _given_ann(console: Console, spec: ModelSpec, ckpt: str | None, splits: DataSplits) -> nn.Module:
    """The model of ``--ann``, with its normalisation folded as in the network's own twin where that can be done."""
    from converter import canonical_graph
    from converter.load import load_model
    from seenn.errors import UnsupportedError

    module: nn.Module = load_model(spec, ckpt).module
    try:
        return canonical_graph(module, splits.calibration.images(limit=2), analog_islands=True)[0]
    except UnsupportedError:
        console.say(f"{spec.name} is run as it is, without folding its normalisation")
        return module
