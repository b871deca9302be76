"""Exits in depth and time held to their bars: work and accuracy, speed beside the ANN and its heads, guarantees.

    python benchmarks/heads.py --ckpt ann.safetensors --work runs/heads

The ANN is converted (several spikes a step, so that one step nearly is the network), given heads and an exit rule; or
give what was made so, fine-tuned if you like, as --snn. What takes minutes is kept in --work, and a run that was cut
off goes on there. A CPU with instructions for products of bytes (VNNI) has other bars than one without.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bars import Row
from common import RESULTS, ann_answers, conclude, load_subject, subject_options
from exits_guarantee import guarantee_rows
from peers import PEERS, runner

import seenn
from converter import ConvertConfig, convert
from seenn import SNN
from seenn.analysis.bench.ann import ann_contenders
from seenn.analysis.bench.ann_heads import headed_contenders
from seenn.analysis.bench.machine import this_machine
from seenn.analysis.bench.timing import alternate, step_of
from seenn.analysis.collect import collect_run
from seenn.batch import Batch
from seenn.core.cuts import cuts
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, Split
from seenn.device import full_precision
from seenn.exits import CachedRun, ConfidenceExit, cost_of_steps, find_exit
from seenn.runtime import Engine, Session
from seenn.training.heads import HeadsConfig, add_heads

DROP = 0.003  # allowed below the whole network
DROP_OF_SPEED = 0.005  # likewise, where speeds are compared
SLOTS = 64
PEER_STEPS = (1, 2, 4, 8, 16, 32)  # that other libraries are tried at
FIELDS = ("logits_sum", "labels", "energy_pj")
#: With VNNI, and without; None: open there.
BARS: dict[str, tuple[str, float, float | None]] = {
    "images/s / fastest float32 ANN": ("least", 5.0, 2.0),
    "images/s / fastest int8 ANN": ("least", 1.4, 1.2),
    "images/s / best SNN peer that is as accurate": ("least", 8.0, 4.0),
    "p50 latency at batch 1 / onnxruntime float32 ANN": ("most", 0.4, 0.7),
    "early-exit efficiency": ("least", 0.88, 0.88),
    "share of a step's MACs": ("most", 0.45, 0.45),
    "points below the whole network": ("most", 0.3, 0.3),
    "training of 8 heads / one pass over its images": ("most", 3.0, 3.0),
    "mean cost with a guarantee / in time only": ("most", 0.8, 0.8),
    "points below the fastest float32 ANN": ("most", 0.5, 0.5),
    "points below the fastest int8 ANN": ("most", 0.5, 0.5),
}


def cached(snn: SNN, engine: Engine, split: Split, path: Path, limit: int | None) -> CachedRun:
    """One pass over a split, kept in ``path`` for this very network, T and split."""
    network, steps = snn.network, snn.timesteps
    origin = f"{network.graph.fingerprint()} T={steps} {engine.name} {split.fingerprint} limit={limit}"
    cost = cost_of_steps(steps, network.initial_steps, network.exit_costs)
    if path.exists():
        with np.load(path) as data:
            if str(data["origin"]) == origin:
                tensors = {name: torch.from_numpy(data[name]) for name in FIELDS}
                return CachedRun(**tensors, cost=cost, segments=len(network.segments))
    click.echo(f"running the {split.name} split", err=True)
    run = collect_run(network, split, steps, engine=engine, limit=limit)
    np.savez(path, origin=origin, **{name: getattr(run, name).numpy() for name in FIELDS})
    return run


def made(ckpt: str, subject: DataSplits, model: torch.nn.Module, folder: Path, timesteps: int, levels: int) -> SNN:
    """The converted network with heads, from ``folder`` where it is there."""
    converted, headed = folder / "converted.safetensors", folder / "heads.safetensors"
    if not converted.exists():
        click.echo(f"converting {Path(ckpt).name}", err=True)
        convert(model, subject, ConvertConfig(timesteps=timesteps, levels=levels)).save(converted)
    if not headed.exists():
        click.echo("training 4 heads", err=True)
        seenn.load(converted).add_heads(subject, engine="int8").save(headed)
    return seenn.load(headed)


def training_ratio(snn: SNN, splits: DataSplits, images: int) -> float:
    """The time of training 8 heads, the pass over the images included, over that of one pass of all T steps."""
    click.echo("timing the training of 8 heads", err=True)
    plain = SNN(network=snn.network.without_heads(), preprocessing=snn.preprocessing, manifest=snn.manifest)
    engine = plain.make_engine("int8", timesteps=plain.timesteps)
    session = Session(engine, None, plain.timesteps, SLOTS)
    begin = time.perf_counter()
    session.run(splits.train.batches(SLOTS, limit=images))
    one_pass = time.perf_counter() - begin
    begin = time.perf_counter()
    config = HeadsConfig(at=tuple(cut.name for cut in cuts(plain.network)[:8]), limit=images)
    add_heads(plain.network, splits.train, config, engine=engine, timesteps=plain.timesteps)
    return (time.perf_counter() - begin) / one_pass


def speeds(snn: SNN, engine: Engine, images: Tensor, labels: Tensor, samples: Tensor, repeats: int) -> dict[str, float]:
    """Ratios by name, contenders in turn; and accuracies."""
    policy, steps = snn.policy, snn.timesteps
    assert policy is not None
    anns = [*ann_contenders(snn.network.analog(), samples), *headed_contenders(snn.network, policy, samples)]
    stream = images[: 16 * SLOTS]
    session, alone = Session(engine, policy, steps, SLOTS), Session(engine, policy, steps, 1)
    plain = snn.network.without_heads()
    few = images[:SLOTS]
    click.echo("labels by us, and by other libraries at the fewest steps that are as accurate", err=True)
    answers = session.run(Batch(images))
    own_right = (answers.labels == labels).double()
    peers = peers_as_accurate(plain, images[: 4 * SLOTS], labels[: 4 * SLOTS], float(own_right[: 4 * SLOTS].mean()))
    work = {ann.name: partial(ann.run, images[: ann.batch]) for ann in anns}
    work |= {"ours": lambda: session.run(Batch(stream)), "step": step_of(engine_of_whole_steps(snn), few)}
    segments = segments_of(engine, few)
    work |= segments
    work |= {name: partial(run, few) for name, run in peers.items()}
    click.echo(f"timing {len(work)} contenders", err=True)
    timed = alternate(work, repeats)
    single: dict[str, list[float]] = {"ours": [], "onnxruntime float32": []}
    onnx = next((ann.run for ann in anns if ann.name == "onnxruntime float32"), None)
    for image in images[:200].split(1):
        runs = {"ours": partial(alone.run, [Batch(image)])} | (
            {} if onnx is None else {"onnxruntime float32": partial(onnx, image)}
        )
        for name, timing in alternate(runs, 1).items():
            single[name].append(1000 * timing.median)
    click.echo(f"labels of {len(labels):,} images by every contender", err=True)
    rate = {ann.name: ann.batch / timed[ann.name].median for ann in anns}
    rate |= {name: len(few) / timed[name].median for name in peers}
    ours = len(stream) / timed["ours"].median
    right = {ann.name: _accuracy(torch.cat([ann.run(x) for x in images.split(ann.batch)]), labels) for ann in anns}
    own = float(own_right.mean())
    found = {
        "images/s": ours,
        "accuracy (%)": 100 * own,
        "mean timesteps": float(answers.exit_timestep.double().mean()),
    }
    for precision, heads in product(("float32", "int8"), ("", ", same heads")):
        if of := [ann.name for ann in anns if ann.precision == precision + heads]:
            best = max(of, key=lambda name: rate[name])
            found[f"images/s / fastest {precision} ANN{heads}"] = ours / rate[best]
            found[f"points below the fastest {precision} ANN{heads}"] = 100 * (right[best] - own)
    for name in peers:
        found[f"images/s / {name}"] = ours / rate[name]
    if peers:
        found["images/s / best SNN peer that is as accurate"] = ours / max(rate[name] for name in peers)
    full = ours * timed["step"].median / SLOTS
    found["early-exit efficiency, cost in MACs, whole steps without heads"] = full * float(answers.cost.mean())
    parts = np.cumsum([timed[name].median for name in segments])
    until = (answers.exit_timestep - 1) * parts[-1] + torch.from_numpy(parts)[answers.exit_segment - 1]
    found["early-exit efficiency"] = ours * float(until.mean()) / SLOTS
    for number, share in enumerate(parts[:-1] / parts[-1], 1):
        found[f"share of a step's time up to head {number}"] = float(share)
    if onnx is not None:
        middle = statistics.median(single["onnxruntime float32"])
        found["p50 latency at batch 1 / onnxruntime float32 ANN"] = statistics.median(single["ours"]) / middle
        found["mean latency at batch 1 / onnxruntime float32 ANN"] = statistics.mean(single["ours"]) / statistics.mean(
            single["onnxruntime float32"]
        )
        found["p95 latency at batch 1 / onnxruntime float32 ANN"] = np.quantile(single["ours"], 0.95) / np.quantile(
            single["onnxruntime float32"], 0.95
        )
    return found


def peers_as_accurate(
    plain: SpikingNetwork, images: Tensor, labels: Tensor, wanted: float
) -> dict[str, Callable[[Tensor], Tensor]]:
    """Each library that is installed, at the fewest timesteps at which it is as accurate; by name and timesteps."""
    found = {}
    for peer in PEERS:
        if importlib.util.find_spec(peer.lower()) is None:
            continue
        for t in PEER_STEPS:
            run = partial(_in_batches, runner(plain, peer, t))
            if _accuracy(run(images), labels) >= wanted:
                found[f"{peer}, T={t}"] = run
                break
    return found


def segments_of(engine: Engine, images: Tensor) -> dict[str, Callable[[], object]]:
    """Each segment of a step of full slots; together they are what an image costs in time if no slot is ever empty."""
    slots, rows = engine.open(len(images)), torch.arange(len(images))
    slots.load(rows, images)

    def run(number: int) -> None:
        with full_precision(engine.device):
            slots.step(rows, number)

    return {f"segment {number}": partial(run, number) for number in range(1, len(engine.exit_costs) + 1)}


def engine_of_whole_steps(snn: SNN) -> Engine:
    """Of the network without heads: what a full slot's step takes."""
    plain = SNN(network=snn.network.without_heads(), preprocessing=snn.preprocessing, manifest=snn.manifest)
    return plain.make_engine("int8", timesteps=plain.timesteps)


def _in_batches(run, images: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
    return torch.cat([run(batch) for batch in images.split(32)])


def _accuracy(scores: Tensor, labels: Tensor) -> float:
    return float((scores.argmax(-1) == labels).double().mean())


@click.command()
@subject_options
@click.option("--snn", "network", type=click.Path(exists=True, dir_okay=False), help="With heads; made of --ckpt else.")
@click.option("--work", required=True, type=click.Path(file_okay=False), help="Folder of what is kept.")
@click.option("--timesteps", default=2, show_default=True, help="T of the conversion.")
@click.option("--levels", default=15, show_default=True, help="Most spikes a step, of the conversion.")
@click.option("--limit", default=10_000, show_default=True, help="Test images.")
@click.option("--trials", default=1000, show_default=True, help="Random splits for the guarantees.")
@click.option("--repeats", default=5, show_default=True, help="Runs of every timing.")
@click.option("--train-images", default=12_000, show_default=True, help="That 8 heads are trained on.")
@click.option("--guaranteed", "allowed", default=0.01, show_default=True, help="Drop that is guaranteed with 95 %.")
@click.option("--out", default=str(RESULTS / "heads"), show_default=True, help="Stem of the result files.")
def main(
    ckpt: str,
    model: str,
    model_kwargs: tuple[str, ...],
    data: str,
    data_dir: str | None,
    network: str | None,
    work: str,
    timesteps: int,
    levels: int,
    limit: int,
    trials: int,
    repeats: int,
    train_images: int,
    allowed: float,
    out: str,
) -> None:
    """Measure exits in depth and time."""
    folder = Path(work)
    folder.mkdir(parents=True, exist_ok=True)
    subject = load_subject(ckpt, model, model_kwargs, data, data_dir)
    splits = subject.splits
    snn = made(ckpt, splits, subject.model, folder, timesteps, levels) if network is None else seenn.load(network)
    named = "" if network is None else f" --snn {Path(network).name}"
    command = f"python benchmarks/heads.py --ckpt {Path(ckpt).name} --model {model}{named} --limit {limit}"
    engine = snn.make_engine("int8")
    held = cached(snn, engine, splits.exit, folder / "exit.npz", None)
    test = cached(snn, engine, splits.test, folder / "test.npz", limit)
    rule = rule_that_holds(held, DROP_OF_SPEED)
    snn = snn.with_policy(rule, timesteps=snn.timesteps, engine="int8")
    found = {**depth_and_time(held, test), **guaranteed(held, test, allowed)}
    images, labels = splits.test.images(limit=limit), splits.test.labels[:limit]
    found["ANN: accuracy (%)"] = 100 * float(ann_answers(subject.model, splits.test, limit).double().mean())
    found |= speeds(snn, engine, images, labels, splits.calibration.images(limit=64), repeats)
    found["training of 8 heads / one pass over its images"] = training_ratio(snn, splits, train_images)
    machine = this_machine()
    rows = [row(name, value, bool(machine.int8), command) for name, value in found.items()]
    more, notes = guarantee_rows(held, trials, command)
    kept = engine.slot_bytes  # type: ignore[attr-defined]
    rows.append(Row("memory per slot (MiB)", kept / 2**20, None, True, command))
    column = "with VNNI; those without are open" if machine.int8 else "without VNNI; those with it are open"
    notes = [
        f"{machine}. Bars are those {column}.",
        f"The exit rule loses at most {100 * DROP:g} points, less a standard error, on {len(held):,} exit images, that "
        f"of the speeds {100 * DROP_OF_SPEED:g}; figures are of {len(test):,} test images. "
        f"Heads: {', '.join(snn.network.graph.heads)}, at {_shares(snn)} of a step.",
        *notes,
    ]
    conclude(out, f"Exits in depth and time, {model} on {splits.spec}, T={snn.timesteps}", [*rows, *more], notes)


def rule_that_holds(held: CachedRun, drop: float) -> ConfidenceExit:
    """That loses at most ``drop`` here less one standard error: what it loses on other images is as likely as not more.

    The standard error is that of the paired difference in accuracy, of the rule that loses ``drop`` here.
    """
    rule = find_exit(held, ConfidenceExit(), max_accuracy_drop=drop).policy
    correct = held.correct()
    stopped = correct.gather(0, (held.exits(rule) - 1)[None])[0]
    difference = correct[-1].double() - stopped.double()
    margin = float(difference.std()) / len(held) ** 0.5
    return find_exit(held, ConfidenceExit(), max_accuracy_drop=max(drop - margin, 0.0)).policy


def depth_and_time(held: CachedRun, test: CachedRun) -> dict[str, float]:
    """Work and accuracy of the same rule and target with exits in both, in depth, and in time."""
    segments, found = held.segments, {}
    ways = {
        "": slice(None),
        ", in time only": slice(segments - 1, None, segments),
        ", in depth only": slice(segments),
    }
    full = test.correct()[-1].double().mean()
    for name, points in ways.items():
        rule = rule_that_holds(held.only(points), DROP)
        judged = test.only(points).judged(rule)
        found[f"share of a step's MACs{name}"] = judged.mean_cost
        found[f"points below the whole network{name}"] = 100 * (float(full) - judged.accuracy)
    return found


def guaranteed(held: CachedRun, test: CachedRun, allowed: float) -> dict[str, float]:
    """Mean cost with a guarantee over pairs, over that of exits in time with the same one."""
    target = {"max_accuracy_drop": allowed, "confidence": 0.95}
    both = find_exit(held, ConfidenceExit(), **target).policy
    in_time = find_exit(held.whole_steps, ConfidenceExit(), **target).policy
    costs = test.judged(both).mean_cost, test.whole_steps.judged(in_time).mean_cost
    return {"mean cost with a guarantee / in time only": costs[0] / costs[1]}


def row(name: str, value: float, vnni: bool, command: str) -> Row:
    """With the bar of this kind of machine, where there is one."""
    kind, with_vnni, without = BARS.get(name, ("", 0.0, None))
    bar = with_vnni if vnni else without
    if not kind or bar is None:
        return Row(name, float(value), None, True, command)
    return (Row.at_most if kind == "most" else Row.at_least)(name, float(value), bar, command)


def _shares(snn: SNN) -> str:
    return ", ".join(f"{100 * cost:.0f} %" for cost in snn.network.exit_costs[:-1])


if __name__ == "__main__":
    main()
