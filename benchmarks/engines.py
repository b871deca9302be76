"""The integer engine beside everything that a user would run instead, on one machine, in one run.

    python benchmarks/engines.py snn.safetensors

SNN is a network that `seenn convert` and `seenn calibrate-exit` made. Contenders alternate; medians are compared.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import click
import torch

sys.path.insert(0, str(Path(__file__).parent))
from common import RESULTS
from peers import PEERS, runner

from seenn.bench import alternate, ann_contenders, profile_sites, run_bench
from seenn.checkpoint import load
from seenn.engines import make_engine
from seenn.exits import FixedExit
from seenn.recorded import load_recorded_data
from seenn.report import Row, write_results

BARS = {  # what the engine is built for: a CPU that multiplies int8 four times as fast as float32 (VNNI, AMX)
    "step / torch float32 ANN forward, batch 1": ("most", 0.33),
    "step / torch float32 ANN forward, batch 32": ("most", 0.33),
    "early-exit efficiency": ("least", 0.92),
    "images/s with exits / fastest float32 ANN": ("least", 2.0),
    "p50 latency with exits / onnxruntime float32 ANN": ("most", 0.8),
    "accuracy points lost against float32, with exits": ("most", 0.2),
    "log-log slope of time over timesteps": ("most", 1.05),
}


@click.command()
@click.argument("snn", type=click.Path(exists=True, dir_okay=False))
@click.option("--data-dir", help="Folder with the data set's files.")
@click.option("--limit", default=256, show_default=True, help="Test images.")
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing.")
@click.option("--peer-timesteps", default=8, show_default=True, help="T of the peers, which fire one spike a step.")
@click.option("--out", default=str(RESULTS / "engines"), show_default=True, help="Stem of the result files.")
def main(snn: str, data_dir: str | None, limit: int, repeats: int, peer_timesteps: int, out: str) -> None:
    """Measure the engines."""
    checkpoint = load(snn)
    splits = load_recorded_data(checkpoint.manifest, checkpoint.preprocessing, data_dir=data_dir)
    network, steps = checkpoint.network, checkpoint.timesteps
    images, labels = splits.test.images(limit), splits.test.labels[:limit]
    engines = {
        name: make_engine(name, network, timesteps=steps, preprocessing=checkpoint.preprocessing)
        for name in ("int8", "float32")
    }
    twin = network.analog()
    found = run_bench(
        engines,
        ann_contenders(twin, splits.calibration.images(limit=64)),
        checkpoint.policy or FixedExit(),
        steps,
        images,
        labels,
        repeats=repeats,
        say=lambda text: click.echo(text, err=True),
    )
    command = f"python benchmarks/engines.py {Path(snn).name}"
    rows = []
    for name, value in found.ratios.items():
        kind, bar = BARS.get(name, ("", 0.0))
        if kind:
            rows.append((Row.at_most if kind == "most" else Row.at_least)(name, value, bar, command))
        else:
            rows.append(Row(name, value, None, True, command))
    ours = next(iter(found.images_per_second["int8"].values()))
    speeds = {}
    for peer, make in PEERS.items():
        if importlib.util.find_spec(peer.lower()) is None:
            click.echo(f"{peer} is not installed: `make bench` installs it", err=True)
            continue
        run = runner(network, make(), peer_timesteps)
        speeds[peer] = 32 / alternate({peer: lambda run=run: run(images[:32])}, max(1, repeats // 2))[peer].median
    if speeds:
        best = max(speeds, key=speeds.__getitem__)
        name = f"images/s with exits / fastest SNN peer ({best}, T={peer_timesteps})"
        rows.append(Row.at_least(name, ours / speeds[best], 8.0, command))
    write(out, Path(snn).stem, rows, found, speeds, profile_sites(engines["int8"], network, images))


def write(out, name, rows, found, speeds, sites) -> None:  # type: ignore[no-untyped-def]
    """The table, what it was made from, and where the time of a step goes."""
    accuracy = ", ".join(f"{key} {100 * value:.2f} %" for key, value in found.accuracy.items())
    rates = ", ".join(f"{key} {max(value.values()):.1f}" for key, value in found.images_per_second.items())
    peers = ", ".join(f"{key} {value:.1f}" for key, value in speeds.items()) or "none installed"
    latency = ", ".join(f"{key} {p50:.1f} / {p95:.1f}" for key, (p50, p95) in found.latency_ms.items())
    spread = ", ".join(
        f"{key} batch {size}: {1000 * t.median:.1f} ({1000 * min(t.seconds):.1f} to {1000 * max(t.seconds):.1f})"
        for key, sizes in found.step.items()
        for size, t in sizes.items()
    )
    synapses = [site for site in sites if site.macs]
    share = sum(site.share for site in synapses)
    speed = sum(site.macs for site in synapses) / sum(site.milliseconds for site in synapses) / 1e6
    cpu = torch.backends.cpu.get_cpu_capability()
    notes = [
        f"{torch.get_num_threads()} threads, {cpu}; {'; '.join(found.notes)}.",
        f"Mean timesteps {found.mean_timesteps:.3f}. Accuracy on the test images used here: {accuracy}.",
        f"Images/s (ANN at batch 32): {rates}; SNN peers: {peers}.",
        f"Latency p50 / p95 at batch 1, ms: {latency}.",
        f"One step or one ANN forward, median (minimum to maximum), ms: {spread}.",
        f"Where a step goes: {100 * share:.0f} % in synapses, at {speed:.0f} GMAC/s; the rest in neurons and sums. "
        "A step has the ANN's multiply-accumulates but for the first layer, so where int8 is not faster than float32 "
        "(AVX2 without VNNI), the ratio of a step to an ANN forward cannot go much below the share of the synapses.",
        "| computes | ms an image | share % | MACs | spike rate |\n| --- | --: | --: | --: | --: |\n"
        + "\n".join(
            f"| `{s.name}` | {s.milliseconds:.3f} | {100 * s.share:.1f} | {s.macs:,} | "
            f"{'' if s.spike_rate is None else f'{s.spike_rate:.3f}'} |"
            for s in sites
        ),
    ]
    for path in write_results(out, f"Engines on {name}", rows, notes=notes):
        click.echo(f"wrote {path}")


if __name__ == "__main__":
    main()
