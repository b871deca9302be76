"""From a value to a ``Sum``: its fixed-point scale, the integers that it makes, and the proof that they fit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from seenn.runtime.lowering.program import EXACT_LIMIT, WIDE_LIMIT, Buffer, GainTerm, SynapseTerm, Term
from seenn.runtime.lowering.rounding import INT8_LEVELS, Calibration, Rounding
from seenn.runtime.lowering.values import Value, along, compressed, spread
from seenn.runtime.slots import LayerReport

WIDE_LEVELS = INT8_LEVELS << 7  # weights outside int8: as many as the exact range allows, halving from here
FINEST = 1 << 12  # what adds less than this part of a threshold needs no finer scale
LARGEST_THRESHOLD = 1 << 18  # units that a threshold has, if nothing else wants more
MOST_TIMESTEPS = 1 << 20
RESOLUTION = 128  # units that a threshold, or what a lone constant is added to, has at least
LEVELS = tuple(WIDE_LEVELS >> halved for halved in range(8))  # down to int8's
#: What is tried, in this order: the range that all steps have to fit in, weight levels, and by how much the scale is
#: coarser than is wanted, where one step would not fit otherwise.
ATTEMPTS = (
    *((limit, levels, 1) for limit in (EXACT_LIMIT, WIDE_LIMIT) for levels in LEVELS),
    *((WIDE_LIMIT, INT8_LEVELS >> less, 1 << halved) for halved in range(1, 5) for less in (0, halved)),
)


@dataclass(frozen=True, kw_only=True)
class ScaledSum:
    """A sum on its scale.

    Attributes:
        scale: what one unit of the target is worth, float64, broadcastable to the target.
        up, down: the largest sum of positive and of negative parts in one step.
        dtype: of the buffer: of membranes after all steps that are wanted, of scores in one.
    """

    terms: tuple[Term, ...]
    constant: Tensor | None
    scale: Tensor
    up: float
    down: float
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True, kw_only=True)
class Use:
    """What a sum is for: it decides what its scale has to be.

    Attributes:
        axis: of the channels that have a scale each; by default where synapses have their channels.
        threshold: θ ``[C]`` of a neuron that adds the sum to its membrane.
        start: the most that the membrane starts with, in thresholds.
        spikes: the most that the neuron emits in a step.
        gain: the most that the neuron's activation multiplies its charge by.
        steps: the sum is added up over all timesteps.
        uniform: one scale for all channels.
        wide: of scores: all synapses may have more than 127 levels, and be computed in float64.
    """

    axis: int | None = None
    threshold: Tensor | None = None
    start: float = 0.0
    spikes: int = 1
    gain: float = 1.0
    steps: bool = False
    uniform: bool = False
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How large a sum can become.

    Attributes:
        per_step: the most that a step adds.
        rest: the most there is besides, before the first step or beyond.
        span: of the membranes at which a neuron has a number of spikes to choose.
        spikes: the most in a step.
        at_once: what a step's sum has to stay below, where all together may exceed float32.
    """

    per_step: float
    rest: float = 0.0
    span: float = 0.0
    spikes: int = 1
    at_once: int = EXACT_LIMIT

    def timesteps(self, limit: int) -> int:
        """How many may be added up, so that all stays below ``limit``.

        Even where that is int32's, float32 holds the sum of a step (but scores), the span, and net counts.
        """
        fit = math.ceil((limit - self.rest) / self.per_step) - 1 if self.per_step > 0 else MOST_TIMESTEPS
        if limit == EXACT_LIMIT:
            return fit
        fits = self.per_step < self.at_once and self.span < EXACT_LIMIT
        return min(fit, (EXACT_LIMIT - 1) // self.spikes) if fits else 0


@dataclass(kw_only=True)
class Scale:
    """How sums are scaled. Not at all here: weights are real, and one unit is worth 1.

    Attributes:
        report, coarser, max_timesteps: see ``Program``.
        problems: sums that could leave the exact range.
    """

    report: list[LayerReport] = field(default_factory=list)
    coarser: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    max_timesteps: int | None = None

    def scaled_sum(self, name: str, value: Value, buffers: Mapping[str, Buffer], use: Use) -> ScaledSum:
        """The sum on its scale.

        Args:
            name: what errors call it.
            value: what to compute.
            buffers: the ranges of its sources.
            use: what the sum is for.
        """
        terms = tuple(replace(t, gain=compressed(t.gain)) if isinstance(t, GainTerm) else t for t in value.terms)
        one = torch.ones((), dtype=torch.float64)
        constant = None if value.constant is None else compressed(value.constant)
        return ScaledSum(terms=terms, constant=constant, scale=one, up=math.inf, down=math.inf)

    def rounded(self, values: Tensor, *, least: float | None = None) -> Tensor:
        """The nearest integers, none below ``least``, where values have to be integers."""
        return values

    def proven(self, name: str, reach: Reach, *, steps: bool = False) -> torch.dtype:
        """What holds the sum of one step, or of all; notes up to which T, or that nothing does at the T wanted."""
        return torch.float32


@dataclass(kw_only=True)
class IntegerScale(Scale):
    """A fixed-point scale per output channel, chosen so that weights fit in int8 and everything else is an integer.

    With s the unit of a channel, a synapse's weights become ``k·s·{−127 … 127}`` with an integer k, another
    neuron's counts are worth integer multiples of s, and so are constants and the threshold. A residual that
    comes in as it is (an identity) fixes s to a fraction of its own unit, so that it is met exactly.

    Args:
        timesteps: T for which exactness is to be proven.
        float_sites: layers whose weights get as many levels as the exact range allows, instead of 127.
        rounding: where weights are cut off, and which mean errors are corrected; chosen before, or on the way.
    """

    timesteps: int
    float_sites: frozenset[str] = frozenset()
    rounding: Calibration | Rounding = field(default_factory=Rounding)

    def scaled_sum(self, name: str, value: Value, buffers: Mapping[str, Buffer], use: Use) -> ScaledSum:
        """The sum on the first scale of ``ATTEMPTS`` on which no partial result leaves the exact range."""
        if use.axis is None:
            use = replace(use, axis=next((t.axis(len(value.shape)) for t in value.synapses), 0))
        needed = self.timesteps if use.steps else 1
        finest = WIDE_LEVELS if any(self._is_wide(t, buffers, use) for t in value.synapses) else INT8_LEVELS
        for limit, levels, coarser in ATTEMPTS:
            if levels > finest:
                continue
            found, reports = self._attempt(value, buffers, use, levels, coarser)
            at_once = WIDE_LIMIT if use.wide else EXACT_LIMIT
            reach = Reach(per_step=use.gain * max(found.up, found.down), at_once=at_once)
            if use.threshold is not None:  # the membrane before the first step, and one more spike than it holds
                threshold = float((use.threshold / found.scale.flatten()).max())
                rest, span = (1 + max(1.0, use.start)) * threshold, (1 + use.spikes) * (1 + threshold)
                reach = replace(reach, rest=rest, span=span, spikes=use.spikes)
            if reach.timesteps(limit) >= needed:
                break
        self.report.extend(reports)
        if coarser > 1:
            self.coarser[name] = coarser
        dtype = self.proven(name, reach, steps=use.steps)
        if use.wide:
            dtype = torch.float32 if reach.per_step < EXACT_LIMIT else torch.float64
        return replace(found, dtype=dtype)

    def rounded(self, values: Tensor, *, least: float | None = None) -> Tensor:
        return values.round() if least is None else values.round().clamp(min=least)

    def proven(self, name: str, reach: Reach, *, steps: bool = False) -> torch.dtype:
        needed = self.timesteps if steps else 1
        narrow, wide = reach.timesteps(EXACT_LIMIT), reach.timesteps(WIDE_LIMIT)
        most = narrow if narrow >= needed or not steps else max(narrow, wide)
        if most < needed:
            when = f"after {needed} steps" if steps else "in one step"
            advice = f", exact up to T = {most}" if most > 0 else ""
            self.problems.append(f"{name}: may reach {reach.rest + reach.per_step * needed:,.0f} {when}{advice}")
        elif steps:
            self.max_timesteps = most if self.max_timesteps is None else min(self.max_timesteps, most)
        return torch.float32 if narrow >= needed else torch.int32

    def _is_wide(self, term: SynapseTerm, buffers: Mapping[str, Buffer], use: Use) -> bool:
        """Whether its weights may have more than 127 levels."""
        return use.wide or buffers[term.source].life == "constant" or term.layer in self.float_sites

    def _attempt(
        self, value: Value, buffers: Mapping[str, Buffer], use: Use, levels: int, coarser: int
    ) -> tuple[ScaledSum, list[LayerReport]]:
        axis, threshold = use.axis or 0, use.threshold
        weighted = value.synapses
        channels = value.shape[axis] if value.shape else 1

        def count(term: SynapseTerm) -> int:
            return levels if self._is_wide(term, buffers, use) else min(levels, INT8_LEVELS)

        def rounding(term: SynapseTerm) -> Calibration | Rounding:
            return Rounding() if term.layer in self.float_sites else self.rounding

        finest = [_largest(t, use.uniform) * rounding(t).clip(t, count(t)) / count(t) for t in weighted]
        gains = [t.gain.expand(value.shape) for t in value.terms if isinstance(t, GainTerm)]
        lone = value.constant is not None and not weighted
        reach = max((max(-buffers[t.source].low, buffers[t.source].high) for t in value.terms), default=1.0)
        nothing = None if threshold is None else threshold / (FINEST * max(reach, 1.0))  # per unit of input
        scale = _unit(finest, gains, use, channels, nothing, lone, coarser)
        terms: list[Term] = []
        reports: list[LayerReport] = []
        up = torch.zeros(channels, dtype=torch.float64)
        down = torch.zeros_like(up)
        constant = value.constant
        for term in value.terms:
            low, high = buffers[term.source].low, buffers[term.source].high
            if isinstance(term, GainTerm):
                gain = compressed((term.gain / along(scale, axis, term.gain.dim())).round())
                terms.append(GainTerm(source=term.source, gain=gain))
                positive, negative = gain.clamp(min=0), gain.clamp(max=0)
                for bound, part in (
                    (up, positive * high + negative * low),
                    (down, -(positive * low + negative * high)),
                ):
                    bound += spread(part.expand(value.shape).clamp(min=0), axis)[1]
                continue
            most = count(term)
            unit = (finest[weighted.index(term)] / scale - 1e-9).ceil().clamp(min=1)
            weight = (term.weight / along(unit * scale, 0, term.weight.dim())).round().clamp(-most, most)
            weight = weight * along(unit, 0, weight.dim())
            terms.append(replace(term, weight=weight, unit=unit if most <= INT8_LEVELS else None))
            positive, negative = weight.clamp(min=0).flatten(1).sum(1), weight.clamp(max=0).flatten(1).sum(1)
            up += positive * max(high, 0.0) + negative * min(low, 0.0)
            down -= positive * min(low, 0.0) + negative * max(high, 0.0)
            error = term.weight - weight * along(scale, 0, weight.dim())
            correction = rounding(term).correction(term, error)
            if correction is not None:
                shift = along(correction, axis, len(value.shape)).expand(value.shape)
                constant = shift if constant is None else constant + shift
            reports.append(
                LayerReport(
                    layer=term.layer,
                    bits=math.ceil(math.log2(2 * most + 1)),
                    weight_error=float(error.norm() / term.weight.norm().clamp(min=1e-300)),
                )
            )
        if constant is not None:
            constant = compressed((constant / along(scale, axis, constant.dim())).round())
            lowest, highest = spread(constant.expand(value.shape), axis)
            up += highest.clamp(min=0)
            down -= lowest.clamp(max=0)
            if bool((constant == 0).all()):
                constant = None
        shaped = along(scale, axis, len(value.shape))
        found = ScaledSum(
            terms=tuple(terms), constant=constant, scale=shaped, up=float(up.max()), down=float(down.max())
        )
        return found, reports


def _unit(
    finest: list[Tensor],
    gains: list[Tensor],
    use: Use,
    channels: int,
    negligible: Tensor | None,
    lone: bool,
    coarser: int,
) -> Tensor:
    """``[C]``: a unit that divides what is fixed and is as fine as weights and threshold want it, or some coarser."""
    axis, threshold = use.axis or 0, use.threshold
    nothing = torch.full((channels,), math.inf, dtype=torch.float64)
    wanted = nothing if threshold is None else threshold.expand(channels) / RESOLUTION
    for q in finest:
        wanted = torch.minimum(wanted, torch.where(q > 0, q, nothing))
    fixed = nothing
    for gain in gains:
        fixed = torch.minimum(fixed, spread(torch.where(gain == 0, math.inf, gain.abs()), axis)[0])
    if use.uniform:
        wanted, fixed = wanted.min().expand(channels), fixed.min().expand(channels)
    for gain in gains:  # several fixed units, or one that varies: their ratios need resolution
        ratio = gain.abs() / along(fixed, axis, gain.dim())
        if bool(((ratio - ratio.round()).abs() > 1e-9).any()):
            wanted = torch.minimum(wanted, fixed / RESOLUTION)
    if lone:  # half a unit in each step is what the constant's rounding adds
        enough = fixed / RESOLUTION
        wanted = torch.minimum(wanted, enough if threshold is None else torch.maximum(enough, threshold / FINEST))
    # From the coarsest thing that must be met, an integer number of times finer.
    coarse = fixed
    for q in finest:
        coarse = torch.where(fixed.isfinite(), fixed, torch.where(coarse.isfinite(), torch.maximum(coarse, q), q))
    coarse = torch.where(coarse.isfinite() & (coarse > 0), coarse, torch.where(wanted.isfinite(), wanted, 1.0))
    if use.uniform:
        coarse = coarse.max().expand(channels)
    if threshold is not None and negligible is not None:
        wanted = torch.maximum(wanted, torch.maximum(negligible, threshold / LARGEST_THRESHOLD))
        coarse = torch.maximum(coarse, coarser * negligible)
    parts = torch.where(wanted.isfinite(), (coarse / (coarser * wanted) + 1e-9).floor(), 1.0).clamp(min=1)
    return coarse / parts


def _largest(term: SynapseTerm, uniform: bool) -> Tensor:
    largest = term.weight.abs().flatten(1).amax(1)
    return largest.max().expand(len(largest)) if uniform else largest
