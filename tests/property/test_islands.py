"""Over time, every analog op adds up to t times its value at the mean of its inputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seenn.core.ops import (
    CumulativeDifference,
    Divide,
    Einsum,
    L2Norm,
    L2Normalise,
    Largest,
    LayerNorm,
    LocalResponseNorm,
    MatMul,
    Maximum,
    Multiply,
    Pointwise,
    RMSNorm,
    Softmax,
    StatelessOp,
    Variance,
    op_kinds,
)
from seenn.core.ops.base import op_class
from seenn.core.ops.pointwise import FUNCTIONS

_POSITIVE = ("log", "sqrt", "rsqrt", "reciprocal")
_SAME = ((2, 4, 3), (2, 4, 3))
ISLANDS: dict[str, tuple[StatelessOp, tuple[tuple[int, ...], ...]]] = {
    **{name: (Pointwise(function=name), ((2, 4, 3),)) for name in FUNCTIONS},
    "multiply": (Multiply(), ((2, 4, 3), (2, 4, 1))),
    "divide": (Divide(), _SAME),
    "maximum": (Maximum(), _SAME),
    "matmul": (MatMul(), ((2, 4, 3), (2, 3, 5))),
    "einsum": (Einsum(equation="anm,akm->akn"), ((2, 4, 3), (2, 5, 3))),
    "softmax": (Softmax(axis=2), ((2, 4, 3),)),
    "layer_norm": (LayerNorm(axes=(1,)), ((2, 4, 3),)),
    "rms_norm": (RMSNorm(axes=(1, 2)), ((2, 4, 3),)),
    "l2_normalise": (L2Normalise(axes=(2,)), ((2, 4, 3),)),
    "l2_norm": (L2Norm(axes=(1,)), ((2, 4, 3),)),
    "largest": (Largest(axes=(1,), keepdim=True), ((2, 4, 3),)),
    "variance": (Variance(axes=(1, 2)), ((2, 4, 3),)),
    "local_response_norm": (LocalResponseNorm(size=3), ((2, 4, 3),)),
}


def test_every_island_of_the_closed_set_is_tried() -> None:
    islands = {kind for kind in op_kinds() if op_class(kind).island}
    assert {op.kind for op, _ in ISLANDS.values()} == islands


@pytest.mark.parametrize("name", ISLANDS)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**31), timesteps=st.integers(1, 6))
def test_outputs_add_up_to_t_times_the_op_of_the_mean_inputs(name: str, seed: int, timesteps: int) -> None:
    op, shapes = ISLANDS[name]
    random = torch.Generator().manual_seed(seed)
    positive = name in _POSITIVE or name == "divide"

    def draw(shape: tuple[int, ...]) -> Tensor:
        x = torch.randn(timesteps, *shape, dtype=torch.float64, generator=random)
        return x.abs() + 0.1 if positive else x

    inputs = [draw(shape) for shape in shapes]
    memory = CumulativeDifference(op)
    state = memory.initial_state(*(x[0] for x in inputs))
    assert len(state) == len(memory.state_names(len(inputs)))
    assert all(len(part) == 2 for part in state)  # a sample is a row of every state tensor
    total = torch.zeros(())
    for t in range(1, timesteps + 1):
        y, state = memory.step(tuple(x[t - 1] for x in inputs), state)
        total = total + y
        torch.testing.assert_close(total, t * op(*(x[:t].mean(0) for x in inputs)))
    copy = CumulativeDifference(function=memory.function)  # as a checkpoint rebuilds it
    assert copy.function == memory.function
    torch.testing.assert_close(copy.constant(*(x[0] for x in inputs)), op(*(x[0] for x in inputs)), rtol=0, atol=0)
