"""Running ONNX files with onnxruntime, and holding them to the network."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from seenn.errors import ExportError, first_line
from seenn.export.exporter import REPORT, Subject
from seenn.export.parts import Names
from seenn.export.witness import BATCHES, Judgement, Witness, joined, parts_of

if TYPE_CHECKING:
    from onnx import ModelProto

READER = f"onnxruntime {version('onnxruntime')}"


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
            raise ExportError(f"{READER} cannot load what was written ({first_line(error)}): {REPORT}") from error
        self.inputs = tuple(value.name for value in self._session.get_inputs())
        self.outputs = tuple(value.name for value in self._session.get_outputs())

    def __call__(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All outputs, from those of ``values`` that are inputs."""
        given = {name: np.ascontiguousarray(values[name].numpy()) for name in self.inputs}
        try:
            found = self._session.run(None, given)
        except Exception as error:
            raise ExportError(f"{READER} cannot run what was written ({first_line(error)}): {REPORT}") from error
        return {name: torch.as_tensor(value) for name, value in zip(self.outputs, found, strict=True)}


def images_of(subject: Subject, frame: Tensor) -> Tensor:
    """What the file takes for these prepared inputs: the inputs, or their pixels ``[B, H, W, C]``."""
    if not subject.options.raw_pixels:
        return frame
    assert subject.pixels is not None
    mean, std = (frame.new_tensor(values).view(-1, 1, 1) for values in (subject.pixels.mean, subject.pixels.std))
    return ((frame * std + mean) * 255).round().clamp(0, 255).permute(0, 2, 3, 1).to(torch.uint8)


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


def _near(name: str, theirs: Tensor, own: Tensor) -> None:
    finite = torch.where(own.isfinite(), own, 0.0)
    away = torch.where(theirs == own, 0.0, (theirs - own).abs())
    if not bool((away <= 1e-5 * finite.abs().max()).all()):
        raise ExportError(f"{READER} computes otherwise: {name} is {float(away.max()):.2e} away: {REPORT}")
