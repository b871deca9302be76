"""What was written for 0.1: it goes on for one version, and says what to write instead."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data import Preprocessing
from seenn.exits import ConfidenceExit, ExitCalibration, ExitPolicy, calibrate_exit
from seenn.runtime import Engine, Prediction, Predictions
from seenn.snn import SNN

if TYPE_CHECKING:
    from collections.abc import Sequence


def _instead(old: str, new: str) -> None:
    warnings.warn(f"{old} is of seenn 0.1 and goes with 0.3: use {new}", DeprecationWarning, stacklevel=3)


def Checkpoint(**fields: Any) -> SNN:
    """``SNN`` under its old name; a ``rounding`` is made anew by ``SNN.prepare``."""
    _instead("seenn.Checkpoint", "seenn.SNN")
    fields.pop("rounding", None)
    return SNN(**fields)


def save(path: str | os.PathLike[str], checkpoint: SNN) -> None:
    """``SNN.save``."""
    _instead("seenn.save(path, checkpoint)", "snn.save(path)")
    checkpoint.save(path)


def predict(
    network: SpikingNetwork,
    images: Tensor | Iterable[Tensor],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    engine: Engine | None = None,
    batch_size: int = 64,
) -> Predictions:
    """``SNN.predict``, on the reference engine where none is given."""
    _instead(
        "seenn.predict(network, …)", "seenn.SNN(network=network).predict(images), or seenn.load(path).predict(images)"
    )
    batches = [images] if isinstance(images, Tensor) else images
    session = SNN(network=network).session(engine or "reference", policy=policy, timesteps=timesteps, slots=batch_size)
    return session.run(Batch.of(images, network.input_shape) for images in batches)


def stream(
    network: SpikingNetwork,
    images: Iterable[Any],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    preprocessing: Preprocessing | None = None,
    **options: Any,
) -> Iterator[Prediction]:
    """``SNN.stream``."""
    _instead("seenn.stream(network, …)", "seenn.load(path).stream(source)")
    snn = SNN(network=network, preprocessing=preprocessing)
    return snn.stream(images, policy=policy, timesteps=timesteps, **options)


def collect_logits(network: SpikingNetwork, batches: Iterable[Batch], timesteps: int) -> tuple[Tensor, Tensor]:
    """``logits_sum`` ``[T, N, K]`` and labels of ``seenn.analysis.collect.collect_run``."""
    _instead("seenn.collect_logits", "snn.calibrate_exit(split), or seenn.analysis.collect.collect_run")
    found: Sequence[Batch] = [b if isinstance(b, Batch) else Batch.of(b[0], network.input_shape, b[1]) for b in batches]
    run = collect_run(network, found, timesteps)
    return run.logits_sum, run.labels


def calibrate_confidence(
    logits_sum: Tensor, labels: Tensor, base: ConfidenceExit, *, max_accuracy_drop: float | None = None
) -> ExitCalibration[ConfidenceExit]:
    """``calibrate_exit`` for SEENN-I."""
    _instead("seenn.calibrate_confidence", "snn.calibrate_exit(split), or seenn.exits.calibrate_exit")
    return calibrate_exit(logits_sum, labels, base, max_accuracy_drop=max_accuracy_drop)
