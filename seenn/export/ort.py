"""Running ONNX files with onnxruntime, and holding them to the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seenn.errors import ExportError, first_line
from seenn.export.exporter import Subject
from seenn.export.parts import Names
from seenn.export.witness import Judgement, Moment, Witness
from seenn.runtime.lowering import InputScale

if TYPE_CHECKING:
    from onnx import ModelProto

READER = f"onnxruntime {version('onnxruntime')}"
BATCHES = (1, 7)
Spikes = Sequence[Mapping[str, Tensor]]  # of batches, by name


class Runner:
    """One ONNX file or model in onnxruntime, as a function of tensors by name.

    Raises:
        ExportError: onnxruntime refuses it.
    """

    def __init__(self, model: Path | ModelProto) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # what goes wrong is raised
        options.intra_op_num_threads = torch.get_num_threads()
        source = str(model) if isinstance(model, Path) else model.SerializeToString()
        try:
            self._session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common base
            raise ExportError(f"{READER} cannot load what was written: {first_line(error)}") from error
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs, from those of ``values`` that are inputs."""
        given = {name: np.ascontiguousarray(values[name].numpy()) for name in self.inputs}
        try:
            found = self._session.run(None, given)
        except Exception as error:
            raise ExportError(f"{READER} cannot run what was written: {first_line(error)}") from error
        return {name: torch.as_tensor(value) for name, value in zip(self.outputs, found, strict=True)}


def images_of(subject: Subject, frame: Tensor) -> Tensor:
    """What the file takes for these prepared inputs: the inputs, or their pixels ``[B, H, W, C]``."""
    if not subject.options.raw_pixels:
        return frame
    assert subject.preprocessing is not None
    pixels = InputScale.pixels(subject.preprocessing).quantize(frame)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8)


def parts_of(count: int, size: int) -> Iterable[slice]:
    """Batches of ``size`` among so many samples."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def judge_steps(subject: Subject, encode: Runner, step: Runner) -> dict[str, Any]:
    """Every step of every image in batches of 1 and 7: currents, spikes, outputs and states.

    Raises:
        ExportError: they are not the network's.
    """
    network, batch = subject.network, subject.batch
    names = Names.of(network)
    judgement = Judgement(witness=Witness(network), reader=READER)
    for moment in judgement.witness.moments(batch, subject.timesteps):
        given = {
            **dict(zip(names.currents, moment.currents, strict=True)),
            **dict(zip(names.states, moment.state, strict=True)),
        }
        images = images_of(subject, batch.frame(moment.t))
        for size in BATCHES:
            encoded, found = [], []
            for part in parts_of(len(batch), size):
                if moment.t == 1 or batch.is_sequence:
                    encoded.append(encode({"images": images[part]}))
                found.append(step({name: value[part] for name, value in given.items()}))
            for name, own in given.items() if encoded else ():
                if name in names.currents or moment.t == 1:
                    _near(name, joined(encoded, name), own)
            judgement.see(
                moment,
                {site: joined(found, f"spikes.{site}") for site in network.sites},
                joined(found, "logits"),
                tuple(joined(found, f"next.{name}") for name in names.states),
            )
    return {"images": len(batch), "timesteps": subject.timesteps, "batches": list(BATCHES), **judgement.figures}


def free_runs(subject: Subject, runs: Sequence[Spikes]) -> tuple[list[Tensor], dict[str, Any]]:
    """Which images come through all steps of each run without a tie, bool ``[N]``, from the reader's own start.

    Args:
        subject: the network.
        runs: of every batch, its sites' ``spikes.SITE`` ``[T', B, ...]`` in as many steps as it ran.

    Raises:
        ExportError: spikes that rounding does not explain.
    """
    judgement = Judgement(witness=Witness(subject.network), reader=READER)
    clean = [torch.ones(len(subject.batch), dtype=torch.bool) for _ in runs]
    for moment in judgement.witness.moments(subject.batch, subject.timesteps):
        for index, spikes in enumerate(runs):
            counts = {site: _of_step(spikes, site, moment) for site in moment.counts}
            clean[index] = judgement.see(moment, counts, clean=clean[index], steps=moment.t)
    return clean, {name: judgement.figures[name] for name in ("spikes", "ties")}


def _of_step(spikes: Spikes, site: str, moment: Moment) -> Tensor:
    """Of batches that are over, what the network has: nobody looks at it any more."""
    own, found, start = moment.counts[site], [], 0
    for part in spikes:
        values = part[f"spikes.{site}"]
        stop = start + values.shape[1]
        found.append(values[moment.t - 1] if moment.t <= len(values) else own[start:stop])
        start = stop
    return torch.cat(found)


def joined(parts: Iterable[Mapping[str, Tensor]], name: str) -> Tensor:
    """One output of several batches."""
    return torch.cat([part[name] for part in parts])


def _near(name: str, theirs: Tensor, own: Tensor) -> None:
    finite = torch.where(own.isfinite(), own, 0.0)
    away = torch.where(theirs == own, 0.0, (theirs - own).abs())
    if not bool((away <= 1e-5 * finite.abs().max()).all()):
        raise ExportError(f"{READER} computes otherwise: {name} is {float(away.max()):.2e} away. Nothing was written")
