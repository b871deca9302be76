"""Matrix products."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from converter.onnx_import.registry import OnnxCall, Result, by_rows, imports, parameter
from converter.onnx_import.values import Known, Rows, Traced
from seenn.capture import Refused


@imports("Gemm", rows=None)
def gemm(call: OnnxCall) -> Result:
    """``alpha x W + beta b`` as ``nn.Linear``."""
    return by_rows(1, _gemm, call, inner=1)


def _gemm(call: OnnxCall) -> Result:
    if call.attribute("transA", 0):
        raise Refused("transposes its input", "keep the batch axis first")
    weight, bias = call.tensor(1) * call.attribute("alpha", 1.0), None
    if call.value(2) is not None:
        bias = call.tensor(2) * call.attribute("beta", 1.0)
    return _linear(call, weight if call.attribute("transB", 0) else weight.mT, bias)


@imports("MatMul", rows=None)
def matmul(call: OnnxCall) -> Result:
    """A matrix on the right is ``nn.Linear``; all else is multiplied as it is, rows of all images one by one."""
    left, right = (call.value(i) for i in (0, 1))
    if isinstance(right, Known) and right.at[0].ndim == 2:
        return by_rows(1, lambda call: _linear(call, call.tensor(1).mT, None), call, inner=1)
    both = all(isinstance(value, Rows) for value in (left, right))
    return by_rows(2 if both else 0, _product, call, inner=2)


def _product(call: OnnxCall) -> Result:
    operands = [value if isinstance(value := call.value(i), Traced) else call.buffer(call.tensor(i)) for i in (0, 1)]
    return call.function(torch.matmul, *operands)


def _linear(call: OnnxCall, weight: Tensor, bias: Tensor | None) -> Result:
    module = nn.Linear(weight.shape[-1], len(weight), bias=False, device="meta")
    module.weight = parameter(weight.contiguous())
    if bias is not None:
        module.bias = parameter(bias.reshape(-1).expand(len(weight)).contiguous())
    return call.module(module, call.traced())
