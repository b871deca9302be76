"""The figures of ``seenn bench``: ratios by name, each from runs that alternated."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from seenn.analysis.bench.ann import Contender
from seenn.analysis.bench.growth import Growth, grow_timesteps, step_of
from seenn.analysis.bench.timing import Timing, alternate
from seenn.batch import Batch
from seenn.exits.policy import ExitPolicy
from seenn.runtime import Engine, Session


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What was measured.

    Attributes:
        ratios: by name; lower or higher is better as the name says.
        images_per_second: by contender, then by batch size; the SNN's with its exits.
        latency_ms: at batch 1, p50 and p95 by contender.
        accuracy: by contender, on the images given.
        step: seconds of one step or one ANN forward, by contender and batch size.
        mean_timesteps: of the SNN with its exits.
        growth: of the time with T.
    """

    ratios: Mapping[str, float]
    images_per_second: Mapping[str, Mapping[int, float]]
    latency_ms: Mapping[str, tuple[float, float]]
    accuracy: Mapping[str, float]
    step: Mapping[str, Mapping[int, Timing]]
    mean_timesteps: float
    growth: Growth
    notes: Sequence[str] = field(default_factory=list)

    @property
    def speed_and_accuracy(self) -> dict[str, tuple[float, float]]:
        """Images/s, the SNN's with its exits, and accuracy, by contender; engines first."""
        engines = [name for name in self.images_per_second if f"{name} with exits" in self.accuracy]
        found = {}
        for name in (*engines, *(other for other in self.images_per_second if other not in engines)):
            accuracy = self.accuracy[f"{name} with exits" if name in engines else name]
            found[f"SNN, {name}" if name in engines else f"ANN, {name}"] = (
                max(self.images_per_second[name].values()),
                accuracy,
            )
        return found

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "ratios": dict(self.ratios),
            "images_per_second": {
                k: {str(b): v for b, v in found.items()} for k, found in self.images_per_second.items()
            },
            "latency_ms": {k: {"p50": p50, "p95": p95} for k, (p50, p95) in self.latency_ms.items()},
            "accuracy": dict(self.accuracy),
            "step": {k: {str(b): t.to_json() for b, t in found.items()} for k, found in self.step.items()},
            "mean_timesteps": self.mean_timesteps,
            "growth": self.growth.to_json(),
            "notes": list(self.notes),
        }


def run_bench(
    engines: Mapping[str, Engine],
    anns: Sequence[Contender],
    policy: ExitPolicy,
    timesteps: int,
    images: Tensor,
    labels: Tensor,
    *,
    slots: int = 64,
    batches: Sequence[int] = (1, 32),
    repeats: int = 5,
    single: int = 24,
    say: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Measures engines and ANNs in alternation.

    Args:
        engines: by name; the first is the one that the ratios are about, ``float32`` the one that it must not
            lose accuracy against.
        anns: see ``ann_contenders``; may be empty.
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
        work: dict[str, Callable[[], object]] = {ann.name: _bound(ann.run, images[:size]) for ann in anns}
        for name, engine in engines.items():
            work[name] = step_of(engine, images[:size])
        for name, timing in alternate(work, repeats).items():
            step.setdefault(name, {})[size] = timing
    say("images with exits")
    sample = images[: 8 * slots]
    sessions = {name: Session(engine, policy, timesteps, slots) for name, engine in engines.items()}
    mean_timesteps = float(sessions[main].run(Batch(sample)).cost.mean())
    endless = _throughput(sessions[main], sample) * mean_timesteps
    full = step_of(snn, sample[torch.arange(slots) % len(sample)])
    work = {ann.name: _bound(ann.run, images[:32]) for ann in anns}
    work |= {name: partial(session.run, Batch(sample)) for name, session in sessions.items()}
    work["slot step"] = full
    timed = alternate(work, repeats)
    rates = {ann.name: {32: len(images[:32]) / timed[ann.name].median} for ann in anns}
    rates |= {name: {slots: len(sample) / timed[name].median} for name in engines}
    say("latency of single images")
    latency = _latencies(snn, anns, policy, timesteps, images[:single])
    say("growth with timesteps")
    growth = grow_timesteps(snn, images[:32], max(1, repeats // 2))
    say("accuracy")
    accuracy = {
        ann.name: _right(torch.cat([ann.run(x) for x in torch.split(images, 64)]).argmax(-1), labels) for ann in anns
    }
    for name, session in sessions.items():
        found = session.run(Batch(images))
        accuracy[f"{name} with exits"] = _right(found.labels, labels)
        accuracy[f"{name} at T"] = _right(
            Session(session.engine, None, timesteps, slots).run(Batch(images)).labels, labels
        )
        if name == main:
            mean_timesteps = float(found.cost.mean())
    ratios = _ratios(main, anns, step, rates, latency, accuracy, batches, slots)
    ratios["early-exit efficiency"] = endless / (slots / timed["slot step"].median)
    ratios["log-log slope of time over timesteps"] = growth.slope
    return Bench(
        ratios=ratios,
        images_per_second=rates,
        latency_ms=latency,
        accuracy=accuracy,
        step=step,
        mean_timesteps=mean_timesteps,
        growth=growth,
        notes=[f"{name}: {engine.note}" for name, engine in engines.items()],
    )


def _ratios(
    main: str,
    anns: Sequence[Contender],
    step: Mapping[str, Mapping[int, Timing]],
    rates: Mapping[str, Mapping[int, float]],
    latency: Mapping[str, tuple[float, float]],
    accuracy: Mapping[str, float],
    batches: Sequence[int],
    slots: int,
) -> dict[str, float]:
    found: dict[str, float] = {}
    if "torch float32" in step:
        for size in batches:
            ratio = step[main][size].median / step["torch float32"][size].median
            found[f"step / torch float32 ANN forward, batch {size}"] = ratio
    for precision in ("float32", "int8"):
        names = [ann.name for ann in anns if ann.precision == precision]
        if names:
            fastest = max(rates[name][32] for name in names)
            found[f"images/s with exits / fastest {precision} ANN"] = rates[main][slots] / fastest
    if "onnxruntime float32" in latency:
        found["p50 latency with exits / onnxruntime float32 ANN"] = latency[main][0] / latency["onnxruntime float32"][0]
    if "float32 with exits" in accuracy and main != "float32":
        for how in ("with exits", "at T"):
            lost = 100 * (accuracy[f"float32 {how}"] - accuracy[f"{main} {how}"])
            found[f"accuracy points lost against float32, {how}"] = round(lost, 9)  # a number of images, as one
    return found


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


def _latencies(
    snn: Engine, anns: Sequence[Contender], policy: ExitPolicy, timesteps: int, images: Tensor
) -> dict[str, tuple[float, float]]:
    session = Session(snn, policy, timesteps, slots=1)
    runs: dict[str, Callable[[Tensor], object]] = {ann.name: ann.run for ann in anns}
    runs[snn.name] = lambda x: session.run([Batch(x)])
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for image in torch.split(images, 1):
        for name, timing in alternate({name: _bound(run, image) for name, run in runs.items()}, 1).items():
            seconds[name].append(1000 * timing.median)
    return {name: (statistics.median(ms), sorted(ms)[int(0.95 * (len(ms) - 1))]) for name, ms in seconds.items()}


def _right(labels: Tensor, truth: Tensor) -> float:
    return float((labels == truth).double().mean())


def _bound(run: Callable[[Any], object], argument: Any) -> Callable[[], object]:
    return lambda: run(argument)
