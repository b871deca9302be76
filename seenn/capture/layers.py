"""Convolutions, linear layers, normalisation and neurons."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from seenn.capture.handlers import Call, Made, Refused, Result, any_layout, handles
from seenn.ops import BatchNorm, Conv2d, Linear, Neuron


@handles(nn.Conv2d)
def conv2d(call: Call) -> Result:
    module = call.module
    assert isinstance(module, nn.Conv2d)
    if module.padding_mode != "zeros":
        raise Refused(f"padding_mode={module.padding_mode!r}", "only zero padding keeps the op linear over time")
    return Made(
        Conv2d(
            module.weight,
            module.bias,
            stride=_pair(module.stride),
            padding=_padding(module.padding, module.kernel_size, module.dilation),
            dilation=_pair(module.dilation),
            groups=module.groups,
        ),
        (call.args[0],),
    )


@handles(F.conv2d, torch.conv2d)
def conv2d_function(call: Call) -> Result:
    weight = call.constant(call.argument(1, "weight"))
    bias = call.argument(2, "bias")
    dilation = _pair(call.argument(5, "dilation", 1))
    padding = _padding(call.argument(4, "padding", 0), tuple(weight.shape[2:]), dilation)
    op = Conv2d(
        weight,
        None if bias is None else call.constant(bias),
        stride=_pair(call.argument(3, "stride", 1)),
        padding=padding,
        dilation=dilation,
        groups=call.argument(6, "groups", 1),
    )
    return Made(op, (call.args[0],))


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
def batch_norm_function(call: Call) -> Result:
    mean, variance = call.argument(1, "running_mean"), call.argument(2, "running_var")
    if mean is None or variance is None or call.argument(5, "training", False):
        raise Refused("it normalises with the statistics of the batch", "call model.eval() first")
    weight, bias = call.argument(3, "weight"), call.argument(4, "bias")
    op = BatchNorm(
        call.constant(mean),
        call.constant(variance),
        None if weight is None else call.constant(weight),
        None if bias is None else call.constant(bias),
        eps=call.argument(7, "eps", 1e-5),
    )
    return Made(op.eval(), (call.args[0],))


@handles(Neuron)
def neuron(call: Call) -> Result:
    assert isinstance(call.module, Neuron)
    return Made(call.module, (call.args[0],))


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(padding: Any, kernel: Any, dilation: Any) -> tuple[int, int]:
    if padding == "valid":
        return (0, 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(_pair(dilation), _pair(kernel), strict=True)]
        if any(amount % 2 for amount in total):
            raise Refused("padding='same' with an even kernel pads one side more", "pad before the convolution")
        return (total[0] // 2, total[1] // 2)
    return _pair(padding)
