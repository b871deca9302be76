"""From a checked ONNX graph to an fx graph: fold what is constant, import the rest, report all that cannot be."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx.numpy_helper import to_array
from torch import fx

from converter.onnx_import import ops  # noqa: F401 - registers the handlers
from converter.onnx_import.builder import FxBuilder
from converter.onnx_import.ends import find_ends, leave_out
from converter.onnx_import.fold import Folder
from converter.onnx_import.integers import MICROSOFT, QUANTISERS
from converter.onnx_import.read import DOMAINS
from converter.onnx_import.registry import OnnxCall, Result, find_handler, node_name
from converter.onnx_import.signature import Signature, sizes_of
from converter.onnx_import.values import BatchSizes, Known, Lost, Rows, Traced, Value
from seenn.capture import Offender, Refused
from seenn.errors import UnsupportedError, first_line

LEARNERS = "ai.onnx.ml"  # scikit-learn's operators: what is no network, but for the scaling in front of one
_OTHERS = {(LEARNERS, "Scaler"), *((MICROSOFT, name) for name in QUANTISERS)}
_SUBGRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)


@dataclass(frozen=True, kw_only=True)
class ImportedModel:
    """A classifier as a torch graph, and where it comes from."""

    module: fx.GraphModule  # [B, *input_shape] -> scores [B, K], in eval mode, for any B
    input_shape: tuple[int, ...]  # C, H, W of images, C, L of signals, F of vectors
    classes: int  # K
    opset: int
    ir_version: int
    notes: tuple[str, ...]  # what was changed on purpose
    difference: float = math.nan  # largest, from onnxruntime, relative to the largest output; of ``verify``
    tolerance: float = math.nan  # that it was held to: 1e-5, or a few times the graph's own rounding in float32


def rebuild(
    model: onnx.ModelProto, opset: int, signature: Signature, path: Path, notes: tuple[str, ...] = ()
) -> ImportedModel:
    """Imports every node, all of which the output needs.

    ``model`` is left as what was imported: rounding at its ends is an ``Identity``.
    ``notes`` say what was changed before.

    Raises:
        UnsupportedError: lists every node that cannot be imported; or the output is not logits ``[B, K]``.
    """
    run = _Run(model, opset, signature, notes)
    offenders = []
    for node in model.graph.node:
        try:
            run.step(node)
        except Exception as error:  # torch and numpy raise many kinds on attributes that make no sense
            wrong = f"does not fit its inputs: {first_line(error)[:200]}"
            refusal = error if isinstance(error, Refused) else Refused(wrong, "export the model again")
            offenders.append(Offender(node_name(node), node.op_type, refusal.reason, refusal.fix))
            run.lose(node)
    if offenders:
        raise UnsupportedError(f"{path}: {len(offenders)} nodes cannot be imported:\n{_listing(offenders)}")
    return run.finish(path)


def _listing(offenders: list[Offender]) -> str:
    """One line for all nodes with the same trouble."""
    alike: dict[Offender, list[str]] = {}
    for offender in offenders:
        alike.setdefault(replace(offender, name=""), []).append(offender.name)
    return "\n".join(f"  {replace(one, name=', '.join(names))}" for one, names in alike.items())


class _Run:
    """One pass over the nodes."""

    def __init__(self, model: onnx.ModelProto, opset: int, signature: Signature, notes: tuple[str, ...]) -> None:
        graph = model.graph
        self._ir_version, self._opset = model.ir_version, opset
        self._signature = signature
        self._folder = Folder(opset)
        self._builder = FxBuilder(signature.batch, signature.shape)
        self._left_out = find_ends(graph, signature.images)
        self._read = {name for node in graph.node for name in node.input} | {signature.logits}
        self._values: dict[str, Value] = {t.name: Known.constant(to_array(t)) for t in graph.initializer}
        self._notes = [*notes]
        images = self._builder.images
        if signature.channels_last:
            rank = len(signature.shape) + 1
            images = self._builder.permute("channels_last", images, (0, *range(2, rank), 1))
        if signature.flat is not None:
            images = self._builder.function("flat", torch.reshape, images, (-1, *signature.flat))
        self._values[signature.images] = images

    def step(self, node: onnx.NodeProto) -> None:
        """Finds the values of the node's outputs."""
        _check_kind(node, self._opset)
        inputs = tuple(self._values[name] if name else None for name in node.input)
        known = {name: value for name, value in zip(node.input, inputs, strict=True) if isinstance(value, Known)}
        if lost := [value for value in inputs if isinstance(value, Lost)]:
            sizes = all(value.shape for value in lost)
            if not sizes and node.op_type not in ("Shape", "Size") and find_handler(node.op_type) is None:
                raise _unknown(node)
            self.lose(node, sizes=sizes or node.op_type in ("Shape", "Size"))
        elif all(isinstance(value, Known) for value in inputs if value is not None):
            self._values.update(self._constant(node, known))
        else:
            self._keep(node, self._imported(OnnxCall(node, self._opset, inputs, self._builder)))

    def lose(self, node: onnx.NodeProto, *, sizes: bool = False) -> None:
        """Notes that the outputs are not known, so that only the first of a chain is reported."""
        self._values.update({name: Lost(shape=sizes) for name in node.output})

    def finish(self, path: Path) -> ImportedModel:
        """The graph that returns logits ``[B, K]``."""
        output = self._values[self._signature.logits]
        if isinstance(output, Rows):
            found = ", ".join(map(str, output.sizes(self._signature.batch.declared[0])))
            raise UnsupportedError(
                f"{path}: the output {self._signature.logits!r} has shape [{found}], {output.lying}; "
                "expected one score per class, [B, K]: reshape it to them"
            )
        if not isinstance(output, Traced) or output is self._builder.images:
            raise UnsupportedError(
                f"{path}: the output does not depend on the image, or is the image; name another with --output-name"
            )
        shape = output.shape
        classes = math.prod(shape)
        if classes != max(shape, default=1) or classes < 1:
            raise UnsupportedError(
                f"{path}: the output {self._signature.logits!r} has shape [B, {sizes_of(shape)}]; expected one score "
                "per class, [B, K]: the model is no classifier; cut it after its scores with onnx.utils.extract_model"
            )
        if len(shape) != 1:
            output = self._builder.function("logits", torch.reshape, output, (-1, classes))
            self._notes.append(
                f"logits of shape [{', '.join(map(str, ('B', *shape)))}] are flattened to [B, {classes}]"
            )
        if self._signature.batch.baked is not None:
            self._notes.append(f"the batch size {self._signature.batch.baked} was baked in; any will do now")
        return ImportedModel(
            module=self._builder.finish(output),
            input_shape=self._signature.shape,
            classes=classes,
            opset=self._opset,
            ir_version=self._ir_version,
            notes=tuple(self._notes),
        )

    def _constant(self, node: onnx.NodeProto, known: dict[str, Known]) -> dict[str, Value]:
        if node.op_type == "Identity":
            return {node.output[0]: known[node.input[0]]}
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return {node.output[0]: Known.constant(to_array(node.attribute[0].t))}
        return dict(self._folder.fold(node, known))

    def _imported(self, call: OnnxCall) -> Result:
        if call.node.op_type in ("Shape", "Size"):
            return _shape_of(call, self._signature.batch)
        if any(call.node is node for node in self._left_out):
            if (note := leave_out(call.node)) not in self._notes:
                self._notes.append(note)
            return call.traced()
        handler = find_handler(call.node.op_type)
        if handler is None:
            raise _unknown(call.node)
        return handler(call)

    def _keep(self, node: onnx.NodeProto, result: Result) -> None:
        results = result if isinstance(result, tuple) else (result,)
        if extra := [name for name in node.output[len(results) :] if name in self._read and name]:
            raise Refused(
                f"its output {extra[0]!r} is used",
                "export the model in inference mode, where the first output is used alone",
            )
        self._values.update(zip(node.output, results, strict=False))


def prune(graph: onnx.GraphProto) -> None:
    """Removes the nodes that the output does not depend on; onnxruntime would run them, looked at by nobody."""
    needed: set[str] = {graph.output[0].name}
    for i in reversed(range(len(graph.node))):
        if needed.intersection(filter(None, graph.node[i].output)):
            needed.update(graph.node[i].input)
        else:
            del graph.node[i]


def _check_kind(node: onnx.NodeProto, opset: int) -> None:
    """Refuses other domains, subgraphs, and required inputs that are left out, which crash onnxruntime."""
    if node.domain not in DOMAINS and (node.domain, node.op_type) not in _OTHERS:
        raise (
            _unknown(node)
            if _on_integers(node)
            else Refused(f"is of the domain {node.domain!r}", "export the model with ONNX's own operators")
        )
    if any(attribute.type in _SUBGRAPHS for attribute in node.attribute):
        raise Refused("is control flow", "export the model for inference, without loops and branches")
    formal = onnx.defs.get_schema(node.op_type, opset, LEARNERS if node.domain == LEARNERS else "").inputs
    for i, name in enumerate(node.input):
        if not name and formal[min(i, len(formal) - 1)].option != onnx.defs.OpSchema.FormalParameterOption.Optional:
            raise Refused(f"its input {i} is left out", "the file is damaged: export it again")


def _unknown(node: onnx.NodeProto) -> Refused:
    if node.op_type in ("ConvInteger", "DynamicQuantizeLinear", "DynamicQuantizeMatMul", "MatMulInteger"):
        return Refused("rounds to a range that it finds anew in each image", "use onnxruntime's quantize_static")
    if _on_integers(node):
        return Refused("computes with integers", "quantise with quant_format=QuantFormat.QDQ, or export in float32")
    return Refused("is not supported", "replace it in the source model, or cut it off before the import")


def _on_integers(node: onnx.NodeProto) -> bool:
    return "Quant" in node.op_type or "Integer" in node.op_type or node.op_type.startswith(("QLinear", "QGemm"))


def _shape_of(call: OnnxCall, batch: BatchSizes) -> Known:
    value = call.value(0)
    x = value if isinstance(value, Rows) else call.traced()
    first, second = (np.array(x.sizes(size), dtype=np.int64) for size in batch.declared)
    if call.node.op_type == "Size":
        return Known((first.prod(), second.prod()))
    part = slice(call.attribute("start", 0), call.attribute("end"))
    return Known((first[part], second[part]))
