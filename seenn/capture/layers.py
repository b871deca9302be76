"""Convolutions, linear layers, normalisation and neurons."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture.handlers import Call, Made, Refused, Result, handles
from seenn.capture.parts import by_part
from seenn.capture.rows import by_row
from seenn.core.ops import BatchNorm, BorderPad, Conv2d, Linear, Neuron, Pad


@handles(nn.Conv1d, nn.Conv2d, "conv1d", "conv2d", any_layout=True)
@by_row
@by_part
def conv2d(call: Call) -> Result:
    source, settings, module = call.args[0], _settings(call), call.module
    if isinstance(module, nn.Conv1d | nn.Conv2d) and module.padding_mode != "zeros":
        amounts = (*module._reversed_padding_repeated_twice, 0, 0)[:4]
        border = BorderPad(amounts=amounts, mode=module.padding_mode)
        source, settings["padding"] = Made(border, (source,)), 0
    return _conv2d(source, **settings)


def _settings(call: Call) -> dict[str, Any]:
    """What a convolution is made with."""
    return {
        "weight": call.constant(call.argument(1, "weight")),
        "bias": call.weight(2, "bias"),
        "stride": call.argument(3, "stride", 1),
        "padding": call.argument(4, "padding", 0),
        "dilation": call.argument(5, "dilation", 1),
        "groups": call.argument(6, "groups", 1),
    }


def _conv2d(
    source: Any, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
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


@handles(nn.Linear, "linear", any_layout=True)
def linear(call: Call) -> Result:
    return call.of(Linear(call.constant(call.argument(1, "weight")), call.weight(2, "bias")))


@handles(nn.BatchNorm1d, nn.BatchNorm2d, F.batch_norm, "batch_norm", any_layout=True)
@by_row
@by_part
def batch_norm(call: Call) -> Result:
    """The operator takes its tensors in another order than the function."""
    names = ("running_mean", "running_var", "weight", "bias")
    order = names if call.node.target is F.batch_norm else (*names[2:], *names[:2])
    given = {name: call.weight(position, name) for position, name in enumerate(order, start=1)}
    mean, variance, weight, bias = map(given.__getitem__, names)
    training = bool(call.argument(5, "training", False))
    if mean is None or variance is None:
        raise Refused("it normalises with the statistics of the batch", "train it with track_running_stats=True")
    if training and call.module is None:
        raise Refused("it normalises with the statistics of the batch", "call model.eval() first")
    momentum = getattr(call.module, "momentum", None) or 0.1
    op = BatchNorm(mean, variance, weight, bias, eps=call.argument(7, "eps", 1e-5), momentum=momentum)
    return call.of(op.train(training))


@handles("_native_batch_norm_legit_no_training", any_layout=True)
def batch_norm_operator(call: Call) -> Result:
    """What ``torch.export`` writes where a model writes through views; its statistics are not offered."""
    weight, bias, mean, variance = (call.weight(position, "") for position in (1, 2, 3, 4))
    if mean is None or variance is None:
        raise Refused("it normalises with the statistics of the batch", "train it with track_running_stats=True")
    op = BatchNorm(mean, variance, weight, bias, eps=call.args[6])
    made = by_row(by_part(lambda call: call.of(op.eval())))(call)
    assert isinstance(made, Made)
    return made, None, None


@handles(Neuron)
def neuron(call: Call) -> Result:
    assert isinstance(call.module, Neuron)
    return call.of(call.module)


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
