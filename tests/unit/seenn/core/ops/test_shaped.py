"""Shapes that are found without running an op are those of what it gives, and what does not fit is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seenn.core.graph import shapes_only
from seenn.core.ops import BatchNorm, CumulativeDifference, IFNeuron, IncrementalProduct, Linear, MatMul, Op, Softmax


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (BatchNorm(torch.zeros(3), torch.ones(3)), [(2, 3, 4, 5)]),
        (BatchNorm(torch.zeros(3), torch.ones(3)), [(2, 3)]),
        (Linear(torch.zeros(7, 5)), [(2, 3, 5)]),
        (Linear(torch.zeros(7, 5)), [(2, 5)]),
        (IFNeuron(torch.ones(3)), [(2, 3, 4, 5)]),
        (CumulativeDifference(Softmax(axis=2)), [(2, 3, 5)]),
        (IncrementalProduct(MatMul()), [(2, 3, 5), (2, 5, 4)]),
    ],
    ids=lambda value: value.kind if isinstance(value, Op) else "",
)
def test_a_shape_is_that_of_what_is_computed(op: Op, inputs: list[tuple[int, ...]]) -> None:
    values = [torch.ones(shape) for shape in inputs]
    found: Tensor = op.first(*values)
    with shapes_only():
        shaped = op.shaped(*(torch.ones(shape) for shape in inputs))
    assert (shaped.shape, shaped.dtype) == (found.shape, found.dtype)


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (BatchNorm(torch.zeros(3), torch.ones(3)), (2, 4, 5, 5)),
        (BatchNorm(torch.zeros(3), torch.ones(3)), (3,)),
        (Linear(torch.zeros(7, 5)), (2, 3)),
        (IFNeuron(torch.ones(3)), (2, 4, 5, 5)),
        (IFNeuron(1.0, v_init=torch.zeros(3)), (2, 4, 5, 5)),
    ],
    ids=lambda value: value.kind if isinstance(value, Op) else "",
)
def test_what_does_not_fit_is_refused(op: Op, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError), shapes_only():
        op.shaped(torch.ones(shape))
