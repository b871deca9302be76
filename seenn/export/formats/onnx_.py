"""``onnx``: one graph with the steps in a loop whose condition is the exit rule, so that stopping saves the steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from seenn.export.about import about
from seenn.export.answers import Reference
from seenn.export.exporter import FORMATS, Format, Subject
from seenn.export.graphs import model_of, onnx_graphs, renamed
from seenn.export.ort import READER, Runner, images_of
from seenn.export.parts import STAND, Answer, Encode, Names, StepWithExit
from seenn.export.witness import BATCHES, free_runs, joined, parts_of

if TYPE_CHECKING:
    from onnx import ModelProto

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
        spikes = [[_spikes(watched({"images": part})) for part in batches] for batches in parts]
        clean, figures = free_runs(subject, READER, spikes)
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
    from onnx import TensorProto, helper

    names = Names.of(subject.network, subject.policy)
    carried = (*STAND, *names.states, *names.rule)
    parts = {"begin": Encode(subject, subject.policy), "step": StepWithExit(subject), "answer": Answer(subject)}
    found = onnx_graphs(parts, subject)
    begin, body, end = (found.parts[name] for name in parts)
    renamed(begin, {value.name: value.name.removeprefix("begin/") for value in (*begin.input, *begin.output)})
    renamed(body, {f"step/{name}": name for name in names.currents})  # what the loop sees from outside
    renamed(end, {value.name: value.name.removeprefix("answer/") for value in end.output})

    own = {value.name: value for value in body.input}
    del body.input[:]
    body.input.append(helper.make_tensor_value_info("step/index", TensorProto.INT64, []))
    body.input.append(helper.make_tensor_value_info("step/go", TensorProto.BOOL, []))
    body.input.extend(own[f"step/{name}"] for name in carried)
    del body.output[1 + len(carried) :]  # the spikes, which keep their names
    loop = helper.make_node(
        "Loop",
        ["timesteps", "", *carried],
        [f"answer/{name}" if name in Answer.inputs else f"end.{name}" for name in carried],
        name="steps",
        body=body,
    )
    steps = helper.make_tensor("timesteps", TensorProto.INT64, [], [subject.timesteps])
    graph = helper.make_graph(
        [*found.nodes, *begin.node, loop, *end.node],
        "seenn",
        list(begin.input),
        list(end.output),
        [*found.initializers, steps],
        doc_string="A spiking network that stops as soon as its exit rule says so.",
    )
    model = model_of(graph)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in about(subject).items()})
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


def _spikes(outputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values for name, values in outputs.items() if name.startswith("spikes.")}


FORMATS.register("onnx")(_Onnx())
