from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seenn.metrics import exit_statistics


@given(st.lists(st.integers(1, 9), min_size=1, max_size=60))
def test_statistics_agree_with_numpy(exits: list[int]) -> None:
    found = exit_statistics(torch.tensor(exits), timesteps=9)
    assert found.n == len(exits)
    assert found.timesteps == 9
    assert found.mean == pytest.approx(np.mean(exits), abs=1e-12)
    assert found.std == pytest.approx(np.std(exits), abs=1e-12)
    assert found.p50 == np.quantile(exits, 0.50, method="inverted_cdf")
    assert found.p95 == np.quantile(exits, 0.95, method="inverted_cdf")
    assert found.histogram == tuple(exits.count(t) for t in range(1, 10))


def test_percentile_is_reached_by_exactly_that_share() -> None:
    assert exit_statistics(torch.tensor([1] * 95 + [8] * 5), timesteps=8).p95 == 1
    assert exit_statistics(torch.tensor([1] * 94 + [8] * 6), timesteps=8).p95 == 8


def test_json_holds_every_field() -> None:
    found = exit_statistics(torch.tensor([1, 3, 3]), timesteps=4)
    assert json.loads(json.dumps(found.to_json())) == {
        "mean": 7 / 3,
        "std": pytest.approx(8**0.5 / 3),
        "p50": 3,
        "p95": 3,
        "histogram": [1, 0, 2, 0],
        "n": 3,
    }


@pytest.mark.parametrize("exits", [[0, 1], [1, 5]])
def test_exits_outside_one_to_timesteps_are_refused(exits: list[int]) -> None:
    with pytest.raises(ValueError, match=r"exits range from \d to \d; expected 1 to timesteps = 4"):
        exit_statistics(torch.tensor(exits), timesteps=4)


@pytest.mark.parametrize("exits", [torch.tensor([1.0]), torch.empty(0, dtype=torch.long)])
def test_exits_that_are_not_an_integer_vector_are_refused(exits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"exit_timestep is .*; expected integers \[N\], at least one"):
        exit_statistics(exits, timesteps=4)
