from __future__ import annotations

import pytest
import torch

from seenn.core.ops import IFNeuron, if_step
from seenn.surrogate import fire


@pytest.mark.parametrize("max_spikes", [1, 3])
@pytest.mark.parametrize("net", [None, 0.0, 2.0])
def test_gradient_is_the_documented_trapezoid_and_the_forward_pass_does_not_notice(
    max_spikes: int, net: float | None
) -> None:
    u = torch.linspace(-4, 6, 401, dtype=torch.float64, requires_grad=True)
    net_count = None if net is None else torch.full_like(u, net).detach()
    theta = torch.tensor(1.0, dtype=torch.float64)
    count = fire(u, theta, net_count, max_spikes)
    with torch.no_grad():
        assert torch.equal(count, fire(u.clone(), theta, net_count, max_spikes))
    count.sum().backward()
    lower = -min(max_spikes, int(net or 0))
    triangles = sum((1 - (u.detach() - k).abs()).clamp(min=0) for k in range(lower + 1, max_spikes + 1))
    assert u.grad is not None
    torch.testing.assert_close(u.grad, triangles)


def test_firing_without_gradients_leaves_the_membrane_alone() -> None:
    v = torch.tensor([0.4, 1.7, 2.0])
    before = v.clone()
    assert fire(v, torch.tensor(1.0), None, 4).tolist() == [0.0, 1.0, 2.0]
    assert torch.equal(v, before)


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_reach_inputs_and_thresholds_through_time(signed: bool) -> None:
    neuron = IFNeuron(torch.tensor([0.5, 1.0]), signed=signed, max_spikes=2)
    x = torch.tensor([[0.3, 0.7], [0.9, -0.2]], requires_grad=True)
    total = sum((neuron(x) for _ in range(3)), start=torch.zeros(()))
    assert isinstance(total, torch.Tensor)
    total.sum().backward()
    assert x.grad is not None
    assert neuron.v_threshold.grad is not None
    assert bool((x.grad != 0).any())
    assert bool((neuron.v_threshold.grad != 0).all())


def test_if_step_returns_count_and_reset_membrane() -> None:
    count, v = if_step(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 2.75]), torch.tensor(1.0), max_spikes=2)
    assert count.tolist() == [1.0, 2.0]
    assert v.tolist() == [0.0, 1.25]
