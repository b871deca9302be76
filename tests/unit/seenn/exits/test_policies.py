from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
import torch

from seenn.errors import CheckpointError
from seenn.exits import (
    ConfidenceExit,
    ExitPolicy,
    FixedExit,
    Progress,
    policy_from_json,
    policy_to_json,
    replay,
    softmax_confidence,
)


def logits(timesteps: int = 6, samples: int = 200) -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randn(timesteps, samples, 4, generator=random).cumsum(0)


def test_stopping_is_strict() -> None:
    at_t = Progress.at(1, 1)
    half = torch.zeros(1, 2)  # two equal logits: the top probability is exactly one half
    assert not ConfidenceExit(threshold=0.5).stop(at_t, half, ())[0].item()
    assert ConfidenceExit(threshold=0.4999).stop(at_t, half, ())[0].item()
    sure = torch.tensor([[1e6, 0.0]])  # a probability of exactly 1
    assert not ConfidenceExit(threshold=1.0).stop(at_t, sure, ())[0].item()


def test_sum_sharpens_with_time_and_mean_does_not() -> None:
    opinion = torch.tensor([[1.0, 0.0]])
    one, four = torch.tensor([1]), torch.tensor([4])
    assert torch.equal(softmax_confidence(one, opinion), softmax_confidence(four, 4 * opinion))
    summed = softmax_confidence(four, 4 * opinion, accumulation="sum")
    torch.testing.assert_close(summed, torch.tensor([4.0]).sigmoid())
    torch.testing.assert_close(
        softmax_confidence(four, 4 * opinion, accumulation="sum", temperature=8.0), torch.tensor([0.5]).sigmoid()
    )


@pytest.mark.parametrize("accumulation", ["sum", "mean"])
def test_exits_come_no_later_as_the_threshold_falls(accumulation: Any) -> None:
    exits = [
        replay(ConfidenceExit(threshold=c, accumulation=accumulation), logits())
        for c in (1.0, 0.99, 0.9, 0.7, 0.5, 0.3, 1e-9)
    ]
    assert all(bool((later >= earlier).all()) for later, earlier in itertools.pairwise(exits))
    assert exits[0].eq(6).all()
    assert exits[-1].eq(1).all()


def test_fixed_exit_stops_everyone_at_its_timestep() -> None:
    assert replay(FixedExit(timesteps=2), logits()).eq(2).all()
    assert replay(FixedExit(), logits()).eq(6).all()


@pytest.mark.parametrize(
    "policy",
    [FixedExit(), FixedExit(timesteps=3), ConfidenceExit(threshold=0.1 + 0.2, temperature=8.0, accumulation="sum")],
)
def test_a_policy_survives_json(policy: ExitPolicy) -> None:
    assert policy_from_json(json.loads(json.dumps(policy_to_json(policy)))) == policy
    assert isinstance(policy, ExitPolicy)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"policy": "confidense"}, "unknown exit policy 'confidense'. Did you mean 'confidence'"),
        ({}, "unknown exit policy None"),
        ([], "unknown exit policy None"),
        ({"policy": ["fixed"]}, "unknown exit policy"),
        ({"policy": "fixed", "code": "x"}, "'fixed' cannot be built from its description: .*'code'"),
        ({"policy": "fixed", "timesteps": 0}, "timesteps must be an integer from 1"),
        ({"policy": "confidence", "threshold": 2}, r"threshold is a probability in \(0, 1\], got 2"),
        ({"policy": "confidence", "threshold": "high"}, "threshold must be a finite number, got 'high'"),
    ],
)
def test_a_description_that_is_no_policy_is_refused(description: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        policy_from_json(description)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, r"threshold is a probability in \(0, 1\], got 0.0"),
        ({"threshold": float("nan")}, "threshold must be a finite number, got nan"),
        ({"threshold": True}, "threshold must be a finite number, got True"),
        ({"temperature": 0.0}, "temperature must be positive, got 0.0"),
        ({"temperature": float("inf")}, "temperature must be a finite number, got inf"),
        ({"accumulation": "product"}, "accumulation must be 'sum' or 'mean', got 'product'"),
    ],
)
def test_confidence_exit_checks_its_numbers(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConfidenceExit(**arguments)
