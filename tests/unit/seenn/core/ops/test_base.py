from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
import torch

from seenn.core.ops import (
    QCFS,
    AdaptiveAvgPool2d,
    AdaptiveMaxPool2d,
    Add,
    AvgPool2d,
    BatchNorm,
    BorderPad,
    ChannelAffine,
    Concat,
    Constant,
    Conv2d,
    CumulativeDifference,
    Divide,
    Einsum,
    ElementwiseAffine,
    Encoder,
    Expand,
    Flatten,
    FlooredNeuron,
    Fold,
    Identity,
    IFNeuron,
    IncrementalProduct,
    L2Norm,
    L2Normalise,
    Largest,
    LayerNorm,
    LeakyReLU,
    LeakySum,
    LIFNeuron,
    Linear,
    LocalResponseNorm,
    MatMul,
    Maximum,
    MaxPool2d,
    Mean,
    Multiply,
    Op,
    Pad,
    Permute,
    Pointwise,
    PrepassIFNeuron,
    Quantise,
    QuantiserNeuron,
    ReLU,
    Reshape,
    Resize,
    RMSNorm,
    Scale,
    Shift,
    Slice,
    Softmax,
    Take,
    TwoSidedIFNeuron,
    Unfold,
    Variance,
    make_op,
    op_kinds,
)
from seenn.core.ops.base import op_class
from seenn.core.ops.differential import (
    DifferentialFunction,
    DifferentialNeuron,
    DifferentialProduct,
    DifferentialReadout,
)
from seenn.errors import CheckpointError

V = torch.tensor([1.0, 2.0])
OPS = [
    ReLU(ceiling=6.0),
    Add(),
    Concat(axis=2),
    Scale(factor=-0.5),
    ChannelAffine(V, V, axis=2),
    BatchNorm(V, V, None, V, eps=1e-3, momentum=0.2),
    CumulativeDifference(MaxPool2d(kernel=3, stride=2, padding=1)),
    IFNeuron(V, 0.25, V, signed=True, max_spikes=3, ceiling=6.0, axis=2),
    LeakySum(decay=0.25),
    FlooredNeuron(V, 0.25, max_spikes=3, axis=2),
    LIFNeuron(V, 0.25, decay=0.75, v_reset=-1.0, detach_reset=True, axis=2),
    LIFNeuron(V, 0.25, decay=0.75, v_reset=None, max_spikes=3),
    AvgPool2d(kernel=2, stride=1, padding=1, ceil_mode=True, count_include_pad=False),
    AdaptiveAvgPool2d(size=(1, 2)),
    MaxPool2d(kernel=(2, 3), stride=1),
    AdaptiveMaxPool2d(size=2),
    Flatten(start=1, end=2),
    Reshape(shape=(2, 3)),
    Permute(axes=(0, 2, 1)),
    Slice(axis=1, start=1, stop=3),
    Pad(amounts=(1, 0, -1, 2)),
    Mean(axes=(2, 3), keepdim=True),
    Conv2d(torch.ones(4, 1, 3, 3), torch.ones(4), stride=2, padding=(1, 0), dilation=2, groups=2),
    Linear(torch.ones(2, 3)),
    LeakyReLU(V),
    TwoSidedIFNeuron(V, 0.25, V, V, max_spikes=3, axis=2),
    BorderPad(amounts=(1, 0, 2, 2), mode="reflect"),
    Resize(size=(3, 4), mode="bilinear", align_corners=True),
    Shift(amount=0.5),
    ElementwiseAffine(V, None),
    ElementwiseAffine(None, torch.tensor(0.5)),
    Constant(torch.ones(1, 3)),
    Take(axis=2, index=(2, 0, 0)),
    Expand(shape=(3, 2)),
    Pointwise(function="elu", settings={"alpha": 0.5}),
    Multiply(),
    Divide(),
    Maximum(),
    MatMul(),
    Einsum(equation="bnm,bkm->bkn"),
    Softmax(axis=3),
    LayerNorm(axes=(1, 2), eps=1e-3),
    RMSNorm(axes=(2,), eps=1e-3),
    L2Normalise(axes=(1,), eps=1e-3),
    L2Norm(axes=(2, 3), keepdim=True),
    Largest(axes=(1, 3), keepdim=True),
    Variance(axes=(2,), correction=0, keepdim=True),
    Unfold(kernel=(2, 3), stride=2, padding=1, dilation=2),
    Fold(size=(5, 6), kernel=(2, 3), stride=2, padding=1, dilation=2),
    LocalResponseNorm(size=5, alpha=1e-3, beta=0.5, k=2.0),
    QCFS(V, levels=2, axis=2),
    Quantise(V, -2, 1, axis=2),
    QuantiserNeuron(V, 0.25, V, scale=V, low=-2, high=1, max_spikes=3, axis=2),
    PrepassIFNeuron(V, 0.25, V, prepass=3, rule="srp", ceiling=6.0, levels=4, axis=2),
    Identity(),
    Encoder(V, 0.25, V, max_spikes=15, axis=2),
    IncrementalProduct(Einsum(equation="bnm,bkm->bkn")),
    CumulativeDifference(Pointwise(function="pow", settings={"exponent": 3.0})),
    DifferentialNeuron(V, axis=2, max_spikes=3, function={"op": "leaky_relu"}, parameter=V),
    DifferentialFunction(Softmax(axis=3)),
    DifferentialProduct(Einsum(equation="bnm,bkm->bkn")),
    DifferentialReadout(),
]


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.kind)
def test_an_op_is_rebuilt_from_its_attributes_and_tensors(op: Op) -> None:
    other = make_op(op.kind, op.config(), op.tensors())
    assert type(other) is type(op)
    assert other.config() == op.config()
    assert {k: v.tolist() for k, v in other.tensors().items()} == {k: v.tolist() for k, v in op.tensors().items()}


def test_every_op_of_the_closed_set_is_tried_above_and_names_all_its_arguments() -> None:
    assert {op.kind for op in OPS} == set(op_kinds())
    for kind in op_kinds():
        cls = op_class(kind)
        own = cls.__init__ is not Op.__init__
        arguments = set(inspect.signature(cls).parameters) - {"op", "surrogate"} if own else set()
        assert arguments == {*cls.attributes, *cls.tensor_names}, kind


@pytest.mark.parametrize(
    ("kind", "config", "tensors", "message"),
    [
        ("eval", {}, {}, "unknown op 'eval'. Check its spelling. A plugin's needs --plugin MODULE"),
        ("conv2", {}, {}, "Did you mean 'conv2d'"),
        ("relu", {"ceiling": None, "code": "x"}, {}, "op 'relu' has no attribute 'code'"),
        ("relu", {}, {}, "op 'relu' lacks the attribute 'ceiling'"),
        ("relu", {"ceiling": None}, {"weight": V}, "op 'relu' has no tensor 'weight'"),
        ("linear", {}, {}, "op 'linear' cannot be built: .*'weight'"),
        ("linear", {}, {"weight": V}, "weight must have 2 dimensions, got shape (2,)"),
        ("linear", {}, {"weight": torch.ones(2, 2).int()}, "weight must be a floating-point tensor, got torch.int32"),
        ("linear", {}, {"weight": torch.ones(0, 2)}, "weight is empty"),
        ("linear", {}, {"weight": torch.ones(3, 2), "bias": V}, "bias must have shape (3,), got (2,)"),
        ("scale", {"factor": float("inf")}, {}, "factor must be a finite number"),
        ("scale", {"factor": 10**400}, {}, "factor must be a finite number"),
        ("scale", {"factor": True}, {}, "factor must be a finite number, got True"),
        ("flatten", {"start": 0, "end": -1}, {}, "start must be an integer from 1 to 8, got 0"),
        ("mean", {"axes": [0], "keepdim": False}, {}, "axes must be an integer from 1 to 8, got 0"),
        ("mean", {"axes": [1], "keepdim": 1}, {}, "keepdim must be true or false, got 1"),
        ("reshape", {"shape": [1 << 30, 1 << 30]}, {}, "larger than any tensor"),
        ("slice", {"axis": 1, "start": 3, "stop": 3}, {}, "stop must be an integer from 4"),
        ("pad", {"amounts": [1]}, {}, "amounts come in pairs, got [1]"),
        ("pointwise", {"function": "eval", "settings": {}}, {}, "unknown function 'eval'"),
        ("pointwise", {"function": ["x"], "settings": {}}, {}, "unknown function ['x']"),
        ("pointwise", {"function": "gellu", "settings": {}}, {}, "Did you mean 'gelu'"),
        ("pointwise", {"function": "elu", "settings": {"x": 1}}, {}, "elu has no setting 'x'; it takes ['alpha']"),
        ("pointwise", {"function": "elu", "settings": {"alpha": "1"}}, {}, "alpha must be a finite number, got '1'"),
        ("pointwise", {"function": "elu", "settings": [1]}, {}, "settings must be numbers by name, got [1]"),
        ("elementwise_affine", {}, {}, "needs a weight or a bias"),
        ("einsum", {"equation": "b...,bd->b"}, {}, "equation must be of the form bnd,bmd->bnm, got 'b...,bd->b'"),
        ("einsum", {"equation": "bn,nb->b"}, {}, "all parts of the equation must start with the batch's letter"),
        ("take", {"axis": 1, "index": []}, {}, "index is empty"),
        ("take", {"axis": 1, "index": [-1]}, {}, "index must be an integer from 0"),
        ("border_pad", {"amounts": [1], "mode": "reflect"}, {}, "amounts must be 4 integers, got [1]"),
        ("border_pad", {"amounts": 1, "mode": "zeros"}, {}, "mode must be one of reflect, replicate, circular, l"),
        ("resize", {"size": 2, "mode": "area", "align_corners": False}, {}, "mode must be one of nearest, nearest-"),
        ("adaptive_avg_pool2d", {"size": "11"}, {}, "size must be 2 integers, got '11'"),
    ],
)
def test_a_description_that_is_not_an_op_is_refused(
    kind: str, config: dict[str, Any], tensors: dict[str, torch.Tensor], message: str
) -> None:
    with pytest.raises(CheckpointError, match=message if ".*" in message else re.escape(message)):
        make_op(kind, config, tensors)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: IFNeuron(0.0), "v_threshold must be positive and finite everywhere, got values from 0 to 0"),
        (lambda: IFNeuron(torch.tensor([1.0, float("nan")])), "v_threshold must be positive and finite"),
        (lambda: IFNeuron(torch.ones(2, 2)), "v_threshold must have 0 or 1 dimensions"),
        (lambda: IFNeuron(v_init=torch.tensor(1)), "v_init must be a floating-point tensor, got torch.int64"),
        (lambda: IFNeuron(max_spikes=0), "max_spikes must be an integer from 1 to 127, got 0"),
        (lambda: IFNeuron(signed=1), "signed must be true or false, got 1"),
        (lambda: IFNeuron(ceiling=0.0), "ceiling must be above 0.0, got 0.0"),
        (lambda: BatchNorm(torch.tensor(1.0), V), "running_mean must be a tensor of shape (C,), got torch.Size([])"),
        (lambda: Conv2d(torch.ones(3, 1, 1, 1), groups=2), "3 output channels do not divide into 2 groups"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_neuron_kinds_have_their_usual_names() -> None:
    neurons = [IFNeuron(), IFNeuron(max_spikes=4), IFNeuron(signed=True)]
    assert [neuron.title for neuron in neurons] == ["if", "burst (up to 4 spikes)", "signed"]


def test_batch_norm_in_inference_form_is_affine() -> None:
    norm = BatchNorm(V, V, V, V).eval()
    scale, shift = norm.as_affine()
    x = torch.randn(3, 2, 4)
    torch.testing.assert_close(norm(x), x * scale[:, None] + shift[:, None])


def test_a_neuron_module_keeps_its_membrane_until_reset() -> None:
    from seenn.core.ops import reset

    neuron = IFNeuron(1.0, v_init=0.0)
    model = torch.nn.Sequential(neuron)
    x = torch.full((1, 1), 0.5)
    assert [model(x).item(), model(x).item()] == [0.0, 1.0]
    reset(model)
    assert model(x).item() == 0.0
    with pytest.raises(
        ValueError, match=r"holds a membrane of shape \(1, 1\) and was given input of shape \(2, 1\): c"
    ):
        model(torch.zeros(2, 1))
