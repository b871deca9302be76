"""One batch of samples in, one tensor out: which names, which shape, and which axes are the batch and the channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from torch import Tensor

from converter.onnx_import.ends import LAYOUT
from converter.onnx_import.layout import channels_last
from converter.onnx_import.limits import MAX_BATCH, MAX_VALUES
from converter.onnx_import.tensors import type_name
from converter.onnx_import.values import BatchSizes
from seenn.errors import UnsupportedError

Shape = tuple[int, ...]
_STATE = "state {} with --input-size, or convert with data= of that size"


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What goes into a classifier and what comes out."""

    images: str
    logits: str
    shape: Shape  # of one sample, channels first: C, H, W of an image
    batch: BatchSizes
    channels_last: bool = False  # in the file
    flat: Shape | None = None  # of a gray image in a file that has no axis of channels: H, W, or H·W

    @property
    def note(self) -> str | None:
        """How samples lie otherwise in the file than in the network; None where they lie alike."""
        if self.flat is not None:
            return f"the file takes [B, {sizes_of(self.flat)}]; the network takes gray images"
        if self.channels_last:
            return f"the file takes the channels last; the network takes [B, {sizes_of(self.shape)}]"
        return None

    def as_declared(self, images: Tensor) -> Tensor:
        """Samples as the file takes them."""
        if self.flat is not None:
            return images.reshape(len(images), *self.flat)
        return images.movedim(1, -1).contiguous() if self.channels_last else images


def choose_output(graph: onnx.GraphProto, path: Path, wanted: str | None) -> str | None:
    """Leaves one output in the graph, ``wanted`` by name or number; a note where others went.

    Without a choice it is the only output, or the only one of real numbers: labels beside scores are none.

    Raises:
        UnsupportedError: several could be meant, or there is no such output; lists them.
    """
    mapped = {name: node.input[0] for node in graph.node if node.op_type == "ZipMap" for name in node.output}
    outputs = [_scores(mapped[value.name], value.name) if value.name in mapped else value for value in graph.output]
    listed = ", ".join(_described(value) for value in outputs)
    if wanted is None:
        chosen = outputs if len(outputs) == 1 else [value for value in outputs if _is_real(value)]
    else:
        places = ((value, (str(i), str(i - len(outputs)))) for i, value in enumerate(outputs))
        chosen = [value for value, place in places if wanted in (value.name, value.doc_string, *place)][:1]
    if len(chosen) != 1:
        missing = "" if wanted is None else f", and no {wanted!r}"
        raise UnsupportedError(f"{path}: outputs {listed}{missing}; choose the one with the scores: --output-name NAME")
    (value,) = chosen
    del graph.output[:]
    graph.output.append(value)
    return f"of the outputs {listed}, {value.name!r} is taken" if len(outputs) > 1 else None


def leave_out_choice(graph: onnx.GraphProto) -> str | None:
    """Makes the scores the output of a graph that ends in their largest, or in the places of it; a note where it did.

    Nodes that only change the layout or the kind of number may come after it.
    """
    makers = {name: node for node in graph.node for name in node.output}
    name = graph.output[0].name
    while (node := makers.get(name)) is not None and node.op_type in LAYOUT and node.input:
        name = node.input[0]
    if node is None or node.op_type not in ("ArgMax", "TopK"):
        return None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), _AXIS[node.op_type])
    if axis == 0:  # of the images
        return None
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
    return f"the final {node.op_type} is left out: the network returns the scores that it chooses from"


#: What is chosen along where a node does not say.
_AXIS = {"ArgMax": 0, "TopK": -1}


def leave_out_inputs(graph: onnx.GraphProto) -> str | None:
    """Takes off the inputs that nothing reads, if another one is read, in place; a note where there were any."""
    weights = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    inputs = [value for value in graph.input if value.name not in weights]
    unread = [value for value in inputs if value.name not in read]
    if not unread or len(unread) == len(inputs):
        return None
    for value in unread:
        graph.input.remove(value)
    return f"the output depends on no input {', '.join(repr(value.name) for value in unread)}: left out"


def pixels_as_floats(graph: onnx.GraphProto) -> str | None:
    """Makes an input of bytes, which the file casts to real numbers, one of real numbers, in place; a note if so."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.UINT8:
        return None
    names = {inputs[0].name}
    for node in graph.node:
        if node.input and node.input[0] in names and node.op_type != "Cast":
            if node.op_type not in LAYOUT:
                return None
            names.update(node.output)
    if graph.output[0].name in names:
        return None
    for value in (*inputs, *graph.value_info):
        if value.name in names:
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return "the file takes pixel values from 0 to 255, and so does the network: state --mean 0 --std 0.00392157 (1/255)"


def find_signature(
    graph: onnx.GraphProto,
    path: Path,
    shape: Sequence[int] | None = None,
    *,
    default: Sequence[int] | None = None,
    layout: str = "auto",
) -> Signature:
    """Axis 0 of the one input that is not a weight is the batch: fixed, or any.

    Sizes of −1 and 0 are open, and left out of ``graph``.

    Args:
        graph: with one output.
        path: of the file, for messages.
        shape: of one sample, channels first; must agree with what the file says.
        default: likewise, only for what the file leaves open.
        layout: ``nhwc`` where the file has the channels last, ``nchw`` where it has not, ``auto`` to find out.

    Raises:
        UnsupportedError: several inputs, no samples, open sizes, or sizes that contradict ``shape``.
    """
    weights = {tensor.name for tensor in graph.initializer}  # old IR versions list them as inputs as well
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise UnsupportedError(
            f"{path}: inputs {[value.name for value in inputs]}; expected one batch of images; cut the rest off with "
            "onnx.utils.extract_model"
        )
    (images,), (logits,) = inputs, graph.output
    where = f"{path}: input {images.name!r}"
    kind = images.type.WhichOneof("value")
    if kind != "tensor_type":
        raise UnsupportedError(
            f"{where} is a {(kind or 'value without a type').removesuffix('_type')}; expected images"
        )
    tensor = images.type.tensor_type
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        kind = type_name(tensor.elem_type)
        raise UnsupportedError(f"{where} holds {kind}; expected real numbers: export it to take prepared images")
    for value in (images, logits):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value <= 0:
                dim.Clear()  # onnxruntime would take 0 for a size
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    if not tensor.HasField("shape"):
        if not (offered := shape or default):
            raise UnsupportedError(f"{where} has no shape in the file: {_STATE.format('it')}")
        sizes = [None] * (1 + len(offered))
    if not 2 <= len(sizes) <= 5:
        raise UnsupportedError(
            f"{where} has {len(sizes)} axes; expected images [B, C, H, W], signals [B, C, L] or vectors [B, F]"
        )
    baked, *declared = sizes
    if baked is not None and baked > MAX_BATCH:
        raise UnsupportedError(f"{where} is for batches of {baked} images; expected 1 to {MAX_BATCH}")
    last = len(sizes) > 2 and (layout == "nhwc" or (layout == "auto" and channels_last(graph, images.name, sizes)))
    if last:
        declared = [declared[-1], *declared[:-1]]
    image = _gray(declared, shape or default or ())
    found = _shape(image or declared, shape, default, where)
    return Signature(
        images=images.name,
        logits=logits.name,
        shape=found,
        batch=BatchSizes(baked),
        channels_last=last,
        flat=None if image is None else found[1:] if len(declared) == 2 else (math.prod(found),),
    )


def _gray(declared: Sequence[int | None], offered: Sequence[int]) -> list[int | None] | None:
    """C, H, W of the images that a file takes as H, W, or as a row of H·W pixels; None where it takes no such."""
    if len(offered) == 3 and len(declared) == 2:
        return [1, *declared]
    return [1, *offered[1:]] if len(offered) == 3 and [*declared] == [math.prod(offered[1:])] else None


def _shape(declared: list[int | None], given: Sequence[int] | None, default: Sequence[int] | None, where: str) -> Shape:
    shown = ", ".join("?" if size is None else str(size) for size in declared)
    offered = given or default or ()
    fill: list[int | None] = [*offered] if len(offered) == len(declared) else [None] * len(declared)
    sizes = [size for own, other in zip(declared, fill, strict=True) if (size := own if own is not None else other)]
    if given is not None and (len(given) != len(declared) or (len(sizes) == len(given) and sizes != [*given])):
        raise UnsupportedError(f"{where} is for samples of shape ({shown}), got {tuple(given)}; leave --input-size out")
    if len(sizes) < len(declared):
        raise UnsupportedError(f"{where} leaves sizes open, ({shown}): {_STATE.format('them')}")
    if math.prod(sizes) > MAX_VALUES:
        raise UnsupportedError(f"{where} is for images of shape ({shown}); expected at most {MAX_VALUES:,} values")
    return tuple(sizes)


def sizes_of(shape: Shape) -> str:
    return ", ".join(map(str, shape))


def _scores(name: str, mapped: str) -> onnx.ValueInfoProto:
    """What scikit-learn's converter puts into a map from class to score at the end."""
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None, doc_string=mapped)


def _is_real(value: onnx.ValueInfoProto) -> bool:
    return value.type.WhichOneof("value") == "tensor_type" and value.type.tensor_type.elem_type == (
        onnx.TensorProto.FLOAT
    )


def _described(value: onnx.ValueInfoProto) -> str:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return f"{value.name} ({(kind or 'no type').removesuffix('_type')})"
    sizes = (str(dim.dim_value) if dim.dim_value > 0 else "?" for dim in value.type.tensor_type.shape.dim)
    return f"{value.name} [{', '.join(sizes)}]"
