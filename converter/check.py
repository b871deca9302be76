"""Does the spiking network say what its ANN says? Site by site, and at the output."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from seenn.batch import Batch
from seenn.core.graph import Node
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Activation, Neuron, StatelessOp
from seenn.distributed import world
from seenn.errors import ConversionError
from seenn.exits import FixedExit
from seenn.runtime.reference import run_reference

#: A site whose error is as large as its signal (one that never fires, for example) says nothing about the ANN.
DIVERGED = 1.0


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """ANN and SNN side by side, on images that calibration did not see.

    Attributes:
        samples: images compared.
        ann_accuracy: of the analog twin; None without labels.
        accuracy_per_timestep: of the SNN after t = 1 … T steps; empty without labels.
        agreement: share of images on which ANN and SNN (at T) give the same label.
        relative_error: per site, ‖ANN activation − mean spike output at T‖ / ‖ANN activation‖, both networks
            running on their own.
        diverged: first site, in order of execution, whose relative error reaches 1; None if there is none.
    """

    samples: int
    ann_accuracy: float | None
    accuracy_per_timestep: tuple[float, ...]
    agreement: float
    relative_error: Mapping[str, float]
    diverged: str | None


def check(
    network: SpikingNetwork,
    batches: Iterable[Batch],
    timesteps: int,
    *,
    site_samples: int = 256,
) -> CheckReport:
    """Runs the network and its analog twin on the same images.

    Args:
        network: converted; its twin is the ANN.
        batches: with or without labels.
        timesteps: T.
        site_samples: at least so many of the first images (whole batches) enter the per-site errors; all enter
            the accuracies.

    Under ``torchrun`` the processes take turns at the batches, and each gets the whole report.

    Raises:
        ConversionError: no images.
        DataError: there are fewer batches than processes.
    """
    twin, here = network.analog(), world()
    # One row a batch: same answers, ANN right, SNN right after each step; and per site, squared error and signal.
    counts: list[list[int]] = []
    squares: list[list[float]] = []
    numbers: list[int] = []
    number = samples = labelled = 0
    with torch.no_grad():
        for number, batch in enumerate(batches):
            images, labels = batch.inputs, batch.labels
            inspect_sites = samples < site_samples
            samples += len(images)
            labelled += 0 if labels is None else len(labels)
            if not here.takes(number):
                continue
            images = images.to(network.device)
            analog: dict[str, Tensor] = {}
            sums: dict[str, Tensor] = {}

            def keep(node: Node, inputs: tuple[Tensor, ...], analog: dict[str, Tensor] = analog) -> Tensor:
                assert isinstance(node.op, StatelessOp)
                value: Tensor = node.op(*inputs)
                if isinstance(node.op, Activation):
                    analog[node.name] = value
                return value

            def add(t: int, rows: Tensor, site: str, count: Tensor, sums: dict[str, Tensor] = sums) -> None:
                if t > 0:
                    sums[site] = sums[site] + count if site in sums else count

            output = twin.evaluate(images, {twin.output}, keep if inspect_sites else None)[twin.output]
            run = run_reference(
                network,
                images,
                FixedExit(),
                timesteps,
                keep_logits=True,
                observe=add if inspect_sites else None,
            )
            assert run.logits_sum_per_step is not None
            wrong, power = dict.fromkeys(network.sites, 0.0), dict.fromkeys(network.sites, 0.0)
            for site, total in sums.items():
                neuron = network.graph[site].op
                assert isinstance(neuron, Neuron)
                error = analog[site] - neuron.emit(total) / timesteps
                wrong[site] = float(error.square().sum(dtype=torch.float64))
                power[site] = float(analog[site].square().sum(dtype=torch.float64))
            answer = output.argmax(-1)
            ann_right, right = 0, [0] * timesteps
            if labels is not None:
                labels = labels.to(network.device)
                ann_right = int((answer == labels).sum())
                right = (run.logits_sum_per_step.argmax(-1) == labels).sum(1).tolist()
            counts.append([int((answer == run.labels).sum()), ann_right, *right])
            squares.append([*wrong.values(), *power.values()])
            numbers.append(number)
    if not samples:
        raise ConversionError("there are no images to check the conversion on")
    here.enough(number + 1, f"{samples} images in batches")
    order = torch.tensor(numbers)
    agree, ann_right, *right = here.in_order(torch.tensor(counts), order).sum(0).tolist()
    parts = here.in_order(torch.tensor(squares, dtype=torch.float64), order).sum(0).view(2, -1)
    relative = {
        site: (wrong / power) ** 0.5 if power > 0 else float(wrong > 0)
        for site, wrong, power in zip(network.sites, *parts.tolist(), strict=True)
    }
    return CheckReport(
        samples=samples,
        ann_accuracy=ann_right / labelled if labelled else None,
        accuracy_per_timestep=tuple(count / labelled for count in right) if labelled else (),
        agreement=agree / samples,
        relative_error=relative,
        diverged=next((site for site in network.sites if relative[site] >= DIVERGED), None),
    )
