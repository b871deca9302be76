"""QCFS: its values, its straight-through gradient, and the neuron that computes it."""

from __future__ import annotations

import pytest
import torch

from seenn.core.ops import QCFS, IFNeuron


def test_values_are_rounded_and_clipped_levels() -> None:
    x = torch.tensor([[-1.0, 0.1, 0.3, 0.5, 0.9, 2.2, 7.0]])
    assert QCFS(torch.tensor(2.0), levels=4)(x).tolist() == [[0.0, 0.0, 0.5, 0.5, 1.0, 2.0, 2.0]]


@pytest.mark.parametrize("shape", [(), (3,)])
def test_gradient_passes_the_floor_straight_through(shape: tuple[int, ...]) -> None:
    op = QCFS(torch.full(shape, 2.0, dtype=torch.float64), levels=4)
    x = torch.linspace(-1, 3, 30, dtype=torch.float64).view(10, 3).requires_grad_()
    y = op(x)
    g = torch.arange(30, dtype=torch.float64).view(10, 3)
    (y * g).sum().backward()
    inside = ((x > 0) & (x < 2)).double()
    assert x.grad is not None
    assert op.v_threshold.grad is not None
    torch.testing.assert_close(x.grad, g * inside)
    slope = torch.where(x >= 2, torch.ones_like(x), inside * (y - x) / 2) * g
    torch.testing.assert_close(op.v_threshold.grad, slope.sum_to_size(shape) if shape else slope.sum())


@pytest.mark.parametrize("levels", [1, 2, 4, 7, 8])
def test_a_neuron_on_constant_current_emits_exactly_the_activation(levels: int) -> None:
    theta = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    neuron = IFNeuron(theta, levels=levels)
    x = torch.arange(-64, 128, dtype=torch.float64).div(64)[:, None] * theta  # on the edges, too
    total = torch.stack([neuron(x) for _ in range(levels)]).sum(0)
    activation = neuron.activation()
    assert isinstance(activation, QCFS)
    assert torch.equal(total / levels, activation(x))


def test_levels_and_thresholds_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="v_threshold must be positive and finite everywhere, got values from -1 to 2"):
        QCFS(torch.tensor([-1.0, 2.0]))
    with pytest.raises(ValueError, match="levels must be an integer from 1 to 65535, got 0"):
        QCFS(torch.tensor(1.0), levels=0)
