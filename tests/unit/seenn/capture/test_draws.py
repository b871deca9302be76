"""What draws at random as it answers is refused, whether or not it drew another answer this time."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

import seenn
from seenn.capture import capture
from seenn.capture.draws import refuse_draws
from seenn.errors import UnsupportedError

X = torch.rand(2, 3, 4, 4)


class Own(nn.Module):
    def __init__(self, body: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def message(*layers: nn.Module) -> str:
    with pytest.raises(UnsupportedError) as caught:
        refuse_draws(nn.Sequential(*layers, nn.Flatten(), nn.Linear(48, 5)).eval(), X)
    return str(caught.value)


@pytest.mark.parametrize("layer", [v2.RandomHorizontalFlip(0.001), v2.RandomErasing(0.001), v2.RandomAutocontrast(0.1)])
def test_a_layer_that_draws_is_named_though_the_answer_is_the_same(layer: nn.Module) -> None:
    kind = type(layer).__name__
    assert f"Sequential draws at random in its forward, first in 0 ({kind}), so that an image has no" in message(layer)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x if random.random() < 2 else -x,
        lambda x: x if np.random.rand() < 2 else -x,  # noqa: NPY002 - as models have it
        lambda x: x + 0 * torch.rand(()),
        lambda x: F.dropout(x, 1e-9, training=True),
    ],
)
def test_every_shared_generator_is_looked_at(draw: Callable[[Tensor], Tensor]) -> None:
    said = message(nn.Identity(), nn.Sequential(nn.Identity(), Own(draw)))
    assert "first in 1.1 (Own)" in said  # the innermost


def test_a_model_that_draws_nothing_is_taken_and_hooks_are_not_left() -> None:
    model = nn.Sequential(nn.Dropout(0.5), v2.Normalize([0.5], [0.5]), nn.Linear(4, 4)).eval()
    refuse_draws(model, X)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_a_network_with_neurons_that_draws_is_refused() -> None:
    model = nn.Sequential(v2.RandomErasing(0.001), nn.Conv2d(3, 3, 1), seenn.IFNeuron(), nn.Flatten()).eval()
    with pytest.raises(UnsupportedError, match=r"draws at random in its forward, first in 0 \(RandomErasing\)"):
        capture(model, X)
