"""Recipes: the ranges they choose, and statistics that do not depend on how the images are dealt."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

import pytest
import torch
from torch import Tensor

from converter import MMSE, Max, Percentile
from converter.sample import Activations, Currents
from converter.statistics import BINS, SiteStatistics


def activations(n: int = 24, channels: int = 3, size: int = 6) -> Tensor:
    """Half-normal values, each channel on a scale of its own, with a long tail."""
    x = torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(2)).relu().pow(1.5)
    return x * torch.tensor([0.3, 1.0, 7.0][:channels]).view(-1, 1, 1)


def squared_error(x: Tensor, reach: Tensor, steps: int) -> Tensor:
    """Mean squared rounding-and-clipping error of ``[N, C, H, W]`` per channel."""
    step = (reach / steps).view(1, -1, 1, 1)
    return (x - torch.floor(x / step + 0.5).clamp(0, steps) * step).double().square().mean((0, 2, 3))


def statistics(x: Tensor) -> SiteStatistics:
    """Of ``[N, C, H, W]``, as calibration makes them."""
    seen = Activations(len(x), 1, two_sided=False)
    seen.add(0, x)
    return seen.statistics()


def test_max_is_the_largest_activation() -> None:
    x = activations()
    assert torch.equal(Max().range(statistics(x), 8), x.amax((0, 2, 3)))


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0, 100.0])
def test_percentile_is_exact_to_a_bin(q: float) -> None:
    x = activations()
    found = Percentile(q=q).range(statistics(x), 8)
    exact = torch.quantile(x.transpose(0, 1).flatten(1), q / 100, dim=1, interpolation="higher")
    assert bool(((found - exact).abs() <= 1.5 * x.amax((0, 2, 3)) / BINS).all())


@pytest.mark.parametrize("steps", [1, 8, 32, 1000])
def test_errors_are_those_of_rounding_and_clipping(steps: int) -> None:
    x = activations()
    found = statistics(x)
    for ratio in (0.1, 0.7, 1.0, 1.8, 40.0):
        expected = squared_error(x, ratio * found.maximum, steps)
        torch.testing.assert_close(found.error(ratio * found.maximum, steps), expected, rtol=0.15, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 8, 32])
def test_mmse_without_other_images_is_the_best_of_its_candidates(steps: int) -> None:
    x = activations()
    seen = replace(statistics(x), halves=None)
    found = MMSE().range(seen, steps)
    candidates = torch.stack([seen.maximum * (1 - i / 100) for i in range(95)])
    best = torch.stack([squared_error(x, reach, steps) for reach in candidates]).amin(0)
    assert bool((squared_error(x, found, steps) <= 1.05 * best).all())


@pytest.mark.parametrize("shared", [0.31, 0.53, 0.77])
def test_a_value_that_most_positions_share_is_nearly_a_level(shared: float) -> None:
    """As where the background is of one color."""
    x = activations()
    largest = x.amax((0, 2, 3)).view(1, -1, 1, 1)
    x = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.8, shared * largest, x)
    seen = statistics(x)
    found = MMSE().range(replace(seen, halves=None), 32)
    candidates = torch.stack([seen.maximum * (1 - i / 100) for i in range(95)])
    best = torch.stack([squared_error(x, reach, 32) for reach in candidates]).amin(0)
    assert bool((squared_error(x, found, 32) <= 1.5 * best).all())


@pytest.mark.parametrize("steps", [8, 128, 2048])
def test_mmse_has_less_error_than_the_maximum_on_images_that_it_has_not_seen(steps: int) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        x = torch.distributions.StudentT(3.0).sample((120, 16, 4, 4)).relu()  # heavy tails, alike in all channels
    seen, unseen = statistics(x[:40]), x[40:]
    found, own = MMSE().range(seen, steps), MMSE().range(replace(seen, halves=None), steps)
    assert squared_error(unseen, found, steps).sum() < squared_error(unseen, own, steps).sum()


@pytest.mark.parametrize("sizes", [(24,), (5, 5, 5, 5, 4), (1,) * 24])
def test_what_is_looked_at_does_not_depend_on_chunks(sizes: tuple[int, ...]) -> None:
    x = activations()
    seen, currents = Activations(24, 1, two_sided=False), Currents(24, 1)
    for first, chunk in zip(accumulate((0, *sizes)), x.split(sizes), strict=False):
        seen.add(first, chunk)
        currents.add(first, chunk, torch.stack([chunk, 2 * chunk]))
    whole, found, sample = statistics(x), seen.statistics(), currents.sample()
    assert torch.equal(found.maximum, whole.maximum)
    assert torch.equal(found.counts, whole.counts)
    assert int(found.counts.sum()) == x.numel()
    assert sample.target.numel() == x.numel()
    assert torch.equal(torch.stack([*sample.currents]), torch.stack([sample.target, 2 * sample.target]))


def test_halves_add_up_to_the_whole() -> None:
    found = statistics(activations())
    assert found.halves is not None
    first, second = found.halves
    assert torch.equal(torch.maximum(first.maximum, second.maximum), found.maximum)
    assert torch.equal(first.counts.sum(1) + second.counts.sum(1), found.counts.sum(1))


def test_sampled_positions_are_spread_over_the_image() -> None:
    x = torch.ones(1024, 1, 64, 64)
    x[..., 0] = 0.0  # a border that every 64th position would fall on
    counts = statistics(x).counts[0]
    assert 0 < float(counts[0] / counts.sum()) < 0.05  # a 64th, not all


def test_no_more_is_looked_at_of_more_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("converter.sample._PER_CHANNEL", 1000)
    counts = []
    for images in (64, 500, 4000):
        seen = Activations(images, 1, two_sided=False)
        for first in range(0, images, 4):
            seen.add(first, torch.ones(4, 3, 5, 5))
        counts.append(int(seen.statistics().counts.sum()) // 3)
    assert max(counts) <= 2500
    assert min(counts) >= 400


def test_silent_channel_has_a_maximum_of_zero_and_every_count_in_the_first_bin() -> None:
    x = activations()
    x[:, 1] = 0.0
    found = statistics(x)
    assert float(found.maximum[1]) == 0.0
    assert int(found.counts[1, 0]) == x[:, 1].numel()


def test_what_is_clipped_is_counted() -> None:
    x = activations()
    ranges = 0.5 * x.amax((0, 2, 3))
    limit = ranges.view(1, -1, 1, 1)
    clipped, values, lost, energy = statistics(x).clipped(ranges).tolist()
    assert values == x.numel()
    assert clipped == pytest.approx(int((x > limit).sum()), abs=3)
    assert lost / energy == pytest.approx(
        float((x.square() - limit.square()).clamp_min(0).sum() / x.square().sum()), rel=0.02
    )
    assert statistics(x).clipped(x.amax((0, 2, 3)))[0] == 0


def test_options_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"q is a percentage in \(0, 100\], got 0"):
        Percentile(q=0.0)
    with pytest.raises(ValueError, match=r"q is a percentage in \(0, 100\], got nan"):
        Percentile(q=float("nan"))
    with pytest.raises(ValueError, match="grid must be 1 to 100 candidates, got 101"):
        MMSE(grid=101)
