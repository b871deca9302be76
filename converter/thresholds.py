"""A site's threshold from what was looked at there, and what it cuts off on images that it was not chosen on."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from converter.config import ConvertConfig
from converter.recipes import Recipe
from converter.recipes.mmse import MMSE
from converter.sample import Activations
from converter.statistics import LARGEST, SMALLEST, SiteStatistics
from seenn.core.ops import Activation, Identity
from seenn.errors import CalibrationError
from seenn.neurons import NEURONS

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """What was chosen.

    Attributes:
        value: θ, scalar or ``[C]``, on the CPU.
        silent: channels that were never active and borrowed theirs.
        clipped: share of the values on one half of the images that a range found on the other half cuts off.
        clipped_energy: the share of their squares that is lost.
        excess: by how much that is more than on the half that the range was found on.
    """

    value: Tensor
    silent: int = 0
    clipped: float = 0.0
    clipped_energy: float = 0.0
    excess: float = 0.0


def choose_threshold(site: str, op: Activation, seen: Activations, config: ConvertConfig) -> Threshold:
    """As ``config`` says.

    Raises:
        CalibrationError: the site is never active (or a channel, when the config refuses those), or not finite.
    """
    recipe, max_spikes = config.recipe, config.max_spikes
    if isinstance(op, Identity):
        recipe, max_spikes = (MMSE() if recipe.learned else recipe), config.encoder_levels
    signed = NEURONS.get(config.neuron).signed
    if (own := op.own_threshold(config.timesteps, max_spikes, signed=signed)) is not None:
        return Threshold(value=own.cpu())
    steps = config.timesteps * max_spikes
    statistics = seen.statistics(per_channel=recipe.per_channel)
    alive = _alive(site, statistics, config)
    ranges = recipe.range(statistics, steps).to(statistics.maximum.dtype)
    # A channel that calibration never saw active gets the site's widest range: it stays as coarse as the rest.
    ranges = torch.where(alive & (ranges > 0), ranges, ranges[alive].amax()).clamp(max=op.largest)
    threshold = ranges / max_spikes
    clipped, energy, expected = _clipped(recipe, statistics, steps)
    return Threshold(
        value=threshold if recipe.per_channel else threshold[0],
        silent=int((~alive).sum()),
        clipped=clipped,
        clipped_energy=energy,
        excess=energy - expected,
    )


def _clipped(recipe: Recipe, statistics: SiteStatistics, steps: int) -> tuple[float, float, float]:
    """What ranges that are found on one half of the images clip, both ways: shares of the values and of the energy on
    the other half, and of the energy on their own.
    """
    assert statistics.halves is not None
    unseen, seen = torch.zeros(2, 4, dtype=torch.float64)
    for half, other in zip(statistics.halves, reversed(statistics.halves), strict=True):
        # What the recipe chose for the whole stays, such as how much wider a range is than what was seen.
        ranges = recipe.range(replace(half, halves=statistics.halves), steps)
        ranges = torch.where(ranges > 0, ranges, ranges.amax())
        unseen += other.clipped(ranges)
        seen += half.clipped(ranges)
    values, of_values, energy, of_energy = unseen.tolist()
    return values / max(of_values, 1.0), energy / max(of_energy, SMALLEST), float(seen[2] / seen[3].clamp_min(SMALLEST))


def _alive(site: str, statistics: SiteStatistics, config: ConvertConfig) -> Tensor:
    """Which channels are active at all, bool ``[C]``."""
    if not bool(statistics.maximum.isfinite().all()):
        raise CalibrationError(f"site {site!r}: the ANN's activations are not finite; check its weights")
    if (largest := float(statistics.maximum.max())) > LARGEST:
        raise CalibrationError(
            f"site {site!r} reaches {largest:.1e} on the calibration images, which float32 cannot compute with: scale "
            "the weights before it"
        )
    alive = statistics.maximum > SMALLEST
    silent = int((~alive).sum())
    if not bool(alive.any()):
        what = f"reaches at most {largest:.1e}, which float32 cannot compute with," if largest else "is never active"
        raise CalibrationError(
            f"site {site!r} {what} on the calibration images: no threshold can be chosen. "
            "Check that the images are preprocessed as in training, and that the checkpoint is trained"
        )
    if silent and config.silent_channels == "refuse":
        where = (~alive).nonzero().flatten().tolist()
        raise CalibrationError(
            f"site {site!r}: {silent} of {len(alive)} channels are never active on the calibration images "
            f"({', '.join(map(str, where[:8]))}{', …' if silent > 8 else ''}): use more images, or let them borrow "
            "the site's largest threshold (silent_channels='borrow')"
        )
    if silent:
        log.warning(
            "site %s: %d of %d channels were never active in calibration; they borrow the site's largest threshold",
            site,
            silent,
            len(alive),
        )
    return alive
