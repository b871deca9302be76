"""Convolutions, linear layers, normalisation and neurons."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture.handlers import Call, Made, Refused, Result, any_layout, handles
from seenn.capture.parts import by_part, flat
from seenn.ops import BatchNorm, BorderPad, Conv2d, Linear, Neuron, Pad


@handles(nn.Conv2d)
@by_part
def conv2d(call: Call) -> Result:
    module = call.module
    assert isinstance(module, nn.Conv2d)
    weights, rest = (module.weight, module.bias, module.stride), (module.dilation, module.groups)
    if module.padding_mode == "zeros":
        return _conv2d(call, call.args[0], *weights, module.padding, *rest)
    border = BorderPad(amounts=tuple(module._reversed_padding_repeated_twice), mode=module.padding_mode)
    return _conv2d(call, Made(border, (call.args[0],)), *weights, 0, *rest)


@handles(F.conv2d, torch.conv2d)
@by_part
def conv2d_function(call: Call) -> Result:
    return _conv2d(
        call,
        call.args[0],
        call.constant(call.argument(1, "weight")),
        _optional(call, call.argument(2, "bias")),
        call.argument(3, "stride", 1),
        call.argument(4, "padding", 0),
        call.argument(5, "dilation", 1),
        call.argument(6, "groups", 1),
    )


def _conv2d(
    call: Call, source: Any, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> Made:
    """Padding that differs from side to side becomes an op of its own."""
    dilation = _pair(dilation)
    if padding == "valid":
        padding = 0
    elif padding == "same":  # the odd one goes after
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        padding = (total[0] // 2, total[1] // 2)
        if total[0] % 2 or total[1] % 2:
            rows, columns = ((amount // 2, amount - amount // 2) for amount in total)
            source, padding = Made(Pad(amounts=(*columns, *rows)), (source,)), 0
    op = Conv2d(weight, bias, stride=_pair(stride), padding=_pair(padding), dilation=dilation, groups=groups)
    return Made(op, (source,))


@handles(nn.Conv1d)
def conv1d(call: Call) -> Result:
    """The convolution of images one pixel high."""
    m = call.module
    assert isinstance(m, nn.Conv1d)
    if m.padding_mode != "zeros":
        raise Refused(f"pads with {m.padding_mode}", "pad with zeros")
    padding = m.padding if isinstance(m.padding, str) else (0, m.padding[0])
    return _row(call, m.weight, m.bias, m.stride[0], padding, m.dilation[0], m.groups)


@handles(F.conv1d, torch.conv1d)
def conv1d_function(call: Call) -> Result:
    stride, padding, dilation = (
        value[0] if isinstance(value := call.argument(i, name, default), tuple | list) else value
        for i, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    weight, bias = call.constant(call.argument(1, "weight")), _optional(call, call.argument(2, "bias"))
    padding = padding if isinstance(padding, str) else (0, padding)
    return _row(call, weight, bias, stride, padding, dilation, call.argument(6, "groups", 1))


def _row(
    call: Call, weight: Tensor, bias: Tensor | None, stride: int, padding: Any, dilation: int, groups: int
) -> Made:
    return flat(
        call,
        lambda image: _conv2d(call, image, weight.unsqueeze(2), bias, (1, stride), padding, (1, dilation), groups),
    )


@handles(nn.Linear)
@any_layout
def linear(call: Call) -> Result:
    assert isinstance(call.module, nn.Linear)
    return Made(Linear(call.module.weight, call.module.bias), (call.args[0],))


@handles(F.linear)
@any_layout
def linear_function(call: Call) -> Result:
    bias = call.argument(2, "bias")
    weight = call.constant(call.argument(1, "weight"))
    return Made(Linear(weight, None if bias is None else call.constant(bias)), (call.args[0],))


@handles(nn.BatchNorm1d, nn.BatchNorm2d)
@by_part
def batch_norm(call: Call) -> Result:
    module = call.module
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if module.running_mean is None or module.running_var is None:
        raise Refused("it normalises with the statistics of the batch", "train it with track_running_stats=True")
    op = BatchNorm(
        module.running_mean,
        module.running_var,
        module.weight,
        module.bias,
        eps=module.eps,
        momentum=0.1 if module.momentum is None else module.momentum,
    )
    return Made(op.train(module.training), (call.args[0],))


@handles(F.batch_norm)
@by_part
def batch_norm_function(call: Call) -> Result:
    mean, variance, weight, bias = (
        call.argument(i, name) for i, name in enumerate(("running_mean", "running_var", "weight", "bias"), start=1)
    )
    return _batch_norm(call, mean, variance, weight, bias)


@handles(torch.ops.aten.batch_norm)
@by_part
def batch_norm_operator(call: Call) -> Result:
    """As the function, with its tensors in another order."""
    weight, bias, mean, variance = call.args[1:5]
    return _batch_norm(call, mean, variance, weight, bias)


def _batch_norm(call: Call, mean: Any, variance: Any, weight: Any, bias: Any) -> Made:
    if mean is None or variance is None or call.argument(5, "training", False):
        raise Refused("it normalises with the statistics of the batch", "call model.eval() first")
    op = BatchNorm(
        call.constant(mean),
        call.constant(variance),
        _optional(call, weight),
        _optional(call, bias),
        eps=call.argument(7, "eps", 1e-5),
    )
    return Made(op.eval(), (call.args[0],))


@handles(Neuron)
def neuron(call: Call) -> Result:
    assert isinstance(call.module, Neuron)
    return Made(call.module, (call.args[0],))


def _optional(call: Call, value: Any) -> Tensor | None:
    return None if value is None else call.constant(value)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
