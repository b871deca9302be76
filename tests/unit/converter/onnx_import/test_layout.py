"""Files with the channels last, other ranks and other precisions: what comes in is what torch would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper

from converter import canonical_graph
from converter.onnx_import import import_onnx

Save = Callable[..., Path]
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w": RANDOM.standard_normal((8, 3, 3, 3), np.float32),
    "v": RANDOM.standard_normal((8, 5), np.float32),
    "mean": np.array([0.1, 0.2, 0.3], np.float32),
}


def make(op: str, reads: str, makes: str, **attributes: Any) -> NodeProto:
    return helper.make_node(op, reads.split(), makes.split(), name=makes, **attributes)


TAIL = [
    make("Conv", "t w", "a"), make("Relu", "a", "r"), make("GlobalAveragePool", "r", "p"), make("Flatten", "p", "f"),
    make("MatMul", "f v", "logits"),
]  # fmt: skip
TO_FRONT = make("Transpose", "x", "t", perm=[0, 3, 1, 2])


@pytest.mark.parametrize("shape", [("N", 8, 6, 3), (-1, "h", "w", 3), (1, 8, 6, 3)])
def test_channels_last_are_recognised_by_the_transpose(
    save: Save, shape: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    imported = import_onnx(save([TO_FRONT, *TAIL], WEIGHTS, shape=shape), default_shape=(3, 8, 6))
    assert imported.input_shape == (3, 8, 6)
    assert imported.notes[0] == "the file takes the channels last; the network takes [B, 3, 8, 6]"
    assert caplog.text.count("the file takes the channels last") == 1
    assert [n.target for n in imported.module.graph.nodes if n.op == "call_function"] == []  # the transposes are gone
    graph = canonical_graph(imported.module, torch.randn(2, 3, 8, 6)).graph
    assert "permute" not in {node.op.kind for node in graph}


def test_a_normalisation_before_the_transpose_is_looked_through(save: Save) -> None:
    nodes = [make("Sub", "x mean", "n"), make("Transpose", "n", "t", perm=[0, 3, 1, 2]), *TAIL]
    assert import_onnx(save(nodes, WEIGHTS, shape=("N", 8, 8, 3))).input_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((1, 8, 6, 3), "auto", (3, 8, 6)),  # the last can only be channels
        ((1, 3, 8, 6), "auto", (3, 8, 6)),
        ((1, 1, 28, 1), "auto", (1, 28, 1)),
        ((1, 8, 6, 2), "auto", (8, 6, 2)),
        ((1, 8, 6, 2), "nhwc", (2, 8, 6)),
        ((1, 8, 6, 3), "nchw", (8, 6, 3)),
    ],
)
def test_sizes_decide_where_no_layer_does_unless_it_is_said(
    save: Save, shape: tuple[int, ...], layout: str, expected: tuple[int, ...]
) -> None:
    assert import_onnx(save([make("Flatten", "x", "logits")], shape=shape), layout=layout).input_shape == expected


@pytest.mark.parametrize("axes", [1, 3])
def test_signals_and_volumes_are_taken(save: Save, axes: int) -> None:
    weights = {"w": RANDOM.standard_normal((8, 2, *[3] * axes), np.float32), "v": WEIGHTS["v"],
               "u": RANDOM.standard_normal((8, 4, *[2] * axes), np.float32)}  # fmt: skip
    nodes = [
        make("Conv", "x w", "a", pads=[1] * 2 * axes), make("Relu", "a", "r"),
        make("MaxPool", "r", "m", kernel_shape=[2] * axes, strides=[2] * axes),
        make("AveragePool", "m", "b", kernel_shape=[2] * axes),
        make("ConvTranspose", "b u", "c", strides=[2] * axes),
        make("GlobalAveragePool", "c", "p"), make("Flatten", "p", "logits"),
    ]  # fmt: skip
    imported = import_onnx(save(nodes, weights, shape=("N", 2, *[8] * axes)))
    assert (imported.input_shape, imported.classes) == ((2, *[8] * axes), 4)


def test_a_signal_with_its_channels_last_is_recognised(save: Save) -> None:
    nodes = [make("Transpose", "x", "t", perm=[0, 2, 1]), make("Conv", "t w", "a"), make("GlobalMaxPool", "a", "p"),
             make("Flatten", "p", "logits")]  # fmt: skip
    weights = {"w": RANDOM.standard_normal((8, 2, 3), np.float32)}
    assert import_onnx(save(nodes, weights, shape=("N", 16, 2))).input_shape == (2, 16)


def test_vectors_are_taken(save: Save) -> None:
    weights = {"w": RANDOM.standard_normal((12, 8), np.float32), "v": WEIGHTS["v"]}
    nodes = [make("MatMul", "x w", "a"), make("Relu", "a", "r"), make("MatMul", "r v", "logits")]
    assert import_onnx(save(nodes, weights, shape=("N", 12))).input_shape == (12,)


@pytest.mark.parametrize("kind", ["float16", "float64"])
@pytest.mark.parametrize("cast", [True, False])
def test_other_precisions_are_computed_in_float32(save: Save, kind: str, cast: bool) -> None:
    element = {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}[kind]
    weights = {name: value.astype(kind) for name, value in WEIGHTS.items()}
    head = [make("Cast", "x", "c", to=element)] if cast else []
    tail = TAIL[:-1] + ([make("MatMul", "f v", "h"), make("Cast", "h", "logits", to=TensorProto.FLOAT)] if cast else
                        TAIL[-1:])  # fmt: skip
    nodes = [*head, make("Identity", "c" if cast else "x", "t"), *tail]
    model = onnx.load(save(nodes, weights, shape=("N", 3, 8, 8)))
    if not cast:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = element
    imported = import_onnx(save(model))
    assert imported.notes == (f"{kind} is computed in float32",)
    kept = imported.module.get_parameter("a.weight")
    assert torch.equal(kept, torch.from_numpy(weights["w"].astype(np.float32)))


def test_a_constant_in_a_node_changes_with_the_weights(save: Save) -> None:
    half = numpy_helper.from_array(np.float16(0.5), "half")
    nodes = [make("Constant", "", "k", value=half), make("Mul", "x k", "t"), *TAIL]
    weights = {name: value.astype(np.float16) for name, value in WEIGHTS.items()}
    model = onnx.load(save(nodes, weights, shape=("N", 3, 8, 8)))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    assert import_onnx(save(model)).difference <= 1e-5


@pytest.mark.parametrize("opset", [7, 8])
def test_the_oldest_spellings_are_taken(save: Save, opset: int) -> None:
    weights = {**WEIGHTS, **{name: RANDOM.uniform(0.5, 1, 8).astype(np.float32) for name in "abcd"}}
    nodes = [
        make("Conv", "x w", "e"), make("BatchNormalization", "e a b c d", "n"), make("Relu", "n", "r"),
        make("Dropout", "r", "o", ratio=0.5), make("Upsample", "o", "u", scales=[1.0, 1.0, 2.0, 2.0]),
        make("MaxPool", "u", "m", kernel_shape=[2, 2]), make("GlobalAveragePool", "m", "p"), make("Flatten", "p", "f"),
        make("MatMul", "f v", "logits"),
    ]  # fmt: skip
    assert import_onnx(save(nodes, weights, shape=("N", 3, 8, 8), opset=opset, ir=3)).opset == opset


def test_a_constant_that_one_node_reads_twice_is_folded(save: Save) -> None:
    ints = {"zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    nodes = [
        make("Relu", "x", "r"), make("Shape", "r", "s"), make("Slice", "s zero one zero", "b"),
        make("Concat", "b rest", "shape", axis=0), make("Reshape", "r shape", "logits"),
    ]  # fmt: skip
    assert import_onnx(save(nodes, ints, opset=13)).classes == 144
