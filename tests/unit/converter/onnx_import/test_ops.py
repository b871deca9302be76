"""Every op in the spellings of every opset, against onnxruntime on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from packaging.version import Version
from torch import nn

from converter import canonical_graph
from converter.onnx_import import ImportedModel, import_onnx
from seenn.errors import UnsupportedError

RANDOM = np.random.default_rng(1)
CHANNEL = RANDOM.uniform(0.5, 2, (4, 1, 1)).astype(np.float32)
VECTOR = RANDOM.uniform(0.5, 2, 4).astype(np.float32)
KERNEL = RANDOM.standard_normal((6, 4, 3, 3)).astype(np.float32)
BACK = KERNEL.transpose(1, 0, 2, 3).copy()
PLANE = RANDOM.uniform(0.5, 2, (1, 1, 6, 6)).astype(np.float32)


def floats(*values: float) -> Any:
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def node(op: str, *extra: str, **attributes: Any) -> list[NodeProto]:
    """One node from x (and weights) to y."""
    return [helper.make_node(op, ["x", *extra], ["y"], name="it", **attributes)]


def chain(*steps: tuple[str, str, str, dict[str, Any]]) -> list[NodeProto]:
    """Nodes as (op, inputs, outputs, attributes), names split at spaces."""
    return [
        helper.make_node(op, ["" if name == "_" else name for name in reads.split()], makes.split(), **attributes)
        for op, reads, makes, attributes in steps
    ]


# name: (opset, nodes, weights)
CASES: dict[str, tuple[int, list[NodeProto], dict[str, Any]]] = {
    "conv with uneven padding": (9, node("Conv", "w", pads=[0, 1, 2, 1]), {"w": KERNEL}),
    "conv SAME_UPPER": (11, node("Conv", "w", auto_pad="SAME_UPPER", strides=[2, 2]), {"w": KERNEL}),
    "conv SAME_LOWER": (11, node("Conv", "w", auto_pad="SAME_LOWER", strides=[2, 2]), {"w": KERNEL}),
    "conv VALID dilated": (22, node("Conv", "w", auto_pad="VALID", dilations=[2, 1]), {"w": KERNEL}),
    "transposed conv cut off at the end": (
        11,
        node("ConvTranspose", "w", strides=[2, 2], pads=[0, 0, 1, 1]),
        {"w": BACK},
    ),
    "transposed conv SAME_UPPER": (11, node("ConvTranspose", "w", strides=[2, 2], auto_pad="SAME_UPPER"), {"w": BACK}),
    "transposed conv SAME_LOWER": (11, node("ConvTranspose", "w", strides=[2, 2], auto_pad="SAME_LOWER"), {"w": BACK}),
    "transposed conv to a size": (11, node("ConvTranspose", "w", strides=[2, 2], output_shape=[11, 12]), {"w": BACK}),
    "conv grouped": (
        11,
        node("Conv", "w", "b", group=2, kernel_shape=[3, 3]),
        {"w": KERNEL[:, :2], "b": KERNEL[:, 0, 0, 0]},
    ),
    "batch norm": (9, node("BatchNormalization", "a", "b", "a", "b", epsilon=0.1), {"a": VECTOR, "b": VECTOR[::-1]}),
    "batch norm 15": (15, node("BatchNormalization", *"abab"), {"a": VECTOR, "b": VECTOR[::-1]}),
    "instance norm": (9, node("InstanceNormalization", "a", "b"), {"a": VECTOR, "b": VECTOR}),
    "softmax": (13, chain(("Softmax", "x", "s", {"axis": 2}), ("Sqrt", "s", "y", {})), {}),
    "softmax 9": (9, chain(("Softmax", "x", "s", {"axis": 3}), ("Sqrt", "s", "y", {})), {}),
    "log softmax": (13, chain(("LogSoftmax", "x", "s", {}), ("Exp", "s", "y", {})), {}),
    "attention": (
        13,
        chain(
            ("Transpose", "x", "k", {"perm": [0, 1, 3, 2]}),
            ("MatMul", "x k", "s", {}),
            ("Softmax", "s", "a", {}),
            ("MatMul", "a x", "y", {}),
        ),
        {},
    ),
    "layer norm": (17, node("LayerNormalization", "a", "a", axis=-1), {"a": PLANE[0, 0, 0]}),
    "layer norm without bias": (17, node("LayerNormalization", "a", axis=2), {"a": PLANE[0, 0]}),
    "group norm": (21, node("GroupNormalization", "a", "a", num_groups=2), {"a": VECTOR}),
    "local response norm": (9, node("LRN", size=3, alpha=0.5, beta=0.5, bias=2.0), {}),
    "relu": (9, node("Relu"), {}),
    "clip by attributes": (9, node("Clip", min=-0.5, max=0.5), {}),
    "clip unbounded": (9, node("Clip"), {}),
    "clip to relu6": (13, node("Clip", "l", "h"), {"l": floats(0), "h": floats(6)}),
    "clip from below": (11, node("Clip", "l"), {"l": floats(0)}),
    "clip from above": (13, node("Clip", "", "h"), {"h": floats(0.3)}),
    "leaky relu": (9, node("LeakyRelu", alpha=0.2), {}),
    "prelu": (9, node("PRelu", "s"), {"s": CHANNEL}),
    "prelu with one slope": (16, node("PRelu", "s"), {"s": floats(0.3)}),
    "hard sigmoid": (9, node("HardSigmoid"), {}),
    "hard sigmoid of torch": (9, node("HardSigmoid", alpha=1 / 6, beta=0.5), {}),
    "elu": (9, node("Elu", alpha=0.7), {}),
    "celu": (12, node("Celu", alpha=0.7), {}),
    "gelu": (20, node("Gelu"), {}),
    "gelu by tanh": (20, node("Gelu", approximate="tanh"), {}),
    "swish": (24, node("Swish"), {}),
    "power": (13, node("Pow", "e"), {"e": floats(2)}),
    "dropout by attribute": (9, node("Dropout", ratio=0.5), {}),
    "dropout by input": (13, node("Dropout", "r"), {"r": floats(0.5)}),
    "cast to float": (13, node("Cast", to=TensorProto.FLOAT), {}),
    "add a number": (13, node("Add", "c"), {"c": floats(0.5)}),
    "add a channel constant": (13, node("Add", "c"), {"c": CHANNEL}),
    "add a plane": (13, node("Add", "c"), {"c": PLANE}),
    "constant minus x": (13, chain(("Sub", "c x", "y", {})), {"c": CHANNEL}),
    "x minus constant": (13, node("Sub", "c"), {"c": CHANNEL}),
    "multiply by a channel constant": (13, chain(("Mul", "c x", "y", {})), {"c": CHANNEL}),
    "multiply by a plane": (13, node("Mul", "c"), {"c": PLANE}),
    "divide by a number": (13, node("Div", "c"), {"c": floats(3)}),
    "constant by x": (13, chain(("Exp", "x", "e", {}), ("Div", "c e", "y", {})), {"c": CHANNEL}),
    "x by x": (13, chain(("Exp", "x", "e", {}), ("Div", "x e", "y", {})), {}),
    "x minus x": (13, chain(("Exp", "x", "e", {}), ("Sub", "x e", "y", {})), {}),
    "sum of three": (9, chain(("Sum", "c x x", "y", {})), {"c": CHANNEL}),
    "gate": (13, chain(("Sigmoid", "x", "s", {}), ("Mul", "x s", "y", {})), {}),
    "max with a number": (13, node("Max", "c"), {"c": floats(0.1)}),
    "min with a number": (13, chain(("Min", "c x", "y", {})), {"c": floats(0.1)}),
    "max of two": (13, chain(("Neg", "x", "n", {}), ("Max", "x n", "y", {})), {}),
    "min of two": (13, chain(("Neg", "x", "n", {}), ("Min", "x n", "y", {})), {}),
    "max pool": (12, node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), {}),
    "max pool rounded up": (10, node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "max pool padded at the end": (9, node("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]), {}),
    "max pool padded unevenly": (9, node("MaxPool", kernel_shape=[3, 3], pads=[0, 1, 2, 2]), {}),
    "max pool SAME_UPPER": (9, node("MaxPool", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_UPPER"), {}),
    "average pool": (9, node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), {}),
    "average pool counting padding": (
        9,
        node("AveragePool", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "average pool rounded up": (10, node("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "average pool uneven": (11, node("AveragePool", kernel_shape=[3, 3], pads=[0, 0, 1, 2]), {}),
    "average pool uneven counting": (
        11,
        node("AveragePool", kernel_shape=[3, 3], pads=[0, 0, 1, 2], count_include_pad=1),
        {},
    ),
    "global average": (9, node("GlobalAveragePool"), {}),
    "global max": (9, node("GlobalMaxPool"), {}),
    "pad by attribute": (9, node("Pad", pads=[0, 0, 1, 2, 0, 0, 3, 0]), {}),
    "pad by a value": (11, node("Pad", "p", "v"), {"p": ints(0, 1, 1, 0, 0, 0, 0, 1), "v": floats(0.7)}),
    "pad reflecting": (13, node("Pad", "p", mode="reflect"), {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "pad by the edge": (13, node("Pad", "p", mode="edge"), {"p": ints(0, 0, 1, 1, 0, 0, 1, 1)}),
    "pad some axes": (18, node("Pad", "p", "", "a"), {"p": ints(1, 2), "a": ints(-1)}),
    "crop": (13, node("Pad", "p"), {"p": ints(0, 0, -1, 0, 0, 0, 0, -2)}),
    "pad by nothing": (13, node("Pad", "p"), {"p": ints(0, 0, 0, 0, 0, 0, 0, 0)}),
    "mean by attribute": (9, node("ReduceMean", axes=[2, 3], keepdims=0), {}),
    "mean by input": (18, node("ReduceMean", "a"), {"a": ints(-1, -2)}),
    "mean of nothing": (18, node("ReduceMean", noop_with_empty_axes=1), {}),
    "sum by input": (13, node("ReduceSum", "a"), {"a": ints(1)}),
    "max over axes": (13, node("ReduceMax", axes=[3]), {}),
    "min over axes": (13, node("ReduceMin", axes=[3]), {}),
    "norm by attribute": (13, node("ReduceL2", axes=[1], keepdims=0), {}),
    "norm by input": (18, node("ReduceL2", "a", keepdims=1), {"a": ints(-1, 1)}),
    "norm of order 1": (13, node("ReduceL1", axes=[2, 3]), {}),
    "norm of order 1 by input": (18, node("ReduceL1", "a", keepdims=0), {"a": ints(3)}),
    "sum of squares": (13, node("ReduceSumSquare", axes=[2], keepdims=0), {}),
    "sum of squares by input": (18, node("ReduceSumSquare", "a"), {"a": ints(1, 2)}),
    "logarithm of a sum": (18, chain(("Exp", "x", "e", {}), ("ReduceLogSum", "e a", "y", {})), {"a": ints(1)}),
    "logarithm of a sum of powers": (13, node("ReduceLogSumExp", axes=[2, 3], keepdims=0), {}),
    "logarithm of a sum of powers by input": (18, node("ReduceLogSumExp", "a"), {"a": ints(-3)}),
    "norm of nothing": (18, node("ReduceL2", noop_with_empty_axes=1), {}),
    "norm of order 1 of nothing": (18, node("ReduceL1", noop_with_empty_axes=1), {}),
    "square of nothing": (18, node("ReduceSumSquare", noop_with_empty_axes=1), {}),
    "mean of three": (13, chain(("Exp", "x", "e", {}), ("Mean", "x c e", "y", {})), {"c": CHANNEL}),
    "normalised to length 1": (
        13,
        chain(
            ("ReduceL2", "x", "n", {"axes": [1]}),
            ("Clip", "n low", "c", {}),
            ("Shape", "x", "s", {}),
            ("Expand", "c s", "e", {}),
            ("Div", "x e", "y", {}),
        ),
        {"low": floats(1e-12)},
    ),
    "upsample": (9, node("Upsample", "s"), {"s": floats(1, 1, 2, 3)}),
    "resize 10": (10, node("Resize", "s"), {"s": floats(1, 1, 2, 2)}),
    "resize nearest": (
        13,
        node("Resize", "", "s", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        {"s": floats(1, 1, 0.5, 1.5)},
    ),
    "resize by half pixels": (19, node("Resize", "", "s"), {"s": floats(1, 1, 2, 4)}),
    "resize some axes": (18, node("Resize", "", "s", axes=[2, 3]), {"s": floats(2, 2)}),
    "resize linear": (13, node("Resize", "", "s", mode="linear"), {"s": floats(1, 1, 2, 2)}),
    "resize with corners": (
        13,
        node("Resize", "", "s", mode="linear", coordinate_transformation_mode="align_corners"),
        {"s": floats(1, 1, 2, 2)},
    ),
    "resize cubic": (13, node("Resize", "", "s", mode="cubic"), {"s": floats(1, 1, 2, 2)}),
    "reshape": (13, node("Reshape", "s"), {"s": ints(0, 2, -1, 6)}),
    "reshape from the end": (13, node("Reshape", "s"), {"s": ints(-1, 144)}),
    "flatten from the end": (13, node("Flatten", axis=-3), {}),
    "squeeze by attribute": (9, chain(("GlobalMaxPool", "x", "p", {}), ("Squeeze", "p", "y", {"axes": [2, 3]})), {}),
    "squeeze by input": (13, chain(("GlobalMaxPool", "x", "p", {}), ("Squeeze", "p a", "y", {})), {"a": ints(-1)}),
    "unsqueeze by attribute": (9, node("Unsqueeze", axes=[1, 5]), {}),
    "unsqueeze by input": (13, node("Unsqueeze", "a"), {"a": ints(-1)}),
    "expand": (13, chain(("GlobalMaxPool", "x", "p", {}), ("Expand", "p s", "y", {})), {"s": ints(1, 1, 2, 3)}),
    "depth to space DCR": (13, node("DepthToSpace", blocksize=2), {}),
    "depth to space CRD": (13, node("DepthToSpace", blocksize=2, mode="CRD"), {}),
    "space to depth": (13, node("SpaceToDepth", blocksize=2), {}),
    "transpose": (13, node("Transpose", perm=[0, 2, 3, 1]), {}),
    "concat": (13, chain(("Neg", "x", "n", {}), ("Concat", "x n x", "y", {"axis": -3})), {}),
    "split by attribute": (
        9,
        chain(("Split", "x", "a b", {"axis": 1, "split": [1, 3]}), ("Concat", "b a", "y", {"axis": 1})),
        {},
    ),
    "split by input": (
        13,
        chain(("Split", "x s", "a b", {"axis": 1}), ("Concat", "b a", "y", {"axis": 1})),
        {"s": ints(3, 1)},
    ),
    "split evenly": (13, chain(("Split", "x", "a b", {"axis": 1}), ("Sub", "b a", "y", {})), {}),
    "split into a number": (
        18,
        chain(("Split", "x", "a b c", {"axis": 1, "num_outputs": 3}), ("Concat", "c a b", "y", {"axis": 1})),
        {},
    ),
    "slice by attributes": (9, node("Slice", starts=[0, 1], ends=[2147483647, 3], axes=[0, 1]), {}),
    "slice by inputs": (
        10,
        node("Slice", "s", "e", "a", "t"),
        {"s": ints(1, 0), "e": ints(-1, 9), "a": ints(2, 3), "t": ints(1, 2)},
    ),
    "gather one": (13, node("Gather", "i", axis=1), {"i": np.array(-1)}),
    "gather a range": (13, node("Gather", "i", axis=2), {"i": ints(1, 2, 3)}),
    "gather several": (13, node("Gather", "i", axis=1), {"i": ints(3, 0, -2)}),
    "gather a table": (13, node("Gather", "i", axis=2), {"i": np.array([[0, 2], [-1, 3]])}),
    "slice backwards": (
        10,
        node("Slice", "s", "e", "a", "t"),
        {"s": ints(-1, 4), "e": ints(-99, 0), "a": ints(2, 3), "t": ints(-1, -2)},
    ),
    "running sum": (14, node("CumSum", "a"), {"a": np.array(2)}),
    "running sum from the end": (14, node("CumSum", "a", exclusive=1, reverse=1), {"a": np.array(-1)}),
    "upper triangle": (14, node("Trilu", "k"), {"k": np.array(1)}),
    "lower triangle": (14, node("Trilu", upper=0), {}),
    "where a constant mask says": (16, chain(("Where", "m x t", "y", {})), {"m": PLANE[0, 0] > 1, "t": CHANNEL}),
    "masked fill": (9, chain(("Where", "m c x", "y", {})), {"m": PLANE > 1, "c": floats(-7.5)}),
    "one of two activations by a mask": (
        16,
        chain(("Neg", "x", "n", {}), ("Where", "m n x", "y", {})),
        {"m": CHANNEL > 1},
    ),
    "where a mask for each image says": (
        16,
        chain(("Shape", "x", "s", {}), ("Expand", "m s", "e", {}), ("Where", "e x t", "y", {})),
        {"m": PLANE[0, 0] > 1, "t": floats(0.25)},
    ),
    "plus a constant for each image": (
        13,
        chain(("Shape", "x", "s", {}), ("Expand", "c s", "e", {}), ("Add", "x e", "y", {})),
        {"c": CHANNEL},
    ),
    "concat with a constant for each image": (
        13,
        chain(
            ("Shape", "x", "s", {}),
            ("Slice", "s zero one", "b", {}),
            ("Concat", "b rest", "t", {"axis": 0}),
            ("Expand", "c t", "e", {}),
            ("Concat", "e x e", "y", {"axis": 1}),
        ),
        {"zero": ints(0), "one": ints(1), "rest": ints(1, 6, 6), "c": PLANE},
    ),
    "images along the last axis": (
        17,
        chain(
            ("Transpose", "x", "t", {"perm": [1, 2, 3, 0]}),
            ("Mul", "t c", "m", {}),
            ("LogSoftmax", "m", "l", {"axis": 1}),
            ("ReduceSum", "l a", "r", {"keepdims": 0}),
            ("Transpose", "r", "y", {"perm": [2, 0, 1]}),
        ),
        {"c": PLANE[0, 0, :, :, None], "a": ints(1)},
    ),
    "images along the second axis, put together": (
        17,
        chain(
            ("Transpose", "x", "t", {"perm": [1, 0, 2, 3]}),
            ("Shape", "t", "s", {"start": 1}),
            ("Concat", "one s", "o", {"axis": 0}),
            ("Expand", "c o", "e", {}),
            ("Concat", "e t", "k", {"axis": 0}),
            ("Tile", "k twice", "l", {}),
            ("CumSum", "l zero", "m", {}),
            ("Unsqueeze", "m two", "u", {}),
            ("Expand", "u thrice", "v", {}),
            ("Flatten", "v", "f", {"axis": 2}),
            ("Reshape", "f back", "r", {}),
            ("Transpose", "r", "y", {"perm": [1, 0, 2]}),
        ),
        {
            "c": PLANE,
            "zero": ints(0),
            "one": ints(1),
            "two": ints(2),
            "twice": ints(1, 1, 2, 1),
            "thrice": ints(1, 1, 3, 1, 1),
            "back": ints(5, -1, 216),
        },
    ),
    "images between rows": (
        17,
        chain(
            ("Transpose", "x", "t", {"perm": [1, 0, 2, 3]}),
            ("LayerNormalization", "t w", "n", {"axis": 2}),
            ("Reshape", "n long", "r", {}),
            ("Gemm", "r v b", "g", {"transB": 1}),
            ("Reshape", "g back", "k", {}),
            ("Split", "k", "p q", {"axis": 0}),
            ("Sub", "p q", "s", {}),
            ("Unsqueeze", "s a", "u", {}),
            ("Slice", "u zero one a", "i", {}),
            ("Squeeze", "i a", "z", {}),
            ("Gather", "z one", "e", {"axis": 0}),
            ("Squeeze", "e a", "y", {}),
        ),
        {
            "w": PLANE[0, 0],
            "long": ints(-1, 36),
            "v": PLANE.reshape(1, 36).repeat(5, 0),
            "b": PLANE[0, 0, 0, :5],
            "back": ints(4, -1, 5),
            "a": ints(0),
            "zero": ints(0),
            "one": ints(1),
        },
    ),
    "tile": (13, node("Tile", "r"), {"r": ints(1, 2, 1, 3)}),
    "einsum": (12, node("Einsum", "w", equation="bchw,wk->bkch"), {"w": PLANE[0, 0, :, :5]}),
    "einsum of constants": (
        12,
        chain(("Einsum", "a b", "w", {"equation": "ij,jk->ik"}), ("Einsum", "x w", "y", {"equation": "bchw,wk->bchk"})),
        {"a": RANDOM.standard_normal((6, 64), np.float32), "b": RANDOM.standard_normal((64, 64), np.float32)},
    ),
    "einsum of three constants": (
        12,
        chain(
            ("Einsum", "a b b", "w", {"equation": "...i,ij,kj->k..."}),
            ("Einsum", "x w", "y", {"equation": "bchw,kw->bchk"}),
        ),
        {"a": RANDOM.standard_normal((6, 256), np.float32), "b": RANDOM.standard_normal((256, 256), np.float32)},
    ),
    "einsum of activations": (12, node("Einsum", "x", equation="bchw,bdhw->bcd"), {}),
    "gather elements": (
        13,
        chain(
            ("Shape", "x", "n", {}),
            ("Slice", "n zero one", "b", {}),
            ("Concat", "b rest", "s", {"axis": 0}),
            ("Expand", "i s", "e", {}),
            ("GatherElements", "x e", "y", {"axis": 2}),
        ),
        {"zero": ints(0), "one": ints(1), "rest": ints(4, 2, 6), "i": RANDOM.integers(-6, 6, (1, 4, 2, 6))},
    ),
    "product from the left": (13, chain(("MatMul", "w x", "y", {})), {"w": PLANE[0, 0, :5]}),
    "product by channel": (13, node("MatMul", "w"), {"w": KERNEL[0].repeat(2, 1).astype(np.float32)}),
    "matrix product": (13, node("MatMul", "w"), {"w": PLANE[0, 0, :, :5]}),
    "product of activations": (13, node("MatMul", "x"), {}),
}
for op in ("Tanh", "HardSwish", "Softsign", "Softplus", "Abs", "Erf", "Exp", "Neg"):
    CASES[op.lower()] = (14, node(op), {})
for op in ("Log", "Sqrt", "Reciprocal"):
    CASES[op.lower()] = (14, chain(("Exp", "x", "e", {}), (op, "e", "y", {})), {})


@pytest.mark.parametrize("name", CASES)
def test_op_equals_onnxruntime(name: str, save: Callable[..., Path]) -> None:
    opset, nodes, weights = CASES[name]
    if name == "split into a number" and Version(onnxruntime.__version__) < Version("1.32"):
        pytest.skip("this onnxruntime splits nothing into unequal parts")
    path = save(nodes, weights, opset=opset)
    assert_equal(import_onnx(path), path)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [(), (5,), (1, 5), (1,)])
def test_gemm_becomes_linear_with_its_factors_inside(
    save: Callable[..., Path], transposed: int, bias: tuple[int]
) -> None:
    weight = RANDOM.standard_normal((4, 5)).astype(np.float32)
    nodes = chain(
        ("GlobalMaxPool", "x", "p", {}),
        ("Flatten", "p", "f", {}),
        ("Gemm", "f w c", "logits", {"alpha": 0.5, "beta": 2.0, "transB": transposed}),
    )
    weights = {"w": weight.T if transposed else weight, "c": RANDOM.standard_normal(bias).astype(np.float32)}
    path = save(nodes, weights)
    imported = import_onnx(path)
    assert_equal(imported, path)
    assert [type(m) for m in imported.module.children()] == [nn.AdaptiveMaxPool2d, nn.Flatten, nn.Linear]


def test_shapes_computed_from_the_batch_are_followed(save: Callable[..., Path]) -> None:
    """x.view(x.size(0), 2, -1, 6) as TorchScript exports it."""
    nodes = chain(
        ("Shape", "x", "s", {}),
        ("Gather", "s zero", "b", {}),
        ("Unsqueeze", "b axis", "u", {}),
        ("Concat", "u rest", "target", {"axis": 0}),
        ("Reshape", "x target", "y", {}),
    )
    path = save(nodes, {"zero": np.array(0), "axis": ints(0), "rest": ints(2, -1, 6)})
    assert_equal(import_onnx(path), path)


ROWS = {
    "with a computed shape": (
        ("N", 4, 6, 6),
        chain(
            ("Shape", "x", "s", {}), ("Gather", "s zero", "b", {}), ("Unsqueeze", "b axis", "u", {}),
            ("Reshape", "x rows", "r", {}), ("MatMul", "r w", "m", {}), ("Add", "m v", "a", {}), ("Relu", "a", "h", {}),
            ("Mul", "h a", "g", {}), ("Concat", "u rest", "t", {"axis": 0}), ("Reshape", "g t", "y", {}),
        ),
    ),
    "in other rows again": (
        ("N", 4, 6, 6),
        chain(
            ("Reshape", "x rows", "r", {}), ("Gemm", "r w v", "m", {}), ("Shape", "m", "s", {}),
            ("Clip", "m", "c", {}), ("Reshape", "c long", "n", {}), ("Sigmoid", "n", "q", {}),
            ("Reshape", "q s", "z", {}), ("Reshape", "z back", "y", {}),
        ),
    ),
    "of heads, and behind an axis of one": (
        ("N", 4, 6, 6),
        chain(
            ("Reshape", "x heads", "q", {}), ("Transpose", "q", "k", {"perm": [0, 2, 1]}), ("MatMul", "q k", "m", {}),
            ("Sigmoid", "m", "a", {}), ("Reshape", "a one", "o", {}), ("Squeeze", "o axis", "z", {}),
            ("MatMul", "z w", "p", {}), ("Reshape", "p last", "y", {}),
        ),
    ),
    "of a baked batch": ((1, 4, 6, 6), chain(("Reshape", "x rows", "r", {}), ("Reshape", "r back", "y", {}))),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_all_images_are_computed_as_onnxruntime_does(save: Callable[..., Path], name: str) -> None:
    """TensorFlow computes a dense layer of a sequence on ``[B · S, C]``."""
    shape, nodes = ROWS[name]
    weights = {
        "zero": np.array(0), "axis": ints(0), "rows": ints(-1, 6), "rest": ints(4, 6, 3), "back": ints(-1, 4, 6, 3),
        "heads": ints(-1, 6, 6), "one": ints(1, -1, 6), "last": ints(-1, 8, 9),
        "long": ints(-1, 36), "w": np.abs(KERNEL[:, 0, :, 0]), "v": np.abs(VECTOR[:3]),
    }  # fmt: skip
    if name == "of a baked batch":
        weights["back"] = ints(1, -1)
    path = save(nodes, weights, shape=shape, opset=13)
    if shape[0] == 1:
        assert import_onnx(path).module(torch.zeros(7, 4, 6, 6)).shape == (7, 144)
    else:
        assert_equal(import_onnx(path), path)


@pytest.mark.parametrize(
    ("step", "weights"),
    [
        (("MatMul", "w r", "y", {}), {"w": np.ones((3, 24), np.float32)}),
        (("Add", "r w", "y", {}), {"w": np.ones((1, 1, 6), np.float32)}),
        (("Add", "r x", "y", {}), {}),
        (("Softmax", "r", "y", {"axis": 0}), {}),
        (("Transpose", "r", "y", {}), {}),
    ],
)
def test_what_mixes_rows_is_refused(save: Callable[..., Path], step: Any, weights: dict[str, Any]) -> None:
    path = save(chain(("Reshape", "x rows", "r", {}), step), {"rows": ints(-1, 6), **weights})
    with pytest.raises(
        UnsupportedError,
        match=r"works on \[48, 6\], several rows of each image along the first axis — keep|has shape \[6, 48\]",
    ):
        import_onnx(path)


def test_weights_made_by_nodes_are_folded(save: Callable[..., Path]) -> None:
    half = numpy_helper.from_array(KERNEL.astype(np.float16))
    filling = numpy_helper.from_array(floats(0.5).reshape(1))
    nodes = [
        helper.make_node("Constant", [], ["h"], value=half),
        helper.make_node("Cast", ["h"], ["w"], to=TensorProto.FLOAT),
        helper.make_node("Identity", ["w"], ["same"]),
        helper.make_node("Constant", [], ["count"], value_ints=[6]),
        helper.make_node("ConstantOfShape", ["count"], ["b"], value=filling),
        helper.make_node("Conv", ["x", "same", "b"], ["y"]),
    ]
    path = save(nodes, opset=13)
    imported = import_onnx(path)
    assert_equal(imported, path)
    conv = next(imported.module.children())
    assert isinstance(conv, nn.Conv2d)
    assert conv.bias is not None
    assert conv.bias.tolist() == [0.5] * 6


def test_normalisation_written_out_folds_away(save: Callable[..., Path]) -> None:
    nodes = chain(
        ("Conv", "x w", "a", {}), ("Sub", "a m", "b", {}), ("Mul", "b s", "c", {}), ("Add", "c m", "d", {}),
        ("Relu", "d", "y", {}),
    )  # fmt: skip
    constants = {"w": KERNEL, "m": KERNEL[:, :1, :1, 0], "s": KERNEL[:, :1, :1, 1]}
    path = save(nodes, constants)
    imported = import_onnx(path)
    assert_equal(imported, path)
    graph = canonical_graph(imported.module, torch.randn(2, 4, 6, 6)).graph
    assert [node.op.kind for node in graph] == ["conv2d", "relu", "flatten"]


def assert_equal(imported: ImportedModel, path: Path) -> None:
    images = torch.randn(2, *imported.input_shape, generator=torch.Generator().manual_seed(5))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    expected = torch.from_numpy(session.run(None, {"x": images.numpy()})[0])
    with torch.no_grad():
        found = imported.module(images)
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
