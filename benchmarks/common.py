"""What the benchmarks share: a trained ANN, its data, and how a network's accuracy is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import torch
from bars import Row, write_results
from torch import Tensor, nn

from converter.load import ModelSpec, load_model, parse_model_kwargs
from seenn.analysis.collect import collect_run
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, Split, load_data
from seenn.exits import ExitPolicy
from seenn.metrics import correct_per_timestep
from seenn.runtime import Observer, Predictions, Session
from seenn.runtime.engines.reference import ReferenceEngine

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Subject:
    """The network that a benchmark is about, and its data."""

    model: nn.Module
    splits: DataSplits


def subject_options(command):  # type: ignore[no-untyped-def]
    """``--ckpt``, ``--model``, ``--model-kwargs``, ``--data``, ``--data-dir``."""
    for option in (
        click.option("--data-dir", help="Folder with the data set's files."),
        click.option("--data", default="fashion-mnist", show_default=True),
        click.option("--model-kwargs", multiple=True, help="As for seenn convert."),
        click.option("--model", default="resnet18", show_default=True),
        click.option("--ckpt", required=True, type=click.Path(exists=True, dir_okay=False), help="Trained ANN."),
    ):
        command = option(command)
    return command


def load_subject(ckpt: str, model: str, model_kwargs: tuple[str, ...], data: str, data_dir: str | None) -> Subject:
    """The trained ANN, and the data prepared as it wants them."""
    loaded = load_model(ModelSpec(name=model, kwargs=parse_model_kwargs(model_kwargs)), ckpt)
    splits = load_data(data, data_dir=data_dir, preprocessing=loaded.preprocessing)
    return Subject(loaded.module, splits)


def ann_answers(model: nn.Module, split: Split, limit: int | None = None) -> Tensor:
    """Whether the ANN labels each image correctly, bool ``[N]``."""
    with torch.no_grad():
        return torch.cat([model(b.inputs).argmax(-1) == b.labels for b in split.batches(250, limit=limit)])


def snn_answers(network: SpikingNetwork, split: Split, timesteps: int, limit: int | None = None) -> Tensor:
    """Whether the SNN labels each image correctly after each step, bool ``[T, N]``."""
    run = collect_run(network, split, timesteps, limit=limit)
    return correct_per_timestep(run.logits_sum, run.labels)


class SpikeCount(Observer):
    """All spikes of a run, up to each sample's exit."""

    def __init__(self) -> None:
        self.total = 0.0

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        self.total += float(counts.abs().sum())


def with_exits(
    network: SpikingNetwork,
    split: Split,
    policy: ExitPolicy,
    timesteps: int,
    limit: int | None = None,
    observers: Sequence[Observer] = (),
) -> Predictions:
    """The samples through the reference engine, each until its exit."""
    session = Session(ReferenceEngine(network), policy, timesteps, 64)
    return session.run(split.batches(64, limit=limit), observers=observers)


def drop_in_points(reference: Tensor, answers: Tensor) -> tuple[float, float]:
    """How many points fewer ``answers`` are right than ``reference``, on the same images, and its standard error."""
    difference = reference.double() - answers.double()
    return 100 * float(difference.mean()), 100 * float(difference.std()) / len(difference) ** 0.5


def conclude(out: str, title: str, rows: Sequence[Row], notes: Sequence[str]) -> None:
    """Writes the result files, and ends in an error where a bar is missed."""
    for path in write_results(out, title, rows, notes=notes):
        click.echo(f"wrote {path}")
    if missed := [row.name for row in rows if not row.ok]:
        raise click.ClickException(f"missed: {'; '.join(missed)}")
