"""Cancelling a site's error: what is added to a neuron so that its mean output is the ANN's activation.

A neuron that runs on the currents that the spiking network really delivers is off for two reasons: rounding
and clipping, and currents that arrive unevenly over time. The mean of that error per channel, over the
calibration images, can be cancelled by a constant current in every step (``bias``; Li et al. 2021, light
calibration) or by charge that the membrane holds from the start (``potential``; the idea of their v0
calibration, here per channel). At step T both give the same total; the charge fades as 1/T if the network runs
on, and a bias does not. ``joint`` chooses both: a start between −1 and 1 thresholds per channel, with the bias
that cancels the mean then, whichever leaves the least squared error at T. A binary unsigned neuron gains most,
since it cannot take back what it fired too early; it learns to wait, so its first steps say less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from converter.sampling import by_position, cache_blocks, position_stride
from seenn.core.ops import IntegratingNeuron
from seenn.distributed import world

_SAMPLES_PER_CHANNEL = 1 << 15
_STARTS = (0.5, -1.0, -0.5, 0.0, 0.25, 0.75, 1.0)  # in thresholds; the first wins ties


@dataclass(frozen=True)
class SiteSample:
    """Currents and the activations they should become, at every k-th position of every calibration image.

    Attributes:
        currents: one ``[n, C]`` a timestep.
        target: the ANN's activations, ``[n, C]``.
    """

    currents: Sequence[Tensor]
    target: Tensor

    @staticmethod
    def of(
        current: Sequence[Tensor], analog: Sequence[Tensor], timesteps: int, *, constant: bool, axis: int = 1
    ) -> SiteSample:
        """From chunks of images: activations ``[b, C, ...]`` and currents ``[T, b, C, ...]`` (no T if constant), with
        their channels along ``axis`` of an activation.

        All positions of all images while a channel has at most 32,768; which ones of more depends on the
        image's size and the number of images only, never on their order.
        """
        images = int(world().sum_(torch.tensor(sum(map(len, analog)))))
        positions = analog[0][0].select(axis - 1, 0).numel()
        stride = position_stride(images, positions, _SAMPLES_PER_CHANNEL)

        def rows(value: Tensor) -> Tensor:
            return by_position(value.movedim(axis, 1))[:, :, ::stride].transpose(1, 2).flatten(0, 1)

        target = torch.cat([rows(chunk) for chunk in analog])
        if constant:
            return SiteSample([torch.cat([rows(chunk) for chunk in current])] * timesteps, target)
        return SiteSample([torch.cat([rows(chunk[t]) for chunk in current]) for t in range(timesteps)], target)

    def error(self, neuron: IntegratingNeuron) -> Tensor:
        """Activation minus the neuron's mean output, ``[n, C]``."""
        total = torch.zeros_like(self.target)
        for rows in cache_blocks(total):
            block = total[rows]
            state = neuron.initial_state(block)
            for current in self.currents:
                count, state = neuron.fire(current[rows], state, in_place=True)
                block += count
        return self.target - neuron.emit(total) / len(self.currents)


def _bias(neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
    for _ in range(rounds):
        error = _mean(sample.error(neuron))
        neuron = neuron.corrected(neuron.v_init, error if neuron.bias is None else neuron.bias + error)
    return neuron


def _potential(neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
    for _ in range(rounds):
        charge = len(sample.currents) * _mean(sample.error(neuron))
        neuron = neuron.corrected(neuron.v_init + charge / neuron.v_threshold, neuron.bias)
    return neuron


def _joint(neuron: IntegratingNeuron, sample: SiteSample, rounds: int) -> IntegratingNeuron:
    best: tuple[Tensor, Tensor, Tensor] | None = None  # squared error, v_init, bias, each [C]
    for start in _STARTS:
        candidate = _bias(neuron.corrected(torch.full_like(sample.target[0], start), None), sample, rounds)
        assert candidate.bias is not None
        found = (_mean(sample.error(candidate).square()), candidate.v_init, candidate.bias.detach())
        if best is None:
            best = found
        else:
            better = found[0] < best[0]
            best = tuple(torch.where(better, new, old) for new, old in zip(found, best, strict=True))  # type: ignore[assignment]
    assert best is not None
    return neuron.corrected(best[1], best[2])


#: By the names that configurations use; each takes the neuron, the sample and the number of rounds.
CORRECTIONS: Mapping[str, Callable[[IntegratingNeuron, SiteSample, int], IntegratingNeuron]] = {
    "bias": _bias,
    "potential": _potential,
    "joint": _joint,
}


def _mean(values: Tensor) -> Tensor:
    """Per channel over the rows of all processes, summed in float64 so that the order of the images does not show."""
    return world().cat(values).mean(0, dtype=torch.float64).to(values.dtype)
