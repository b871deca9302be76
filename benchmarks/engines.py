"""The integer engine beside everything that a user would run instead, on one machine, in one run.

    python benchmarks/engines.py snn.safetensors

SNN is a network that `seenn convert` and `seenn calibrate-exit` made. Contenders alternate; medians are compared.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click
import torch
from torch import Tensor

import seenn

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row, write_results
from common import RESULTS
from peers import PEERS, runner

from converter import canonical_graph
from converter.load import ModelSpec, load_model, parse_model_kwargs
from seenn.analysis.bench.ann import ann_contenders
from seenn.analysis.bench.figures import run_bench
from seenn.analysis.bench.machine import this_machine
from seenn.analysis.bench.plots import speed_chart
from seenn.analysis.bench.profile import profile_sites
from seenn.analysis.bench.timing import alternate
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data.provenance import load_recorded_data
from seenn.exits import FixedExit
from seenn.runtime import Session

BARS = {  # what the engine is built for: a CPU that multiplies int8 four times as fast as float32 (VNNI, AMX)
    "step / torch float32 ANN forward, batch 1": ("most", 0.33),
    "step / torch float32 ANN forward, batch 32": ("most", 0.33),
    "early-exit efficiency": ("least", 0.92),
    "images/s with exits / fastest float32 ANN": ("least", 2.0),
    "p50 latency with exits / onnxruntime float32 ANN": ("most", 0.8),
    "accuracy points lost against float32, with exits": ("most", 0.2),
    "accuracy points lost against float32, at T": ("most", 0.2),
    "log-log slope of time over timesteps": ("most", 1.05),
    "accuracy points below the fastest float32 ANN": ("most", 0.5),
    "mean timesteps": ("most", 1.4),
}
PEER_REPEATS = 3
STREAM = 4  # times as many images as peers run: a stream has an end, where fewer and fewer slots are taken


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--ckpt", type=click.Path(exists=True, dir_okay=False), help="The ANN.  [default: SNN's own twin]")
@click.option("--model", default="resnet18", show_default=True, help="Of --ckpt.")
@click.option("--model-kwargs", multiple=True, help="Of --ckpt, as for seenn convert.")
@click.option("--data-dir", help="Folder with the data set's files.")
@click.option("--limit", default=512, show_default=True, help="Test images.")
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing.")
@click.option("--slots", default=64, show_default=True, help="Images at once, with exits.")
@click.option("--title", help="What the network is.  [default: the file's name]")
@click.option("--peer-timesteps", type=int, help="T of the peers.  [default: the network's]")
@click.option("--peer-limit", default=64, show_default=True, help="Test images that the peers run.")
@click.option("--out", default=str(RESULTS / "engines"), show_default=True, help="Stem of the result files.")
def main(
    snn: str,
    ckpt: str | None,
    model: str,
    model_kwargs: tuple[str, ...],
    data_dir: str | None,
    limit: int,
    repeats: int,
    slots: int,
    title: str | None,
    peer_timesteps: int | None,
    peer_limit: int,
    out: str,
) -> None:
    """Measure the engines."""
    loaded = seenn.load(snn)
    splits = load_recorded_data(loaded.manifest, loaded.preprocessing, data_dir=data_dir)
    network, steps = loaded.network, loaded.timesteps
    images, labels = splits.test.images(limit), splits.test.labels[:limit]
    if "int8" not in loaded.sections:
        loaded = loaded.prepare(splits.calibration.batch(limit=128))
    engines = {name: loaded.make_engine(name) for name in ("int8", "float32")}
    ann: torch.nn.Module = network.analog()
    if ckpt is not None:
        source = load_model(ModelSpec(name=model, kwargs=parse_model_kwargs(model_kwargs)), ckpt)
        ann = canonical_graph(source.module, images[:2]).graph
    anns = ann_contenders(ann, splits.calibration.images(limit=64))
    policy = loaded.policy or FixedExit()
    found = run_bench(
        engines,
        anns,
        policy,
        steps,
        images,
        labels,
        slots=slots,
        repeats=repeats,
        say=lambda text: click.echo(text, err=True),
    )
    compared = "" if ckpt is None else f" --ckpt {Path(ckpt).name}"
    command = f"python benchmarks/engines.py {Path(snn).name}{compared} --limit {limit} --repeats {repeats}"
    rows = []
    float32 = [contender.name for contender in anns if contender.precision == "float32"]
    fastest = max(float32, key=lambda name: found.images_per_second[name][32])
    lost = 100 * (found.accuracy[fastest] - found.accuracy["int8 with exits"])
    figures = {
        **found.ratios,
        "accuracy points below the fastest float32 ANN": lost,
        "mean timesteps": found.mean_timesteps,
    }
    for name, value in figures.items():
        kind, bar = BARS.get(name, ("", 0.0))
        if kind:
            rows.append((Row.at_most if kind == "most" else Row.at_least)(name, value, bar, command))
        else:
            rows.append(Row(name, value, None, True, command))
    points = found.speed_and_accuracy

    def ours(stream: Tensor) -> Tensor:
        return session.run([Batch.of(stream, network.input_shape)]).logits_sum

    session = Session(engines["int8"], policy, steps, slots)
    t = peer_timesteps or steps
    shown = STREAM * peer_limit
    peers = measure_peers(network, images[:shown], labels[:shown], t, ours)
    rate, right = peers.pop("ours")  # in turn with the peers
    if as_good := {name: peer for name, peer in peers.items() if peer[1] >= right}:
        best = max(as_good, key=lambda name: as_good[name][0])
        name = f"images/s with exits / fastest SNN peer that is as accurate ({best})"
        rows.append(Row.at_least(name, rate / peers[best][0], 8.0, command))
    for name, (speed, _) in peers.items():
        rows.append(Row(f"images/s with exits / {name}", rate / speed, None, True, command))
    sites = profile_sites(engines["int8"], images)
    subject = f"{title or Path(snn).stem}, {len(labels)} test images"
    speed_chart(points | peers, subject).draw(Path(out).with_suffix(".png"))
    write(out, subject, rows, found, {"int8 with exits": (rate, right), **peers}, peer_limit, sites)


def measure_peers(
    network: SpikingNetwork, images: Tensor, labels: Tensor, timesteps: int, ours: Callable[[Tensor], Tensor]
) -> dict[str, tuple[float, float]]:
    """Images/s in turn, ours as a stream of all images, peers in batches of 32 on a part; accuracy on that part."""
    part = -(-len(images) // STREAM)
    runs: dict[str, Callable[[Tensor], Tensor]] = {"ours": ours}
    given = {"ours": images}
    scores: dict[str, Tensor] = {}
    for peer in PEERS:
        if importlib.util.find_spec(peer.lower()) is None:
            click.echo(f"{peer} is not installed: `make bench` installs it", err=True)
            continue
        click.echo(peer, err=True)
        for steps in sorted({1, timesteps}):
            runs[f"{peer}, T={steps}"] = partial(_in_batches, runner(network, peer, steps))
            given[f"{peer}, T={steps}"] = images[:part]

    def work(name: str) -> None:
        scores[name] = runs[name](given[name])

    timings = alternate({name: partial(work, name) for name in runs}, PEER_REPEATS)
    right = {name: float((s[:part].argmax(-1) == labels[:part]).double().mean()) for name, s in scores.items()}
    return {name: (len(given[name]) / timings[name].median, right[name]) for name in runs}


def _in_batches(run: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    return torch.cat([run(batch) for batch in images.split(32)])


def write(out, subject, rows, found, peers, peer_limit, sites) -> None:  # type: ignore[no-untyped-def]
    """The table, what it was made from, and where the time of a step goes."""
    accuracy = ", ".join(f"{key} {100 * value:.2f} %" for key, value in found.accuracy.items())
    rates = ", ".join(f"{key} {max(value.values()):.1f}" for key, value in found.images_per_second.items())
    others = ", ".join(f"{key} {rate:.1f} ({100 * right:.2f} %)" for key, (rate, right) in peers.items())
    latency = ", ".join(f"{key} {ms['p50']:.1f} / {ms['p95']:.1f}" for key, ms in found.latency_ms.items())
    spread = ", ".join(
        f"{key} batch {size}: {1000 * t.median:.1f} ({1000 * min(t.seconds):.1f} to {1000 * max(t.seconds):.1f})"
        for key, sizes in found.step.items()
        for size, t in sizes.items()
    )
    synapses = [site for site in sites if site.macs]
    share = sum(site.share for site in synapses)
    speed = sum(site.macs for site in synapses) / sum(site.milliseconds for site in synapses) / 1e6
    machine = this_machine()
    limit = (
        " This CPU has no instructions for products of bytes: where int8 is not faster than float32, a step costs at "
        "least the share of its synapses in an ANN forward."
    )
    notes = [
        f"{machine}; {'; '.join(found.notes)}.",
        f"Mean timesteps {found.mean_timesteps:.3f}. Accuracy on the test images used here: {accuracy}.",
        f"Images/s (ANN at batch 32, SNN with exits): {rates}.",
        f"In turn with SNN peers, images/s, and accuracy on the {peer_limit} images that peers ran: {others}.",
        f"Latency p50 / p95 at batch 1, ms: {latency}.",
        f"One step or one ANN forward, median (minimum to maximum), ms: {spread}.",
        f"Where a step goes: {100 * share:.0f} % in synapses, at {speed:.0f} GMAC/s; the rest in neurons and sums. "
        f"A step has the ANN's multiply-accumulates but for the first layer.{'' if machine.int8 else limit}",
        f"![images/s against accuracy]({Path(out).name}.png)",
        "| computes | ms an image | share % | MACs | spike rate |\n| --- | --: | --: | --: | --: |\n"
        + "\n".join(
            f"| `{s.name}` | {s.milliseconds:.3f} | {100 * s.share:.1f} | {s.macs:,} | "
            f"{'' if s.spike_rate is None else f'{s.spike_rate:.3f}'} |"
            for s in sites
        ),
    ]
    for path in write_results(out, f"Engines: {subject}", rows, notes=notes):
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
