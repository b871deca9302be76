"""Scales, one sum at a time: the unit, the integers on it, and the range that they are proven to stay in."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.core.ops import Linear
from seenn.runtime.lowering import Rounding
from seenn.runtime.lowering.program import EXACT_LIMIT, WIDE_LIMIT, Buffer, GainTerm, SynapseTerm
from seenn.runtime.lowering.scales import IntegerScale, Reach, ScaledSum, Use
from seenn.runtime.lowering.values import Value


def scaled(
    weight: list[list[float]] | Tensor | None = None,
    gain: list[float] | None = None,
    constant: list[float] | None = None,
    *,
    low: float = 0,
    high: float = 1,
    timesteps: int = 1,
    rounding: Rounding | None = None,
    float_sites: frozenset[str] = frozenset(),
    **use: Any,
) -> tuple[ScaledSum, IntegerScale]:
    """One sum over ``[C]``: of a source through weights, of another as it is, of a constant."""
    terms: list[Any] = []
    channels = len(constant or gain or [0])
    if weight is not None:
        weight = torch.as_tensor(weight, dtype=torch.float64)
        channels = len(weight)
        terms.append(SynapseTerm(layer="layer", source="x", op=Linear(torch.zeros(weight.shape)), weight=weight))
    if gain is not None:
        terms.append(GainTerm(source="x", gain=torch.tensor(gain, dtype=torch.float64)))
    buffers = {"x": Buffer(name="x", shape=(channels,), life="scratch", low=low, high=high)}
    added = None if constant is None else torch.tensor(constant, dtype=torch.float64)
    if "threshold" in use:
        use["threshold"] = torch.as_tensor(use["threshold"], dtype=torch.float64)
    scale = IntegerScale(timesteps=timesteps, rounding=rounding or Rounding(), float_sites=float_sites)
    value = Value(shape=(channels,), terms=tuple(terms), constant=added)
    return scale.scaled_sum("sum", value, buffers, Use(**use)), scale


def test_a_unit_is_a_127th_of_the_largest_weight_of_its_channel() -> None:
    found, scale = scaled([[1.27, -0.5], [0.0, -2.54]])
    assert found.scale.tolist() == pytest.approx([0.01, 0.02])
    (term,) = found.terms
    assert isinstance(term, SynapseTerm)
    assert term.weight.tolist() == [[127, -50], [0, -127]]
    assert (found.up, found.down) == (127, 127)
    assert scale.report[0].bits == 8


def test_a_layer_in_float_has_as_many_levels_as_the_exact_range_allows() -> None:
    for sources, bits, levels in ((1, 15, 16256), (9, 13, 4064), (300, 8, 127)):
        found, scale = scaled([[1.27] * sources], high=400, float_sites=frozenset({"layer"}))
        assert (scale.report[0].bits, found.up) == (bits, levels * 400 * sources)
        assert float(found.scale) == pytest.approx(1.27 / levels)


def test_weights_beyond_where_they_are_cut_off_are_the_largest_integer() -> None:
    cut = Rounding(clips={"layer": torch.tensor([0.5, 1.0], dtype=torch.float64)})
    found, _ = scaled([[2.54, -1.0], [1.27, -0.5]], rounding=cut)
    assert found.scale.tolist() == pytest.approx([0.01, 0.01])
    assert found.terms[0].weight.tolist() == [[127, -100], [127, -50]]  # type: ignore[union-attr]


def test_a_unit_goes_into_what_it_has_to_resolve_as_often_as_is_asked() -> None:
    found, _ = scaled([[127.0]], threshold=[64.0])  # a 128th of the threshold is half a 127th of the weight
    assert found.scale.tolist() == [0.5]
    found, _ = scaled([[127.0], [0.0]], threshold=[1280.0, 1280.0])
    assert found.scale.tolist() == [1.0, 10.0]  # without weights, the threshold alone decides


def test_what_adds_less_than_a_4096th_of_the_threshold_needs_no_finer_unit() -> None:
    found, _ = scaled([[2.0**-30]], threshold=[1.0])
    assert found.scale.tolist() == [2.0**-12]
    found, _ = scaled([[2.0**-30]], threshold=[1.0], high=4)
    assert found.scale.tolist() == [2.0**-14]


def test_a_constant_is_rounded_to_the_nearest_integer_and_counts() -> None:
    found, _ = scaled([[127.0], [-127.0], [127.0]], constant=[2.7, -2.7, 0.3])
    assert found.constant is not None
    assert found.constant.tolist() == [3, -3, 0]
    assert (found.up, found.down) == (130, 130)
    found, _ = scaled(constant=[2.6])
    assert (found.scale.tolist(), found.up, found.down) == ([1.0], 3, 0)
    assert found.constant is not None
    assert found.constant.tolist() == [3]


def test_what_comes_in_as_it_is_fixes_the_unit_to_a_fraction_of_its_own() -> None:
    found, _ = scaled([[1.0]], gain=[0.5])
    (weighted, straight) = found.terms
    assert isinstance(straight, GainTerm)
    assert float(straight.gain) * float(found.scale) == 0.5
    parts = 0.5 / float(found.scale)
    assert parts == round(parts) == 63  # at most 127 levels of the weight: 0.5 · 127 = 63.5
    assert isinstance(weighted, SynapseTerm)
    assert float(weighted.weight) == 126


@pytest.mark.parametrize(
    ("low", "high", "up", "down"), [(0, 3, 9, 6), (-2, 3, 13, 12), (-5, -1, 10, 15), (1, 4, 12, 8), (-3, 0, 6, 9)]
)
def test_bounds_are_of_positive_and_of_negative_parts(low: int, high: int, up: int, down: int) -> None:
    weight = torch.full((1, 5), 127.0)  # one of the largest fixes the unit; its source is as bounded as the others'
    weight[0, 3:] = -127.0
    found, _ = scaled(weight.tolist(), low=low, high=high)
    assert (found.up, found.down) == (127 * up, 127 * down)


def test_scores_that_float32_may_not_hold_are_float64() -> None:
    for high, dtype in ((EXACT_LIMIT - 1, torch.float32), (EXACT_LIMIT, torch.float64), (1 << 30, torch.float64)):
        found, scale = scaled(gain=[1.0], high=high, wide=True, steps=True)
        assert (found.up, found.dtype, scale.problems) == (high, dtype, [])
    _, scale = scaled(gain=[1.0], high=WIDE_LIMIT, wide=True, steps=True)
    assert scale.problems == ["sum: may reach 2,147,483,648 after 1 steps"]


@pytest.mark.parametrize(("sources", "bits"), [(1032, 8), (1040, 7), (2080, 7), (2081, 6)])
def test_weights_have_as_many_levels_as_one_step_can_hold(sources: int, bits: int) -> None:
    """Each 127 or 63 or 31 of 127, 128 times: 2^24 is 127 · 128 · 1032.06, and 63 · 128 · 2080.5."""
    found, scale = scaled([[1.0] * sources], high=128, threshold=[2.0], steps=True, timesteps=2)
    assert scale.report[0].bits == bits
    assert scale.problems == []
    assert max(found.up, found.down) < EXACT_LIMIT
    assert (scale.coarser == {}) is (bits == 8)


def test_where_spikes_are_chosen_float32_holds_the_membrane() -> None:
    """127 spikes of 2^18 units are beyond 2^24; with half the levels, half the units, they are not."""
    found, scale = scaled([[127 * 2.0**-18] * 8], high=127, threshold=[1.0], spikes=127, steps=True, timesteps=1000)
    assert found.dtype == torch.int32
    assert (scale.coarser, scale.report[0].bits, scale.problems) == ({"sum": 2}, 7, [])
    assert found.scale.tolist() == pytest.approx([127 * 2.0**-18 / 63])
    assert 128 * (1 + 1 / float(found.scale)) < EXACT_LIMIT


def test_how_many_steps_fit() -> None:
    assert Reach(per_step=0.0).timesteps(EXACT_LIMIT) == 1 << 20
    assert Reach(per_step=1.0).timesteps(EXACT_LIMIT) == EXACT_LIMIT - 1
    assert Reach(per_step=2.0**22, rest=2.0**22).timesteps(EXACT_LIMIT) == 2  # a third would reach it
    assert Reach(per_step=2.0**22, rest=2.0**22 - 1).timesteps(EXACT_LIMIT) == 3
    assert Reach(per_step=2.0**22, rest=5.0).timesteps(WIDE_LIMIT) == 511
    assert Reach(per_step=2.0**24 - 1).timesteps(WIDE_LIMIT) == 128
    assert Reach(per_step=2.0**24).timesteps(WIDE_LIMIT) == 0  # a step's sum is in float32
    assert Reach(per_step=2.0**24, at_once=WIDE_LIMIT).timesteps(WIDE_LIMIT) == 127
    assert Reach(per_step=1.0, span=2.0**24).timesteps(WIDE_LIMIT) == 0
    for spikes in (1, 5, 100):  # net counts are in float32, too
        assert Reach(per_step=1.0, spikes=spikes).timesteps(WIDE_LIMIT) == math.floor((EXACT_LIMIT - 1) / spikes)


def test_beside_counts_a_constant_is_as_fine_as_it_needs_to_be_and_no_finer() -> None:
    """A sum of several layers comes in units of its own, which may be far finer than the threshold."""
    found, _ = scaled(gain=[1.0], constant=[0.3], high=1, threshold=[1.0])
    assert found.scale.tolist() == [1 / 128]
    found, _ = scaled(gain=[1.0], constant=[0.3], high=2**21, threshold=[1024.0])  # which is 1024 of its units
    assert found.scale.tolist() == [0.25]  # a 4096th of the threshold
    assert max(found.up, found.down) < EXACT_LIMIT


def test_beside_counts_without_a_threshold_a_constant_has_128_units_of_theirs() -> None:
    found, _ = scaled(gain=[1.0], constant=[0.3], high=1)
    assert found.scale.tolist() == [1 / 128]


@pytest.mark.parametrize(
    ("gain", "low", "high", "up", "down"),
    [(2.0, -3, 5, 5, 3), (-2.0, -3, 5, 3, 5), (-2.0, 2, 5, 0, 5), (2.0, -7, -2, 0, 7)],
)
def test_what_comes_in_as_it_is_is_bounded_on_either_side(gain: float, low: int, high: int, up: int, down: int) -> None:
    found, _ = scaled(gain=[gain], low=low, high=high)
    assert (found.scale.tolist(), found.up, found.down) == ([2.0], up, down)


def test_units_that_are_no_multiples_of_each_other_are_met_to_a_128th() -> None:
    found, _ = scaled(gain=[1.0, 1.3], uniform=True)
    assert found.scale.tolist() == [2.0**-7, 2.0**-7]
    assert found.terms[0].gain.tolist() == [128, 166]  # type: ignore[union-attr]
    found, _ = scaled(gain=[1.0, 3.0], uniform=True)
    assert found.scale.tolist() == [1.0, 1.0]
