from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seenn.metrics import bootstrap_mean_interval, wilson_interval


def test_wilson_gives_the_textbook_interval() -> None:
    # 81 of 263 at 95 %: Newcombe, Statistics in Medicine 1998, table I, method 3.
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_inside_zero_to_one(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_more_confidence_is_wider_and_more_samples_are_narrower() -> None:
    def width(successes: int, n: int, confidence: float) -> float:
        low, high = wilson_interval(successes, n, confidence)
        return high - low

    assert width(90, 100, 0.99) > width(90, 100, 0.95) > width(9000, 10000, 0.95)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"got {successes} successes of n = {n}; expected"):
        wilson_interval(successes, n)


def test_bootstrap_agrees_with_the_normal_interval_on_many_samples() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low, high = bootstrap_mean_interval(values, seed=0)
    half_width = 1.96 * float(values.std()) / 2000**0.5
    assert low == pytest.approx(float(values.mean()) - half_width, abs=0.1 * half_width)
    assert high == pytest.approx(float(values.mean()) + half_width, abs=0.1 * half_width)


def test_bootstrap_repeats_with_its_seed() -> None:
    values = torch.tensor([1, 1, 2, 5, 8])
    first = bootstrap_mean_interval(values, seed=3)
    assert first == bootstrap_mean_interval(values, seed=3)
    assert first[0] < 3.4 < first[1]


def test_bootstrap_of_a_constant_is_that_constant() -> None:
    assert bootstrap_mean_interval(torch.full((7,), 4), seed=0) == (4.0, 4.0)


@pytest.mark.parametrize("values", [torch.empty(0), torch.ones(2, 2)])
def test_bootstrap_refuses_anything_but_a_vector(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"values are \[.*\]; expected \[N\], at least one value"):
        bootstrap_mean_interval(values, seed=0)


def test_bootstrap_refuses_nan_and_no_resamples() -> None:
    with pytest.raises(ValueError, match="1 of 2 values are NaN or infinite"):
        bootstrap_mean_interval(torch.tensor([1.0, torch.nan]), seed=0)
    with pytest.raises(ValueError, match="resamples is 0; expected at least 1"):
        bootstrap_mean_interval(torch.ones(2), seed=0, resamples=0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_confidence_is_a_fraction(confidence: float) -> None:
    with pytest.raises(ValueError, match=r"wilson_interval: confidence is .*; expected a number between 0 and 1"):
        wilson_interval(1, 2, confidence)
    with pytest.raises(ValueError, match="bootstrap_mean_interval: confidence is"):
        bootstrap_mean_interval(torch.ones(2), seed=0, confidence=confidence)
