from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seenn.training.losses import LOSSES, CumulativeLoss, MeanLoss, TETLoss

OUTPUTS = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
LABELS = torch.tensor([0, 3, 1, 2, 2])


def _ce(scores: Tensor, smoothing: float = 0.0) -> Tensor:
    target = F.one_hot(LABELS, 4).double() * (1 - smoothing) + smoothing / 4
    return -(target * scores.log_softmax(-1)).sum(-1).mean()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_losses_are_their_formulas(smoothing: float) -> None:
    every = sum(_ce(o, smoothing) for o in OUTPUTS) / 3
    torch.testing.assert_close(
        TETLoss(label_smoothing=smoothing)(OUTPUTS, LABELS), 0.999 * every + 0.001 * (OUTPUTS - 1).square().mean()
    )
    sums = [OUTPUTS[0], OUTPUTS[0] + OUTPUTS[1], OUTPUTS[0] + OUTPUTS[1] + OUTPUTS[2]]
    torch.testing.assert_close(
        CumulativeLoss(label_smoothing=smoothing)(OUTPUTS, LABELS), sum(_ce(s, smoothing) for s in sums) / 3
    )
    torch.testing.assert_close(MeanLoss(label_smoothing=smoothing)(OUTPUTS, LABELS), _ce(OUTPUTS.mean(0), smoothing))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_timestep_is_trained(name: str) -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    LOSSES[name]()(outputs, LABELS).backward()
    assert outputs.grad is not None
    assert bool((outputs.grad.abs().sum((1, 2)) > 0).all())


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_labels_may_be_probabilities(name: str) -> None:
    loss = LOSSES[name]()
    torch.testing.assert_close(loss(OUTPUTS, F.one_hot(LABELS, 4).double()), loss(OUTPUTS, LABELS))


def test_what_is_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label_smoothing must be in \[0, 1\), got 1.0"):
        MeanLoss(label_smoothing=1.0)
    with pytest.raises(ValueError, match=r"regularisation must be in \[0, 1\), got -0.1"):
        TETLoss(regularisation=-0.1)
