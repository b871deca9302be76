"""``seenn bench``: how fast, beside the ANN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import Session, read_snn, text_table, verb
from cli.options import SNN_FILE, TIMESTEPS, data_options, model_options, model_spec, recorded_splits

if TYPE_CHECKING:
    from torch import nn

    from converter.load import ModelSpec
    from seenn.data import DataSplits


@click.command(short_help="Speed beside the ANN: ratios, latency, profile.")
@click.argument("snn", default=SNN_FILE, type=click.Path(dir_okay=False))
@click.option("--ann", metavar="MODEL", help="The ANN to compare with.  [default: the one that SNN stands for]")
@click.option("--ckpt", metavar="FILE", type=click.Path(dir_okay=False), help="Weights of --ann.")
@model_options
@click.option(
    "--timesteps", "-T", type=TIMESTEPS, metavar="T", help="Most steps an image gets.  [default: as recorded]"
)
@click.option("--slots", metavar="N", type=click.IntRange(min=1), default=64, show_default=True, help="Images at once.")
@click.option("--limit", metavar="N", type=click.IntRange(min=64), default=512, show_default=True, help="Test images.")
@click.option(
    "--repeats", metavar="N", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of every timing."
)
@click.option(
    "--threads", metavar="N", type=click.IntRange(min=1), help="For every contender.  [default: as torch finds]"
)
@click.option("--per-site", is_flag=True, help="Also where the time of a step goes.")
@click.option(
    "--per-layer",
    metavar="N",
    type=click.IntRange(min=1),
    help="Also what int8 costs in each layer alone: accuracy and error of the scores, on N test images.",
)
@click.option(
    "--plots", metavar="FOLDER", type=click.Path(file_okay=False), help="Draw speed.png and growth.png there."
)
@data_options
@verb
def bench(
    session: Session,
    snn: str,
    ann: str | None,
    ckpt: str | None,
    timesteps: int | None,
    slots: int,
    limit: int,
    repeats: int,
    threads: int | None,
    per_site: bool,
    per_layer: int | None,
    plots: str | None,
    **options: Any,
) -> None:
    """Measure SNN (default: snn.safetensors) beside its ANN in torch and onnxruntime, and OpenVINO if it is there.

    Contenders run in turn on test images; ratios are of medians. Nothing else should run meanwhile.
    """
    if ann is None and ckpt is not None:
        raise click.UsageError("--ckpt gives the weights of --ann: name the model too")
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

    if threads is not None:
        torch.set_num_threads(threads)
    checkpoint = read_snn(snn)
    splits = recorded_splits(checkpoint, options)
    network, steps = checkpoint.network, timesteps or checkpoint.timesteps
    engines = {}
    for name in ("int8" if per_layer else "auto", "float32", "reference"):  # int8 says why it cannot be
        engine = make_engine(
            name,
            network,
            timesteps=steps,
            preprocessing=checkpoint.preprocessing,
            calibration=checkpoint.rounding,
        )
        engines[engine.name] = engine
    module = network.analog() if ann is None else _given_ann(session, model_spec(ann, options), ckpt, splits)
    images, labels = splits.test.images(limit), splits.test.labels[:limit]
    found = run_bench(
        engines,
        ann_contenders(module, splits.calibration.images(limit=64)),
        checkpoint.policy or FixedExit(),
        steps,
        images,
        labels,
        slots=slots,
        repeats=repeats,
        say=session.say,
    )
    result = {
        "network": Path(snn).name,
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
    if per_site:
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
    if per_layer:
        losses = layer_losses(
            network,
            images[:per_layer],
            labels[:per_layer],
            steps,
            checkpoint.preprocessing,
            rounding=checkpoint.rounding,
            say=session.say,
        )
        result["per_layer"] = [loss.to_json() for loss in losses]
        table = [("int8 in", "bits", "weights %", "scores %", "points lost")]
        for loss in losses:
            weights = "" if loss.weight_error is None else f"{100 * loss.weight_error:.3f}"
            bits = "" if loss.bits is None else str(loss.bits)
            table.append((loss.layer, bits, weights, f"{100 * loss.score_error:.3f}", f"{loss.points_lost:+.2f}"))
        parts.append("\n" + text_table(table, right=(1, 2, 3, 4)))
    if plots:
        folder = Path(plots)
        folder.mkdir(parents=True, exist_ok=True)
        subject = f"{Path(snn).name}, {len(labels)} test images"
        plot_speed(found.speed_and_accuracy, subject, folder / "speed.png")
        plot_growth([found.growth], subject, folder / "growth.png")
    for note in found.notes:
        session.say(note)
    session.answer(result, *parts)


def _given_ann(session: Session, spec: ModelSpec, ckpt: str | None, splits: DataSplits) -> nn.Module:
    """The model of ``--ann``, with its normalisation folded as in the network's own twin where that can be done."""
    from converter import canonical_graph
    from converter.load import load_model
    from seenn.errors import UnsupportedError

    module: nn.Module = load_model(spec, ckpt).module
    try:
        return canonical_graph(module, splits.calibration.images(limit=2), analog_islands=True)[0]
    except UnsupportedError:
        session.say(f"{spec.name} is run as it is, without folding its normalisation")
        return module
