"""``seenn bench``: how fast, beside the ANN."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.common import Console, command, command_line, table_cells, text_table
from cli.groups import DataOptions, ModelOptions, ReportOptions, SnnFile, StepOptions
from cli.options import AT_ONCE, COUNT, PATH, Integer, option

if TYPE_CHECKING:
    from torch import nn

    from seenn.data import DataSplits
    from seenn.snn import SNN

#: The tables of --per-site and --per-layer.
DETAILS = {
    "per_site": {"computes": "", "ms/image": ".3f", "share": ".1%", "MACs": ",", "spike rate": ".3f"},
    "per_layer": {"int8 in": "", "bits": ">", "weights": ".3%", "scores": ".3%", "points lost": "+.2f"},
}


@dataclass(frozen=True, kw_only=True)
class BenchOptions(ReportOptions):
    """What is measured, how often, and beside what."""

    ann: str | None = option("The ANN to compare with.  [default: the one that SNN stands for]", metavar="MODEL")
    ckpt: str | None = option("Weights of --ann.", type=PATH)
    slots: int = option("Images at once.", type=AT_ONCE, default=64)
    limit: int = option("Test images.", type=Integer(64), default=512)
    repeats: int = option("Runs of every timing.", type=COUNT, default=5)
    threads: int | None = option("For every contender.  [default: as torch finds]", type=COUNT)
    per_site: bool = option("Also where the time of a step goes.")
    per_layer: int | None = option(
        "Also what int8 costs in each layer alone: accuracy and error of the scores, on N test images.", type=COUNT
    )

    def __post_init__(self) -> None:
        if self.ann is None and self.ckpt is not None:
            raise ValueError("--ckpt gives the weights of --ann: name the model too")


@command("Speed beside the ANN: ratios, latency, profile.")
def bench(
    console: Console,
    file: SnnFile,
    options: BenchOptions,
    model: ModelOptions,
    how: StepOptions,
    data: DataOptions,
) -> None:
    """Measure SNN (default: snn.safetensors) beside its ANN in torch and onnxruntime, and OpenVINO if it is there.

    Contenders run in turn on test images; ratios are of medians, and of the engine that --engine names. Nothing else
    should run meanwhile.
    """
    import torch

    from converter.load import load_model
    from seenn.analysis.bench.ann import ann_contenders
    from seenn.analysis.bench.ann_heads import headed_contenders
    from seenn.analysis.bench.figures import run_bench
    from seenn.analysis.bench.layers import layer_losses
    from seenn.analysis.bench.machine import this_machine
    from seenn.analysis.bench.page import write_bench
    from seenn.analysis.bench.profile import profile_sites
    from seenn.analysis.report.base import plain
    from seenn.errors import UnsupportedError
    from seenn.exits import FixedExit

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    snn = file.load().to(console.device)
    given = None if options.ann is None else load_model(model.spec(options.ann), options.ckpt).module
    steps = snn.steps(how.timesteps)
    snn, splits = data.of(snn)
    if splits.test.is_sequence:
        raise UnsupportedError(
            f"bench measures networks on images, and {file.snn} runs on one frame a timestep: evaluate it with "
            "`seenn evaluate`"
        )
    snn.check_split(splits.test, use="test")
    main = how.make(console, snn)
    others = ("int8", "float32", "reference") if options.per_layer else ("float32", "reference")
    engines, notes = {main.name: main}, []
    for name in others:
        if name in engines:
            continue
        try:
            engines[name] = snn.make_engine(name, timesteps=steps)
        except UnsupportedError as error:
            if name == "int8":  # whose layers were asked for
                raise
            notes.append(f"{name} is left out: {error}")
    if console.device.type != "cpu":
        notes.append("onnxruntime and OpenVINO are left out: they compute on the CPU only")
    module = _ann(console, snn, given, splits)
    if module is None:
        notes.append("no ANN: this network has none, name one with --ann")
    samples = splits.calibration.batch(limit=64).inputs
    anns = [] if module is None else ann_contenders(module, samples, console.device)
    if snn.network.graph.heads and console.device.type == "cpu":
        anns += headed_contenders(snn.network, snn.policy or FixedExit(), samples)
    images, labels = splits.test.batch(limit=options.limit).inputs, splits.test.labels[: options.limit]
    sites = profile_sites(main, images) if options.per_site else []
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
    few = slice(options.per_layer)
    losses = layer_losses(snn, images[few], labels[few], steps, say=console.say) if options.per_layer else []
    contenders = []
    for name, latency in found.latency_ms.items():
        rate, accuracy = found.speed_and_accuracy[f"{'SNN' if name in engines else 'ANN'}, {name}"]
        contenders.append((name, 100 * accuracy, latency["p50"], rate))
    tables: list[tuple[dict[str, str], list[tuple[Any, ...]]]] = [
        ({"ratio": "", "value": ".3f"}, list(found.ratios.items())),
        ({"contender": "", "accuracy %": ".2f", "p50 ms": ".2f", "images/s": ".1f"}, contenders),
    ]
    result = {
        "network": Path(file.snn).name,
        "machine": plain(this_machine()),
        "samples": len(labels),
        **found.to_json(),
        "notes": [*found.notes, *notes],
    }
    for name, details in (("per_site", sites), ("per_layer", losses)):
        if details:
            result[name] = plain(details)
            tables.append((DETAILS[name], [tuple(row.values()) for row in result[name]]))
    for note in result["notes"]:
        console.say(note)
    cells = [(list(columns), table_cells(columns, rows)) for columns, rows in tables]
    page = write_bench(found, result, cells, snn.network.graph.fingerprint(), command_line(), options.report)
    console.answer({**result, "report": str(page)}, "\n\n".join(text_table(*table) for table in tables))
    options.show(console, page)


def _ann(console: Console, snn: SNN, given: nn.Module | None, splits: DataSplits) -> nn.Module | None:
    """The model of ``--ann``, its normalisation folded where that can be done; else the network's own twin, if any."""
    if given is None:
        return snn.network.analog() if snn.network.has_analog else None
    from converter import canonical_graph
    from seenn.errors import UnsupportedError

    try:
        return canonical_graph(given, splits.calibration.batch(limit=2).inputs).graph
    except UnsupportedError:
        console.say("the model of --ann is run as it is, without folding its normalisation")
        return given
