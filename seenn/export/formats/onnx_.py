"""``onnx``: one graph with the steps in a loop whose condition is the exit rule, so that stopping saves the steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from seenn.export.about import about
from seenn.export.answers import Reference
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.graphs import IR_VERSION, OPSET, onnx_model
from seenn.export.ort import READER, Runner, images_of
from seenn.export.parts import STAND, Answer, Encode, Names, Part, StepWithExit, example
from seenn.export.witness import BATCHES, free_runs, joined, parts_of

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

SPIKES = "step/spikes."


class _Onnx(Format):
    suffix = ".onnx"
    packages, extra = ("onnx", "onnxscript", "onnxruntime"), "onnx"
    takes = ("raw_pixels",)

    def violations(self, subject: Subject) -> Iterable[str]:
        if subject.batch.is_sequence:
            yield "one frame a timestep, which a loop over one image does not read: use --to onnx-step"

    def write(self, subject: Subject, path: Path) -> None:
        path.write_bytes(looping_model(subject).SerializeToString())

    def verify(self, subject: Subject, path: Path) -> tuple[str, Mapping[str, Any]]:
        images, reference = images_of(subject, subject.batch.inputs), Reference.of(subject)
        file, watched = Runner(path), Runner(with_spikes(path))
        parts = [[images[part] for part in parts_of(len(images), size)] for size in BATCHES]
        clean, figures = free_runs(
            subject, READER, [[watched({"images": part}) for part in batches] for batches in parts]
        )
        for batches, own in zip(parts, clean, strict=True):
            answers = [file({"images": part}) for part in batches]
            labels, steps, logits = (joined(answers, name) for name in ("labels", "exit_timestep", "logits"))
            found = reference.judge(READER, labels, steps, logits, own)
        where = {"images": len(images), "timesteps": subject.timesteps, "batches": list(BATCHES)}
        return READER, {**where, "spikes": figures["spikes"], "ties": figures["ties"], **found}


def looping_model(subject: Subject) -> ModelProto:
    """images → labels, exit_timestep, confidence, logits.

    Weights lie in the outer graph, where both it and the body of the loop find them.
    """
    import onnx
    from onnx import TensorProto, helper

    names = Names.of(subject.network, subject.policy)
    carried = (*STAND, *names.states, *names.rule)
    begin, body, end = (
        _part(part, subject).graph for part in (Encode(subject, subject.policy), StepWithExit(subject), Answer(subject))
    )
    _prefix(body, "step/", keep={*names.currents})
    del body.output[1 + len(carried) :]  # the spikes, which keep their names
    _prefix(end, "answer/", keep={*Answer.outputs})
    outside = [*body.initializer, *end.initializer]
    del body.initializer[:], end.initializer[:]

    inside = {value.name: value for value in body.input}
    del body.input[:]
    body.input.append(helper.make_tensor_value_info("step/index", TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info("step/go", TensorProto.BOOL, []))
    body.input.extend(inside[f"step/{name}"] for name in carried)
    loop = helper.make_node(
        "Loop",
        ["timesteps", "", *carried],
        [f"answer/{name}" if name in Answer.inputs else f"end.{name}" for name in carried],
        name="steps",
        body=body,
    )
    steps = helper.make_tensor("timesteps", TensorProto.INT64, [], [subject.timesteps])
    graph = helper.make_graph(
        [*begin.node, loop, *end.node],
        "seenn",
        list(begin.input),
        list(end.output),
        [*begin.initializer, *outside, steps],
        doc_string="A spiking network that stops as soon as its exit rule says so.",
    )
    model = helper.make_model(
        graph,
        producer_name="seenn",
        ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)],
    )
    helper.set_model_props(model, {name: json.dumps(value) for name, value in about(subject).items()})
    onnx.checker.check_model(model)
    return model


def with_spikes(path: Path) -> ModelProto:
    """What is in the file, with every site's spike counts ``[T', B, ...]`` as outputs beside its own."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(path)
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    body = loop.attribute[0].g
    for name in [name for node in body.node for name in node.output if name.startswith(SPIKES)]:
        body.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        loop.output.append(name.removeprefix("step/"))
        model.graph.output.append(helper.make_tensor_value_info(loop.output[-1], TensorProto.FLOAT, None))
    return model


def _part(part: Part, subject: Subject) -> ModelProto:
    with torch.no_grad():
        return onnx_model(part, example(part, subject))


def _prefix(graph: GraphProto, prefix: str, keep: set[str]) -> None:
    """Gives every value and node in the graph a name of its own, those in ``keep`` aside."""

    def named(name: str) -> str:
        return name if not name or name in keep else prefix + name

    for node in graph.node:
        node.name = prefix + node.name
        node.input[:] = map(named, node.input)
        node.output[:] = map(named, node.output)
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = named(value.name)


FORMATS.register("onnx")(_Onnx())
