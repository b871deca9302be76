"""``onnx-qdq``: the ANN that the network stands for, its neurons as quantisers, for runtimes that compute in int8.

Over T steps a neuron's mean output is its activation, rounded to multiples of θ/T and cut off at Γ·θ, or where a
quantised activation ends. That is what QuantizeLinear and DequantizeLinear compute, with levels of θ/T, or coarser ones
where a byte does not hold them; half a level is added where the neuron does not start at θ/2, and the half itself
rounds. Weights are int8, one scale for each output channel; those of layers that read the image itself stay in float.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from seenn.core.graph import Node
from seenn.core.ops import IntegratingNeuron, Quantiser, Synapse
from seenn.core.ops.arguments import per_channel
from seenn.errors import ExportError, first_line
from seenn.export.about import about
from seenn.export.exporter import FORMATS, REPORT, Format, Subject
from seenn.export.graphs import OPSET, onnx_graphs
from seenn.export.ort import READER, Runner, images_of
from seenn.export.parts import Part, Tensors
from seenn.export.witness import BATCHES, parts_of

AGREEMENT = 0.99  # of the labels with those of the network after T steps
_UNSIGNED, _SIGNED = 255, 127  # levels of a byte above zero
_PART = "ann"


class _OnnxQdq(Format):
    suffix = ".qdq.onnx"
    packages, extra = ("onnx", "onnxscript", "onnxruntime"), "onnx"
    takes = ("raw_pixels", "reader")
    readers = ("onnxruntime", "openvino")
    images = 100

    def violations(self, subject: Subject) -> Iterable[str]:
        reader = subject.options.reader
        if not _readers(reader):
            yield f"--reader {reader} is not installed: pip install 'seenn[{reader}]'"
        for node in subject.network.graph:
            if node.op.fires and not isinstance(node.op, IntegratingNeuron):
                yield f"{node.name} ({node.op.title}): stands for no activation: use --to onnx"
        if subject.batch.is_sequence:
            yield "one frame a timestep, which an ANN does not read: use --to onnx-step"

    def write(self, subject: Subject, path: Path) -> None:
        from onnx import helper

        model = onnx_graphs({_PART: QuantisedAnn(subject)}, subject).model(_PART)
        helper.set_model_props(model, {name: json.dumps(value) for name, value in about(subject).items()})
        path.write_bytes(model.SerializeToString())

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        network, batch = subject.network, subject.batch
        parts = [batch.inputs[part] for part in parts_of(len(batch), BATCHES[-1])]
        expected = torch.cat([network(part, subject.timesteps).argmax(-1) for part in parts])
        images = [images_of(subject, part) for part in parts]
        found = {name: ask(path, images) for name, ask in _readers(subject.options.reader).items()}
        shares = {reader: float((labels == expected).double().mean()) for reader, labels in found.items()}
        if min(shares.values()) < AGREEMENT:
            ann = network.analog()
            alike = float((torch.cat([ann(part).argmax(-1) for part in parts]) == expected).double().mean())
            if max(shares.values()) >= AGREEMENT:
                advice = "they read the file differently: say --reader onnxruntime or openvino for one of them"
            elif alike < AGREEMENT:
                advice = (
                    "spikes come too unevenly: give more --timesteps, or convert with --neuron signed, more --levels"
                )
            else:
                advice = "int8 is too coarse for it: use --to onnx"
            said = " and ".join(f"{reader}: {share:.1%}" for reader, share in shares.items())
            raise ExportError(
                f"{said} of {len(expected)} labels are those of the network after {subject.timesteps} steps, expected "
                f"{AGREEMENT:.0%} (its ANN in float: {alike:.1%}): {advice}"
            )
        return " and ".join(found), {"images": len(batch), "timesteps": subject.timesteps, "agreement": shares}


def _readers(chosen: str | None) -> dict[str, Callable[[Path, Sequence[Tensor]], Tensor]]:
    """What runs the file, by name and version: who is chosen, or all that are installed."""
    known = {READER: _onnxruntime_labels}
    if find_spec("openvino") is not None:
        known[f"OpenVINO {version('openvino')}"] = openvino_labels
    return {name: ask for name, ask in known.items() if name.lower().startswith(chosen or "")}


def _onnxruntime_labels(path: Path, images: Sequence[Tensor]) -> Tensor:
    runner = Runner(path)
    return torch.cat([runner({"images": part})["labels"] for part in images])


def openvino_labels(path: Path, images: Sequence[Tensor]) -> Tensor:
    """What OpenVINO's int8 kernels answer, batch by batch.

    Raises:
        ExportError: it cannot run the file.
    """
    import openvino

    try:
        model = openvino.Core().compile_model(str(path), "CPU")
        return torch.cat([torch.as_tensor(model({"images": part.numpy()})["labels"]) for part in images])
    except Exception as error:  # its errors have no common base
        raise ExportError(f"OpenVINO cannot run what was written ({first_line(error)}): {REPORT}") from error


class QuantisedAnn(Part):
    """Images to labels and outputs."""

    inputs = ("images",)
    outputs = ("labels", "logits")

    def __init__(self, subject: Subject) -> None:
        graph = subject.network.graph
        prefix = subject.network.prefix  # what meets the image, which is not quantised, is computed in float anyway
        int8 = {node.name for node in graph if isinstance(node.op, Synapse)} - prefix
        own = {node.name for node in graph if isinstance(node.op, IntegratingNeuron)} | int8
        super().__init__(subject.network, [node.name for node in graph if node.name not in own])
        self._int8 = int8
        self._timesteps = subject.timesteps
        self._pixels = subject.pixels if subject.options.raw_pixels else None
        for node in graph:
            constants: dict[str, Tensor] = {}
            if isinstance(node.op, IntegratingNeuron):
                constants = _of_neuron(node.op, subject.timesteps, images=len(self.network.shapes[node.name]) == 3)
                self.add_module(_buffer(node, "activation"), node.op.activation())
            elif isinstance(node.op, Synapse) and node.name in int8:
                constants = _of_synapse(node.op)
            for name, value in constants.items():
                self.register_buffer(_buffer(node, name), value)

    def forward(self, *values: Tensor) -> Tensors:
        (images,) = values
        if self._pixels is not None:
            images = self._pixels(images.permute(0, 3, 1, 2))
        graph = self.network.graph
        logits = graph.evaluate(images, {graph.output}, self._visit)[graph.output]
        return logits.argmax(-1), logits

    def _visit(self, node: Node, inputs: Tensors) -> Tensor:
        op = node.op
        if isinstance(op, Synapse) and node.name in self._int8:
            weight = _dequantised(self._of(node, "weight"), self._of(node, "scale"), self._of(node, "zero"), axis=0)
            return op.response(inputs[0], weight, self._of(node, "bias") if op.bias is not None else None)
        if isinstance(op, IntegratingNeuron):
            (x,) = inputs
            if op.bias is not None:
                x = x + per_channel(self._of(node, "bias"), x, op.axis)
            shift, low, high = (per_channel(self._of(node, name), x, op.axis) for name in ("shift", "low", "high"))
            activation = getattr(self, _buffer(node, "activation"))
            if activation.two_sided and not isinstance(activation, Quantiser):
                x = activation(x)
            x = torch.minimum(torch.maximum(x + shift, low), high)
            if (step := self._buffers.get(_buffer(node, "step"))) is not None:
                step = per_channel(step, x, op.axis)
                x = (x / step).round() * step
            scale, zero = self._of(node, "scale"), self._of(node, "zero")
            return _dequantised(_quantised(x, scale, zero, op.axis), scale, zero, op.axis)
        return op.constant(*inputs)

    def _of(self, node: Node, name: str) -> Tensor:
        found: Tensor = getattr(self, _buffer(node, name))
        return found


def _buffer(node: Node, name: str) -> str:
    return f"{node.name.replace('.', '_')}_{name}"


def _of_synapse(op: Synapse) -> dict[str, Tensor]:
    weight = op.weight.detach()
    scale = weight.abs().flatten(1).amax(1).clamp(min=1e-30) / _SIGNED
    levels = (weight / scale.view(-1, *[1] * (weight.dim() - 1))).round().clamp(-_SIGNED, _SIGNED)
    found = {"weight": levels.to(torch.int8), "scale": scale, "zero": torch.zeros(len(scale), dtype=torch.int8)}
    return found if op.bias is None else {**found, "bias": op.bias.detach()}


def _of_neuron(op: IntegratingNeuron, timesteps: int, *, images: bool) -> dict[str, Tensor]:
    """Scale and zero of its levels, what is added before rounding, and the ends of its range.

    Channels of images have a scale each. All others share one, or OpenVINO misreads them: there ``step`` rounds first.
    """
    activation, theta = op.activation(), op.v_threshold.detach()
    kind, levels = (torch.int8, _SIGNED) if activation.two_sided else (torch.uint8, _UNSIGNED)
    high = theta * op.max_spikes
    low = -high if activation.two_sided else torch.zeros_like(high)
    if isinstance(activation, Quantiser):
        unit, steps, lowest, highest = activation.grid
        low, high = torch.maximum(low, unit * (lowest / steps)), torch.minimum(high, unit * (highest / steps))
    reach = torch.maximum(-low, high)
    scale = torch.maximum(theta / timesteps, reach / levels)
    found = {"shift": (op.v_init.detach() - 0.5) * theta / timesteps, "low": low, "high": high}
    if op.bias is not None:
        found["bias"] = op.bias.detach()
    if scale.dim() and not (images and op.axis == 1):
        found["step"], scale = scale, reach.max() / levels
    return {**found, "scale": scale, "zero": torch.zeros(scale.shape, dtype=kind)}


def _quantised(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return _symbolic("QuantizeLinear", (x, scale, zero), axis, zero.dtype, x)


def _dequantised(x: Tensor, scale: Tensor, zero: Tensor, axis: int) -> Tensor:
    return _symbolic("DequantizeLinear", (x, scale, zero), axis, scale.dtype, x)


def _symbolic(name: str, inputs: Tensors, axis: int, dtype: torch.dtype, like: Tensor) -> Tensor:
    """An ONNX op that torch has no word for."""
    attributes: dict[str, Any] = {"axis": axis} if inputs[1].dim() else {}
    return torch.onnx.ops.symbolic(name, inputs, attributes, dtype=dtype, shape=like.shape, version=OPSET)


FORMATS.register("onnx-qdq")(_OnnxQdq())
