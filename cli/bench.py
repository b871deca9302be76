"""``seenn bench``: how fast, beside the ANN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.common import Console, command, text_table
from cli.groups import (
    COUNT,
    FILE,
    FOLDER,
    DataOptions,
    EngineOptions,
    ModelOptions,
    SnnFile,
    output_folder,
    timesteps_option,
)
from cli.options import Integer, option

if TYPE_CHECKING:
    from torch import nn

    from converter.load import ModelSpec
    from seenn.data import DataSplits
    from seenn.runtime import Engine
    from seenn.snn import SNN


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What is measured, how often, and beside what."""

    ann: str | None = option("The ANN to compare with.  [default: the one that SNN stands for]", metavar="MODEL")
    ckpt: str | None = option("Weights of --ann.", type=FILE)
    timesteps: int | None = timesteps_option("as recorded")
    slots: int = option("Images at once.", type=COUNT, default=64)
    limit: int = option("Test images.", type=Integer(64), default=512)
    repeats: int = option("Runs of every timing.", type=COUNT, default=5)
    threads: int | None = option("For every contender.  [default: as torch finds]", type=COUNT)
    per_site: bool = option("Also where the time of a step goes.")
    per_layer: int | None = option(
        "Also what int8 costs in each layer alone: accuracy and error of the scores, on N test images.", type=COUNT
    )
    plots: str | None = option("Draw speed.png and growth.png there.", type=FOLDER)

    def __post_init__(self) -> None:
        if self.ann is None and self.ckpt is not None:
            raise ValueError("--ckpt gives the weights of --ann: name the model too")


@command("Speed beside the ANN: ratios, latency, profile.")
def bench(
    console: Console,
    file: SnnFile,
    options: BenchOptions,
    model: ModelOptions,
    how: EngineOptions,
    data: DataOptions,
) -> None:
    """Measure SNN (default: snn.safetensors) beside its ANN in torch and onnxruntime, and OpenVINO if it is there.

    Contenders run in turn on test images; ratios are of medians, and of the engine that --engine names. Nothing else
    should run meanwhile.
    """
    folder = None if options.plots is None else output_folder(options.plots, "--plots")
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
    from seenn.errors import UnsupportedError
    from seenn.exits import FixedExit
    from seenn.files import make_folder

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    snn = file.load().to(console.device)
    network, steps = snn.network, options.timesteps or snn.timesteps
    splits = data.splits(snn.manifest, snn.preprocessing)
    if splits.test.is_sequence:
        raise UnsupportedError(f"bench measures networks on images, and {file.snn} runs on one frame a timestep")
    snn.check_split(splits.test, use="test")
    engines, notes = _engines(console, snn, how, steps, int8=bool(options.per_layer))
    main = next(iter(engines.values()))
    anns = []
    if options.ann is not None or network.has_analog:
        module = (
            network.analog()
            if options.ann is None
            else _given_ann(console, model.spec(options.ann), options.ckpt, splits)
        )
        anns = ann_contenders(module, splits.calibration.batch(limit=64).inputs, console.device)
    else:
        notes.append("no ANN: this network has none, name one with --ann")
    batch = splits.test.batch(limit=options.limit)
    images, labels = batch.inputs, splits.test.labels[: options.limit]
    sites = profile_sites(main, network, images) if options.per_site else []
    found = run_bench(
        engines,
        anns,
        snn.policy or FixedExit(),
        steps,
        images,
        labels,
        slots=options.slots,
        repeats=options.repeats,
        say=console.say,
    )
    result = {
        "network": Path(file.snn).name,
        "machine": this_machine().to_json(),
        "samples": len(labels),
        **found.to_json(),
        "notes": [*found.notes, *notes],
    }
    parts = [text_table([("ratio", "value"), *((k, f"{v:.3f}") for k, v in found.ratios.items())], right=(1,))]
    rows = [("contender", "accuracy %", "p50 ms", "images/s")]
    for name in found.latency_ms:
        accuracy = found.accuracy.get(name, found.accuracy.get(f"{name} with exits", 0.0))
        rate = max(found.images_per_second[name].values())
        rows.append((name, f"{100 * accuracy:.2f}", f"{found.latency_ms[name][0]:.2f}", f"{rate:.1f}"))
    parts.append("\n" + text_table(rows, right=(1, 2, 3)))
    if options.per_site:
        result["per_site"] = [site.to_json() for site in sites]
        table = [("computes", "ms/image", "share %", "MACs", "spike rate")]
        for site in sites:
            spikes = "" if site.spike_rate is None else f"{site.spike_rate:.3f}"
            table.append((site.name, f"{site.milliseconds:.3f}", f"{100 * site.share:.1f}", f"{site.macs:,}", spikes))
        parts.append("\n" + text_table(table, right=(1, 2, 3, 4)))
    if options.per_layer:
        losses = layer_losses(
            network,
            images[: options.per_layer],
            labels[: options.per_layer],
            steps,
            snn.preprocessing,
            section=snn.sections.get("int8"),
            say=console.say,
        )
        result["per_layer"] = [loss.to_json() for loss in losses]
        table = [("int8 in", "bits", "weights %", "scores %", "points lost")]
        for loss in losses:
            weights = "" if loss.weight_error is None else f"{100 * loss.weight_error:.3f}"
            bits = "" if loss.bits is None else str(loss.bits)
            table.append((loss.layer, bits, weights, f"{100 * loss.score_error:.3f}", f"{loss.points_lost:+.2f}"))
        parts.append("\n" + text_table(table, right=(1, 2, 3, 4)))
    if folder is not None:
        make_folder(folder)
        subject = f"{Path(file.snn).name}, {len(labels)} test images"
        plot_speed(found.speed_and_accuracy, subject, folder / "speed.png")
        plot_growth([found.growth], subject, folder / "growth.png")
    for note in result["notes"]:
        console.say(note)
    console.answer(result, *parts)


def _engines(
    console: Console, snn: SNN, how: EngineOptions, timesteps: int, *, int8: bool
) -> tuple[dict[str, Engine], list[str]]:
    """The engine that is asked for first, then those that it is compared with; and notes on what is left out.

    Raises:
        UnsupportedError: the one that is asked for, or int8 where its layers are, cannot run this network.
    """
    from seenn.errors import UnsupportedError

    first = how.make(console, snn, timesteps)
    engines, notes = {first.name: first}, []
    for name in ("int8", "float32", "reference") if int8 else ("float32", "reference"):
        if name in engines:
            continue
        try:
            engines[name] = snn.make_engine(name, timesteps=timesteps)
        except UnsupportedError as error:
            if name == "int8":
                raise
            notes.append(f"{name} is left out: {error}")
    if console.device.type != "cpu":
        notes.append("onnxruntime and OpenVINO are left out: they compute on the CPU only")
    return engines, notes


def _given_ann(console: Console, spec: ModelSpec, ckpt: str | None, splits: DataSplits) -> nn.Module:
    """The model of ``--ann``, with its normalisation folded as in the network's own twin where that can be done."""
    from converter import canonical_graph
    from converter.load import load_model
    from seenn.errors import UnsupportedError

    module: nn.Module = load_model(spec, ckpt).module
    try:
        return canonical_graph(module, splits.calibration.batch(limit=2).inputs, analog_islands=True)[0]
    except UnsupportedError:
        console.say(f"{spec.name} is run as it is, without folding its normalisation")
        return module
