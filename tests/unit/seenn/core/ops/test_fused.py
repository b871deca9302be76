"""The fused step against the same step recorded operation by operation."""

from __future__ import annotations

import pytest
import torch
from compiled import compiled_for
from torch import Tensor

from seenn import native
from seenn.core.ops import if_step, signed_if_step
from seenn.core.ops.fused import fused_if_step


def inputs(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    v, x = (torch.randn(6, 3, 4, generator=random, dtype=torch.float64) * 2 for _ in range(2))
    theta = torch.rand(1, 3, 1, generator=random, dtype=torch.float64) + 0.5
    net = torch.randint(0, 4, (6, 3, 4), generator=random).double()
    return v.requires_grad_(), x.requires_grad_(), theta.requires_grad_(), net


@pytest.mark.parametrize("max_spikes", [1, 3])
@pytest.mark.parametrize("signed", [False, True])
def test_values_and_gradients_are_those_of_the_plain_step(max_spikes: int, signed: bool) -> None:
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


@pytest.mark.parametrize("max_spikes", [1, 3])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("theta", [torch.tensor(1.5), torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)], ids=["one", "each"])
@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("arriving", ["both", "output", "membrane"])
def test_compiled_steps_are_those_of_torch(
    max_spikes: int, signed: bool, theta: Tensor, narrow: bool, arriving: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled_for("training")
    random = torch.Generator().manual_seed(0)
    v, x, at_output, at_after = (
        (torch.randn(7, 3, 4, 5, generator=random) * 2).contiguous(memory_format=torch.channels_last) for _ in range(4)
    )
    net = torch.randint(0, 4, (7, 3, 4, 5), generator=random).float().contiguous(memory_format=torch.channels_last)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        leaves = [v.clone(), x.bfloat16() if narrow else x.clone(), theta.clone()]
        for leaf in leaves:
            leaf.requires_grad_()
        output, after, net_after = fused_if_step(*leaves, net if signed else None, max_spikes)
        assert output.dtype == leaves[1].dtype
        assert after.dtype == torch.float32
        sent = {"both": (output, after), "output": (output,), "membrane": (after,)}[arriving]
        gradients = {"both": (at_output, at_after), "output": (at_output,), "membrane": (at_after,)}[arriving]
        torch.autograd.backward(sent, tuple(g.to(s.dtype) for g, s in zip(gradients, sent, strict=True)))
        found.append((output, after, net_after, *(leaf.grad for leaf in leaves)))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2 if narrow else 1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_net_counts_and_currents_may_lie_otherwise_than_membranes(dtype: torch.dtype) -> None:
    v, x = (torch.randn(3, 4, 5, 6).contiguous(memory_format=torch.channels_last).requires_grad_() for _ in range(2))
    net, theta = torch.randint(0, 3, (3, 4, 5, 6)).float(), torch.ones(4, 1, 1, requires_grad=True)
    mixed = fused_if_step(v, x.to(dtype), theta, net, 2)
    same = fused_if_step(v, x.to(dtype).float(), theta, net.contiguous(memory_format=torch.channels_last), 2)
    losses = [(found[0].float() * (1 + net)).sum() for found in (mixed, same)]
    ours, theirs = (torch.autograd.grad(loss, (v, x, theta)) for loss in losses)
    assert bool(ours[0].abs().sum() > 0)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(mixed[1], same[1])
    assert mixed[2] is not None
    torch.testing.assert_close(mixed[2], same[2])
