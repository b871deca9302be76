"""Recipes: the ranges they choose, and statistics that do not depend on how the images are dealt."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from converter import MMSE, Max, Percentile
from converter.statistics import BINS, SiteStatistics


def activations(n: int = 24, channels: int = 3, size: int = 6) -> Tensor:
    """Half-normal values, each channel on a scale of its own, with a long tail."""
    x = torch.randn(n, channels, size, size, generator=torch.Generator().manual_seed(2)).relu().pow(1.5)
    return x * torch.tensor([0.3, 1.0, 7.0][:channels]).view(-1, 1, 1)


def squared_error(x: Tensor, reach: Tensor, steps: int) -> Tensor:
    """Mean squared rounding-and-clipping error of ``[N, C, H, W]`` per channel."""
    step = (reach / steps).view(1, -1, 1, 1)
    return (x - torch.floor(x / step + 0.5).clamp(0, steps) * step).double().square().mean((0, 2, 3))


def test_max_is_the_largest_activation_per_channel_or_of_the_site() -> None:
    x = activations()
    assert torch.equal(Max().range(SiteStatistics.of([x]), 8), x.amax((0, 2, 3)))
    whole = SiteStatistics.of([x], per_channel=False)
    assert torch.equal(Max(per_channel=False).range(whole, 8), x.amax().view(1))


@pytest.mark.parametrize("q", [50.0, 90.0, 99.0, 100.0])
def test_percentile_is_exact_to_a_bin(q: float) -> None:
    x = activations()
    found = Percentile(q=q).range(SiteStatistics.of([x]), 8)
    exact = torch.quantile(x.transpose(0, 1).flatten(1), q / 100, dim=1, interpolation="higher")
    assert bool(((found - exact).abs() <= 1.5 * x.amax((0, 2, 3)) / BINS).all())


@pytest.mark.parametrize("steps", [2, 8, 32])
def test_mmse_is_the_best_of_its_candidates_and_beats_max(steps: int) -> None:
    x = activations()
    statistics = SiteStatistics.of([x])
    found = MMSE().range(statistics, steps)
    candidates = torch.stack([statistics.maximum * (1 - i / 100) for i in range(95)])
    errors = torch.stack([squared_error(x, reach, steps) for reach in candidates])
    assert torch.equal(found, candidates.gather(0, errors.argmin(0, keepdim=True))[0])
    if steps < 32:
        assert bool((squared_error(x, found, steps) < squared_error(x, statistics.maximum, steps)).all())


@pytest.mark.parametrize("per_channel", [True, False])
def test_statistics_do_not_depend_on_order_or_batches(per_channel: bool) -> None:
    x = activations()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(3))
    whole = SiteStatistics.of([x], per_channel=per_channel)
    dealt = SiteStatistics.of(list(torch.split(x[order], 5)), per_channel=per_channel)
    assert torch.equal(whole.maximum, dealt.maximum)
    assert torch.equal(whole.counts, dealt.counts)
    assert int(whole.counts.sum()) == x.numel()


def test_sampled_positions_are_spread_over_the_image() -> None:
    x = torch.ones(1024, 1, 64, 64)
    x[..., 0] = 0.0  # a border that every 64th position would fall on
    counts = SiteStatistics.of([x]).counts[0]
    assert 0 < float(counts[0] / counts.sum()) < 0.05  # a 64th, not all


def test_silent_channel_has_a_maximum_of_zero_and_every_count_in_the_first_bin() -> None:
    x = activations()
    x[:, 1] = 0.0
    statistics = SiteStatistics.of([x])
    assert float(statistics.maximum[1]) == 0.0
    assert int(statistics.counts[1, 0]) == x[:, 1].numel()


def test_options_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"q is a percentage in \(0, 100\], got 0"):
        Percentile(q=0.0)
    with pytest.raises(ValueError, match=r"q is a percentage in \(0, 100\], got nan"):
        Percentile(q=float("nan"))
    with pytest.raises(ValueError, match="grid must be 1 to 100 candidates, got 101"):
        MMSE(grid=101)
