"""The fused step against the same step recorded operation by operation."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seenn.ops import if_step, signed_if_step
from seenn.ops.fused import fused_if_step


def inputs(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    v, x = (torch.randn(6, 3, 4, generator=random, dtype=torch.float64) * 2 for _ in range(2))
    theta = torch.rand(1, 3, 1, generator=random, dtype=torch.float64) + 0.5
    net = torch.randint(0, 4, (6, 3, 4), generator=random).double()
    return v.requires_grad_(), x.requires_grad_(), theta.requires_grad_(), net


@pytest.mark.parametrize("max_spikes", [1, 3])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("block", [1, 30, 1 << 18])
def test_values_and_gradients_are_those_of_the_plain_step(
    max_spikes: int, signed: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seenn.ops.fused._BLOCK", block)
    v, x, theta, net = inputs(0)
    found = fused_if_step(v, x, theta, net if signed else None, max_spikes)
    if signed:
        count, after, net_after = signed_if_step(v, net, x, theta, max_spikes)
        assert found[2] is not None
        assert torch.equal(found[2], net_after)
    else:
        count, after = if_step(v, x, theta, max_spikes)
    random = torch.Generator().manual_seed(1)
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.7, -0.4)):
        g = torch.randn(6, 3, 4, generator=random, dtype=torch.float64)
        pairs = ((found[0], found[1]), (count * theta, after))
        losses = [sum(w * (t * g).sum() for w, t in zip(weights, pair, strict=True) if w) for pair in pairs]
        ours, plain = (torch.autograd.grad(loss, (v, x, theta), retain_graph=True) for loss in losses)
        for a, b in zip(ours, plain, strict=True):
            torch.testing.assert_close(a, b)
    torch.testing.assert_close(found[0], count * theta)
    torch.testing.assert_close(found[1], after)
