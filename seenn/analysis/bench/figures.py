"""The figures of ``seenn bench``: ratios by name, each from runs that alternated."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import torch
from torch import Tensor

from seenn.analysis.bench.ann import Contender
from seenn.analysis.bench.timing import Growth, Timing, Work, alternate, grow_timesteps, step_of
from seenn.analysis.report.base import plain
from seenn.batch import Batch
from seenn.exits.policy import ExitPolicy
from seenn.runtime import Engine, Session

TORCH, ONNXRUNTIME = "torch float32", "onnxruntime float32"
ANN_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What was measured, by contender: engines of the SNN, the one that it is about first, and ways to run the ANN."""

    engines: Sequence[str]
    precision: Mapping[str, str]  # of the ANNs
    step: Mapping[str, Mapping[int, Timing]]  # one step or one ANN forward, by batch size
    images_per_second: Mapping[str, Mapping[int, float]]  # by batch size; the SNN's with its exits
    latency_ms: Mapping[str, Mapping[str, float]]  # at batch 1, p50 and p95
    accuracy: Mapping[str, float]  # on the images given; an engine's "with exits" and "at T"
    efficiency: float  # images/s with exits · mean timesteps, over steps/s of images that all run
    mean_timesteps: float  # of the SNN with its exits
    growth: Growth  # of the time with T
    notes: Sequence[str]

    @property
    def ratios(self) -> dict[str, float]:
        """By name; lower or higher is better as the name says."""
        main = self.engines[0]
        found = {}
        if TORCH in self.step:
            for size, timing in self.step[main].items():
                ratio = timing.median / self.step[TORCH][size].median
                found[f"step / torch float32 ANN forward, batch {size}"] = ratio
        for precision, heads in product(("float32", "int8"), ("", ", same heads")):
            of = [name for name, kind in self.precision.items() if kind == precision + heads]
            if rates := [rate for name in of for rate in self.images_per_second[name].values()]:
                own = max(self.images_per_second[main].values())
                found[f"images/s with exits / fastest {precision} ANN{heads}"] = own / max(rates)
        if ONNXRUNTIME in self.latency_ms:
            ratio = self.latency_ms[main]["p50"] / self.latency_ms[ONNXRUNTIME]["p50"]
            found["p50 latency with exits / onnxruntime float32 ANN"] = ratio
        if "float32" in self.engines[1:]:
            for how in ("with exits", "at T"):
                lost = 100 * (self.accuracy[f"float32 {how}"] - self.accuracy[f"{main} {how}"])
                found[f"accuracy points lost against float32, {how}"] = round(lost, 9)  # a number of images, as one
        found["early-exit efficiency"] = self.efficiency
        found["log-log slope of time over timesteps"] = self.growth.slope
        return found

    @property
    def speed_and_accuracy(self) -> dict[str, tuple[float, float]]:
        """Images/s, the SNN's with its exits, and accuracy, by contender; engines first."""
        fastest = {name: max(rates.values()) for name, rates in self.images_per_second.items()}
        ours = {f"SNN, {name}": (fastest[name], self.accuracy[f"{name} with exits"]) for name in self.engines}
        return ours | {f"ANN, {name}": (fastest[name], self.accuracy[name]) for name in self.precision}

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {"ratios": self.ratios, **plain(vars(self))}


def run_bench(
    engines: Mapping[str, Engine],
    anns: Sequence[Contender],
    policy: ExitPolicy,
    timesteps: int,
    images: Tensor,
    labels: Tensor,
    *,
    slots: int = 64,
    batches: Sequence[int] = (1, ANN_BATCH),
    repeats: int = 5,
    single: int = 24,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Measures engines and ANNs in alternation.

    Args:
        engines: by name; the first is the one that the ratios are about, ``float32`` the one that it must not
            lose accuracy against.
        anns: see ``ann_contenders`` and ``headed_contenders``; may be empty.
        images, labels: preprocessed; speed is measured on the first ``8 · slots``, accuracy on all.
        slots: of the run with exits.
        batches: sizes at which a step is set against an ANN forward; 1 and 32 give the named ratios.
        repeats: of every timing.
        single: images whose latency is measured one by one.
        say: is told what is being measured.
    """
    main, snn = next(iter(engines.items()))
    step: dict[str, dict[int, Timing]] = {}
    for size in batches:
        say(f"one step and one ANN forward, batch {size}")
        work: dict[str, Work] = {ann.name: partial(ann.run, images[:size]) for ann in anns if ann.batch == ANN_BATCH}
        work |= {name: step_of(engine, images[:size]) for name, engine in engines.items()}
        for name, timing in alternate(work, repeats).items():
            step.setdefault(name, {})[size] = timing
    say("images with exits")
    sample = images[: 8 * slots]
    sessions = {name: Session(engine, policy, timesteps, slots) for name, engine in engines.items()}
    endless = _throughput(sessions[main], sample) * float(sessions[main].run(Batch(sample)).cost.mean())
    work = {ann.name: partial(ann.run, images[: ann.batch]) for ann in anns}
    work |= {name: partial(session.run, Batch(sample)) for name, session in sessions.items()}
    work["slot step"] = step_of(snn, sample[torch.arange(slots) % len(sample)])
    timed = alternate(work, repeats)
    rates = {ann.name: {ann.batch: len(images[: ann.batch]) / timed[ann.name].median} for ann in anns}
    rates |= {name: {slots: len(sample) / timed[name].median} for name in engines}
    say("latency of single images")
    alone = Session(snn, policy, timesteps, slots=1)
    runs: dict[str, Callable[[Tensor], object]] = {ann.name: ann.run for ann in anns}
    runs[main] = lambda image: alone.run([Batch(image)])
    latency = _latencies(runs, images[:single])
    say("growth with timesteps")
    growth = grow_timesteps(snn, images[:32], max(1, repeats // 2))
    say("accuracy")
    answers = {ann.name: torch.cat([ann.run(x) for x in torch.split(images, 64)]).argmax(-1) for ann in anns}
    mean_timesteps = 0.0
    for name, engine in engines.items():
        early = sessions[name].run(Batch(images))
        answers[f"{name} with exits"] = early.labels
        answers[f"{name} at T"] = Session(engine, None, timesteps, slots).run(Batch(images)).labels
        if name == main:
            mean_timesteps = float(early.cost.mean())
    return Bench(
        engines=list(engines),
        precision={ann.name: ann.precision for ann in anns},
        step=step,
        images_per_second=rates,
        latency_ms=latency,
        accuracy={name: float((found == labels).double().mean()) for name, found in answers.items()},
        efficiency=endless / (slots / timed["slot step"].median),
        mean_timesteps=mean_timesteps,
        growth=growth,
        notes=[f"{name}: {engine.note}" for name, engine in engines.items()],
    )


def _throughput(session: Session, sample: Tensor) -> float:
    """Images/s while slots are refilled: from the first answer after all slots are full to the last image taken."""
    marks: list[float] = []

    def batches() -> Iterator[Batch]:
        for _ in range(3):
            for image in sample:
                marks.append(time.perf_counter())
                yield Batch(image[None])

    start = len(sample)  # the slots have been refilled once by then
    session.run(batches())
    return (len(marks) - 1 - start) / (marks[-1] - marks[start])


def _latencies(runs: Mapping[str, Callable[[Tensor], object]], images: Tensor) -> dict[str, dict[str, float]]:
    """Median and 95th percentile, in ms, of images that run one by one."""
    spent: dict[str, list[float]] = {name: [] for name in runs}
    for image in torch.split(images, 1):
        for name, timing in alternate({name: partial(run, image) for name, run in runs.items()}, 1).items():
            spent[name].append(1000 * timing.median)
    return {
        name: {"p50": statistics.median(ms), "p95": sorted(ms)[int(0.95 * (len(ms) - 1))]} for name, ms in spent.items()
    }
