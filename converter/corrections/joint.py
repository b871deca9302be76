"""Charge at the start and a constant current, whichever pair leaves the least squared error."""

from __future__ import annotations

import torch
from torch import Tensor

from converter.corrections import CORRECTIONS
from converter.corrections.bias import Bias
from converter.sample import SiteSample, channel_mean
from seenn.core.ops import IntegratingNeuron

_STARTS = (0.5, -1.0, -0.5, 0.0, 0.25, 0.75, 1.0)  # in thresholds; the first wins ties


class Joint(Bias):
    """A start between −1 and 1 thresholds per channel, with the bias that cancels the mean error then.

    The pair of least squared error at T is taken. A binary unsigned neuron gains most, since it cannot take back what
    it fired too early; it learns to wait, so its first steps say less.
    """

    def correct(self, neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
        candidates: list[tuple[Tensor, Tensor, Tensor]] = []  # squared error, v_init and bias, [C] each
        for start in _STARTS:
            candidate = super().correct(
                neuron.corrected(torch.full_like(sample.target[0], start), None), sample, rounds
            )
            assert candidate.bias is not None
            error = channel_mean(sample.error(candidate).square())
            candidates.append((error, candidate.v_init.detach(), candidate.bias.detach()))
        errors, *pairs = (torch.stack(values) for values in zip(*candidates, strict=True))
        best = errors.argmin(0, keepdim=True)
        v_init, bias = (values.gather(0, best).squeeze(0) for values in pairs)
        return neuron.corrected(v_init, bias)


CORRECTIONS.register("joint")(Joint())
