"""What was written for 0.1: it goes on for one version, and says what to write instead."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.analysis.report.evaluation import Evaluation
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data import Split
from seenn.exits import ConfidenceExit, ExitCalibration, ExitPolicy, calibrate_exit
from seenn.runtime import Engine, Prediction, Predictions
from seenn.snn import SNN

Old = TypeVar("Old", bound=Callable[..., Any])


def _now(new: str) -> Callable[[Old], Old]:
    """Decorator: a name of 0.1, whose every call warns and names the ``new`` way."""

    def add(old: Old) -> Old:
        @functools.wraps(old)
        def warned(*arguments: Any, **options: Any) -> Any:
            message = f"seenn.{old.__name__} is of seenn 0.1 and goes with 0.3: use {new}"
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            return old(*arguments, **options)

        return warned  # type: ignore[return-value]

    return add


@_now("seenn.SNN")
def Checkpoint(*, rounding: object = None, **fields: Any) -> SNN:
    """A ``rounding`` is made anew by ``SNN.prepare``."""
    return SNN(**fields)


@_now("snn.save(path)")
def save(path: str | os.PathLike[str], checkpoint: SNN) -> None:
    checkpoint.save(path)


@_now("seenn.load(path).predict(images), or seenn.SNN(network=network).predict(images)")
def predict(
    network: SpikingNetwork,
    images: Tensor | Iterable[Tensor],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    engine: Engine | None = None,
    batch_size: int = 64,
) -> Predictions:
    """On the reference engine where none is given."""
    batches = [images] if isinstance(images, Tensor) else images
    session = SNN(network=network).session(engine or "reference", policy=policy, timesteps=timesteps, slots=batch_size)
    return session.run(Batch.of(images, network.input_shape) for images in batches)


@_now('seenn.SNN(network=network).predict(images, engine="reference")')
def run_reference(network: SpikingNetwork, images: Tensor, policy: ExitPolicy, timesteps: int) -> Predictions:
    return SNN(network=network).predict(images, engine="reference", policy=policy, timesteps=timesteps)


@_now("seenn.load(path).stream(source)")
def stream(
    network: SpikingNetwork | Engine,
    images: Iterable[Any],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    rounding: object = None,
    **options: Any,
) -> Iterator[Prediction]:
    """Of a network, or of an engine made from one."""
    if not isinstance(network, SpikingNetwork):
        options["engine"] = network
    snn = SNN(network=network, preprocessing=options.pop("preprocessing", None))  # type: ignore[arg-type]
    return snn.stream(images, policy=policy, timesteps=timesteps, **options)


@_now("snn.evaluate(split)")
def evaluate(
    checkpoint: SNN,
    split: Split,
    *,
    data: str = "",
    class_names: object = (),
    engine: Engine | None = None,
    **options: Any,
) -> Evaluation:
    """On the reference engine where none is given; a split knows its data and classes."""
    return checkpoint.evaluate(split, engine=engine or "reference", **options)


@_now("snn.calibrate_exit(split), or seenn.analysis.collect.collect_run")
def collect_logits(
    network: SpikingNetwork, batches: Iterable[Batch | tuple[Tensor, Tensor]], timesteps: int
) -> tuple[Tensor, Tensor]:
    """``logits_sum`` ``[T, N, K]`` and labels."""
    found = [b if isinstance(b, Batch) else Batch.of(b[0], network.input_shape, b[1]) for b in batches]
    run = collect_run(network, found, timesteps)
    return run.logits_sum, run.labels


@_now("snn.calibrate_exit(split), or seenn.exits.calibrate_exit")
def calibrate_confidence(
    logits_sum: Tensor, labels: Tensor, base: ConfidenceExit, *, max_accuracy_drop: float | None = None
) -> ExitCalibration[ConfidenceExit]:
    """SEENN-I at the threshold that keeps the drop."""
    return calibrate_exit(logits_sum, labels, base, max_accuracy_drop=max_accuracy_drop)
