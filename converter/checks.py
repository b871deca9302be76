"""Does the spiking network say what its ANN says? Site by site, and at the output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from converter.statistics import relative_error, squared_norm
from seenn.analysis.synops import SpikeCounter
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Neuron
from seenn.distributed import world
from seenn.errors import ConversionError
from seenn.runtime import ScoreTrace, Session, SpikeSums, make_engine

#: A site whose error is as large as its signal (one that never fires, for example) says nothing about the ANN.
DIVERGED = 1.0
_MEMORY = 1 << 29


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """ANN and SNN side by side, on images that calibration did not see; by default on none.

    Attributes:
        samples: images compared.
        ann_accuracy: of the analog twin; None without labels.
        accuracy_per_timestep: of the SNN after t = 1 … T steps; empty without labels.
        agreement: share of images on which ANN and SNN (at T) give the same label, or share of the signs of several
            labels; None without images, or for quantities.
        output_error: ‖ANN output − mean SNN output at T‖ / ‖ANN output‖; None without images.
        relative_error: per site, ‖ANN activation − mean spike output at T‖ / ‖ANN activation‖, both networks
            running on their own.
        diverged: first site, in order of execution, whose relative error reaches 1; None if there is none.
        spikes: mean per image over T steps: ``events``, ``popcount`` and ``spikes`` of ``SpikeCounter``.
    """

    samples: int = 0
    ann_accuracy: float | None = None
    accuracy_per_timestep: tuple[float, ...] = ()
    agreement: float | None = None
    output_error: float | None = None
    relative_error: Mapping[str, float] = field(default_factory=dict)
    diverged: str | None = None
    spikes: Mapping[str, float | None] = field(
        default_factory=lambda: dict.fromkeys(("events", "popcount", "spikes"), None)
    )

    @property
    def accuracy_drop(self) -> float:
        """Of the SNN at T against the ANN, a share.

        Raises:
            ConversionError: the images have no labels, or none of single classes.
        """
        if self.ann_accuracy is None:
            raise ConversionError(
                "no accuracy is known of images without labels, or with other ones than classes: ask for agreement "
                "instead (--min-agreement)"
            )
        return self.ann_accuracy - self.accuracy_per_timestep[-1]

    def to_json(self) -> dict[str, Any]:
        """For manifests, without the sites."""
        figures = ("samples", "ann_accuracy", "agreement", "output_error", "diverged")
        found = {name: getattr(self, name) for name in figures}
        return {**found, "accuracy_per_timestep": list(self.accuracy_per_timestep)}


def check(
    network: SpikingNetwork,
    batches: Iterable[Batch],
    timesteps: int,
    *,
    task: str = "classes",
    session: Session | None = None,
    site_samples: int = 256,
) -> CheckReport:
    """Runs the network and its analog twin on the same images.

    Args:
        network: converted; its twin is the ANN.
        batches: with or without labels.
        timesteps: T.
        task: what the scores say, one of ``converter.outputs.TASKS``; accuracies are of classes.
        session: runs this network for T steps, every sample for all of them; None: on the reference engine.
        site_samples: at least so many of the first images (whole batches) enter the per-site errors; all enter
            the accuracies.

    Under ``torchrun`` the processes take turns at the batches, and each gets the whole report.

    Raises:
        ConversionError: no images.
        DataError: there are fewer batches than processes.
    """
    session = session or Session(make_engine("reference", network, timesteps=timesteps), None, timesteps)
    here = world()
    # One row a batch: same answers, ANN right, SNN right after each step; and per site, squared error and signal.
    counts: list[list[int]] = []
    squares: list[list[float]] = []
    numbers: list[int] = []
    number = samples = labelled = inspected = 0
    counter = SpikeCounter(network)
    with torch.no_grad():
        for number, batch in enumerate(batches):
            inspect_sites = samples < site_samples
            samples += len(batch)
            inspected += len(batch) * inspect_sites
            if task in ("labels", "values"):
                batch = replace(batch, labels=None)
            labelled += 0 if batch.labels is None else len(batch)
            if here.takes(number):
                watching = counter if inspect_sites else None
                count, square = _compare(network, batch, session, watching, several=task == "labels")
                counts.append(count)
                squares.append(square)
                numbers.append(number)
    if not samples:
        raise ConversionError("there are no images to check the conversion on")
    here.enough(number + 1, f"{samples} images in batches")
    order = torch.tensor(numbers)
    agree, ann_right, *right = here.in_order(torch.tensor(counts), order).sum(0).tolist()
    parts = here.in_order(torch.tensor(squares, dtype=torch.float64), order).sum(0).view(2, -1)
    counter.gather(here)
    output_error, *found = map(relative_error, *parts.tolist())
    errors = dict(zip(network.sites, found, strict=True))
    scores = math.prod(network.shapes[network.graph.output]) if task == "labels" else 1
    return CheckReport(
        samples=samples,
        ann_accuracy=ann_right / labelled if labelled else None,
        accuracy_per_timestep=tuple(count / labelled for count in right) if labelled else (),
        agreement=None if task == "values" else agree / (samples * scores),
        output_error=output_error,
        relative_error=errors,
        spikes={name: total / inspected for name, total in counter.totals.items()},
        diverged=next((site for site in network.sites if errors[site] >= DIVERGED), None),
    )


def images_at_once(network: SpikingNetwork) -> int:
    """How many images in a batch keep the check's memory, for two values of every site, within half a GiB."""
    shapes = network.graph.shapes(network.input_shape)
    held = 8 * sum(math.prod(shapes[site]) for site in network.sites)
    return max(1, _MEMORY // max(1, held))


def _compare(
    network: SpikingNetwork, batch: Batch, session: Session, counter: SpikeCounter | None, *, several: bool
) -> tuple[list[int], list[float]]:
    """Of one batch: same answers, ANN right, SNN right after each step; squared errors of the output and by site, then
    signals.

    Sites are looked at where there is a ``counter``, which then counts their spikes.
    """
    twin, timesteps = network.analog(), session.timesteps
    analog = twin.evaluate(batch.inputs.to(network.device), {twin.output, *(() if counter is None else network.sites)})
    neurons = {site: op for site in network.sites if isinstance(op := network.graph[site].op, Neuron)}
    weights = {site: partial(neuron.weight, timesteps=timesteps) for site, neuron in neurons.items()}
    scores, spikes = ScoreTrace(timesteps, len(batch)), SpikeSums(len(batch), weights)
    answers = session.run(batch, observers=(scores,) if counter is None else (scores, spikes, counter))
    wrong, power = dict.fromkeys(network.sites, 0.0), dict.fromkeys(network.sites, 0.0)
    for site, total in spikes.sums.items():
        wrong[site] = float(squared_norm(analog[site] - neurons[site].emit(total) / timesteps))
        power[site] = float(squared_norm(analog[site]))
    wanted = analog[twin.output].cpu()
    given = answers.logits_sum / timesteps
    ann = wanted.argmax(-1)
    same = ((wanted > 0) == (given > 0)) if several else (ann == answers.labels)
    ann_right, right = 0, [0] * timesteps
    if batch.labels is not None:
        ann_right = int((ann == batch.labels).sum())
        right = (scores.logits_sum.argmax(-1) == batch.labels).sum(1).tolist()
    output = [float(squared_norm(value)) for value in (wanted - given, wanted)]
    return [int(same.sum()), ann_right, *right], [output[0], *wrong.values(), output[1], *power.values()]
