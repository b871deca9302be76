"""Parts of a network as programs of torch, and as ONNX graphs."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from seenn.errors import UnsupportedError, first_line
from seenn.export.exporter import Subject
from seenn.export.parts import Part, Together, example

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

PRODUCER = "seenn"  # by which a file of these says that it is a spiking network
OPSET = 20
IR_VERSION = 10  # what onnxruntime 1.18 reads
BATCH = "batch"  # the name of every axis whose size follows the images
_LARGEST = (1 << 31) - (1 << 20)  # bytes of a protobuf message


def program(part: Part, values: Mapping[str, Tensor]) -> ExportedProgram:
    """``part`` as torch sees it, for any batch.

    Raises:
        UnsupportedError: torch cannot follow it.
    """
    given = tuple(values[name] for name in part.inputs)
    shapes = (tuple({0: Dim.DYNAMIC} for _ in given),)
    try:
        with _quiet(), torch.no_grad():
            return torch.export.export(part.eval(), given, dynamic_shapes=shapes, strict=False)
    except Exception as error:  # whatever the compiler stumbles over
        raise UnsupportedError(
            f"torch.export cannot follow the network or its exit rule for any batch ({first_line(error)}): ops and "
            "rules of your own must compute with tensors alone, len(x) being x.shape[0]"
        ) from error


@dataclass(frozen=True, kw_only=True, eq=False)
class Graphs:
    """Several parts as ONNX graphs that share their weights.

    Attributes:
        parts: by name, without initializers; values are called after part and name, ``step/current.conv1``.
        nodes, initializers: what all may read.
    """

    parts: Mapping[str, GraphProto]
    nodes: Sequence[NodeProto]
    initializers: Sequence[TensorProto]

    def model(self, name: str) -> ModelProto:
        """One of the parts alone, its values called as the part calls them."""
        from onnx import GraphProto

        graph = GraphProto()
        graph.CopyFrom(self.parts[name])
        renamed(graph, {value.name: value.name.removeprefix(f"{name}/") for value in (*graph.input, *graph.output)})
        needed = {read for node in graph.node for read in node.input}
        before: list[NodeProto] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                needed.update(node.input)
                before.insert(0, node)
        nodes = [*before, *graph.node]
        del graph.node[:]
        graph.node.extend(nodes)
        graph.initializer.extend(tensor for tensor in self.initializers if tensor.name in needed)
        return model_of(graph)


def model_of(graph: GraphProto) -> ModelProto:
    """The graph as a model of seenn's."""
    from onnx import checker, helper

    model = helper.make_model(
        graph, producer_name=PRODUCER, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    checker.check_model(model)
    return model


def onnx_graphs(parts: Mapping[str, Part], subject: Subject) -> Graphs:
    """``parts`` as ONNX graphs. They are compiled together, for the compiler takes longest to start.

    Raises:
        UnsupportedError: torch cannot follow a part, an op has no ONNX form, or the weights do not fit into one file.
    """
    from onnx import GraphProto

    together = Together(parts)
    values = {f"{n}/{key}": value for n, part in parts.items() for key, value in example(part, subject).items()}
    whole = _onnx(together, values)
    graphs = {name: GraphProto(name=name) for name in parts}
    owner = {value.name: value.name.partition("/")[0] for value in whole.input}
    shared: list[NodeProto] = []
    for value in whole.input:
        graphs[owner[value.name]].input.append(value)
    for value in whole.output:
        graphs[value.name.partition("/")[0]].output.append(value)
    for node in whole.node:
        owners = {owner[name] for name in node.input if name in owner}
        if not owners:
            shared.append(node)
            continue
        (name,) = owners
        graphs[name].node.append(node)
        owner.update(dict.fromkeys(node.output, name))
    return Graphs(parts=graphs, nodes=shared, initializers=list(whole.initializer))


def renamed(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Gives values of the graph other names."""
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output):
        value.name = names.get(value.name, value.name)


def _onnx(part: Part, values: Mapping[str, Tensor]) -> GraphProto:
    found = program(part, values)
    try:
        with _quiet():
            made = torch.onnx.export(
                found,
                input_names=list(part.inputs),
                output_names=list(part.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert made is not None
        graph: GraphProto = made.model_proto.graph
    except Exception as error:
        raise UnsupportedError(f"there is no ONNX form of it ({first_line(error)}): use --to torch") from error
    if (size := graph.ByteSize()) > _LARGEST:
        raise UnsupportedError(f"it has {size:,} bytes, and one ONNX file holds {_LARGEST:,}: use --to torch")
    graph.ClearField("value_info")
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*graph.input, *graph.output):
        value.ClearField("metadata_props")
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = BATCH
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Compilers talk on every channel; what is wrong with a file is found by running it."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "torch._export", "onnxscript", "onnx_ir")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
