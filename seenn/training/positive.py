"""Thresholds that stay positive while they are learned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.utils import parametrize


class _Exponential(nn.Module):
    """θ = e^ρ: a step in ρ changes θ by a factor, whatever the scale of its layer, and never its sign."""

    def forward(self, log: Tensor) -> Tensor:
        return log.exp()

    def right_inverse(self, threshold: Tensor) -> Tensor:
        return threshold.log()


@contextmanager
def positive_thresholds(module: nn.Module) -> Iterator[None]:
    """Inside, the logarithm of every ``v_threshold`` in ``module`` is what optimisers see; afterwards θ again.

    State dicts that are taken inside hold the logarithms and fit inside only.
    """
    owners = [part for part in module.modules() if isinstance(getattr(part, "v_threshold", None), nn.Parameter)]
    for owner in owners:
        parametrize.register_parametrization(owner, "v_threshold", _Exponential())
    try:
        yield
    finally:
        for owner in owners:
            parametrize.remove_parametrizations(owner, "v_threshold", leave_parametrized=True)
