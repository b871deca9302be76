"""Evidence that images have moved from where an exit policy was calibrated."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.errors import CheckpointError
from seenn.exits.guarantees.drift import FIRST_RESTART, DriftTest, MarginRecord

ALPHA = 0.1


def outputs(count: int, random: torch.Generator, *, moved: float = 0.0, coarse: bool = False) -> Tensor:
    """``[N, 3]``, with margins that are log-normal, or in steps of a half, so that many are equal."""
    margins = (torch.randn(count, generator=random) + moved).exp()
    if coarse:
        margins = (2 * margins).round() / 2
    return torch.stack([torch.zeros(count), margins, torch.full((count,), -1.0)], 1)


def seen(record: MarginRecord, *groups: Tensor, in_order: bool = False) -> DriftTest:
    test = DriftTest(record, in_order=in_order)
    for group in groups:
        test.see(group)
    return test


@pytest.mark.parametrize("in_order", [False, True])
def test_evidence_is_a_martingale_while_nothing_has_moved(in_order: bool) -> None:
    random = torch.Generator().manual_seed(0)
    record = MarginRecord.of(outputs(37, random))
    before = outputs(2 * FIRST_RESTART + 5, random, moved=0.3)
    test = seen(record, before[:FIRST_RESTART], before[FIRST_RESTART:], in_order=in_order)
    places = record.places + test.counts
    cuts = torch.tensor([0.0, *record.cuts, record.cuts[-1] + 10.0])
    margins = (cuts[1:] + cuts[:-1]) / 2  # one in each cell
    after = 0.0
    for probability, margin in zip((places / places.sum()).tolist(), margins.tolist(), strict=True):
        next_one = torch.tensor([[margin, 0.0]])
        more = seen(record, before[:FIRST_RESTART], before[FIRST_RESTART:], next_one, in_order=in_order)
        after += probability * math.exp(more.log_evidence)
    assert after == pytest.approx(math.exp(test.log_evidence), rel=1e-6)
    assert seen(record, in_order=in_order).log_evidence == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("coarse", [False, True])
def test_false_alarms_over_whole_streams_are_as_rare_as_stated(coarse: bool) -> None:
    random = torch.Generator().manual_seed(1)
    streams, alarms = 150, 0
    for _ in range(streams):
        test = DriftTest(MarginRecord.of(outputs(100, random, coarse=coarse)), in_order=True)
        most = 0.0
        for _ in range(25):
            test.see(outputs(16, random, coarse=coarse))
            most = max(most, test.log_evidence)
        alarms += most >= math.log(1 / ALPHA)
    assert alarms / streams <= ALPHA + 2 * math.sqrt(ALPHA * (1 - ALPHA) / streams)


@pytest.mark.parametrize(("calm", "within"), [(0, 96), (1000, 192), (10_000, 512)])
@pytest.mark.parametrize("moved", [-1.0, 1.0])
def test_a_clear_shift_is_seen_within_so_many_images_however_late_it_comes(
    calm: int, within: int, moved: float
) -> None:
    random = torch.Generator().manual_seed(2)
    test = DriftTest(MarginRecord.of(outputs(1000, random)), in_order=True)
    for _ in range(calm // 16):
        test.see(outputs(16, random))
        assert test.log_evidence < math.log(100)
    for _ in range(within // 16):
        test.see(outputs(16, random, moved=moved))
    assert test.log_evidence > math.log(100)


def test_without_an_order_only_how_many_there_are_of_each_counts() -> None:
    random = torch.Generator().manual_seed(3)
    record = MarginRecord.of(outputs(500, random))
    small_first = outputs(600, random)
    small_first = small_first[small_first[:, 1].argsort()]
    mixed = small_first[torch.randperm(600, generator=random)]
    sorted_, shuffled = seen(record, *small_first.split(50)), seen(record, *mixed.split(50))
    assert sorted_.log_evidence < 0
    assert shuffled.log_evidence == pytest.approx(sorted_.log_evidence, abs=0.5)  # ties are broken otherwise
    assert seen(record, *small_first.split(50), in_order=True).log_evidence > math.log(100)


def test_few_calibration_samples_prove_less() -> None:
    random = torch.Generator().manual_seed(4)
    moved = outputs(200, random, moved=1.0)
    one, some, many = (seen(MarginRecord.of(outputs(n, random)), moved).log_evidence for n in (1, 50, 5000))
    assert one < math.log(10) < some < many


@pytest.mark.parametrize("samples", [1, 2, 15, 16, 17, 1000])
def test_a_record_comes_back_from_json_exactly_and_is_small(samples: int) -> None:
    random = torch.Generator().manual_seed(5)
    record = MarginRecord.of(outputs(samples, random, coarse=True))
    text = json.dumps(record.to_json())
    assert MarginRecord.from_json(json.loads(text)) == record
    assert len(text) < 512
    assert int(record.places.sum()) == samples + 1
    assert bool((record.places >= 1).all())


DAMAGED: list[Any] = [
    None,
    [],
    {"samples": 3},
    {"samples": 3, "cuts": [1.0], "more": 1},
    {"samples": 0, "cuts": [1.0]},
    {"samples": True, "cuts": [1.0]},
    {"samples": 2.5, "cuts": [1.0]},
    {"samples": 3, "cuts": []},
    {"samples": 3, "cuts": "123"},
    {"samples": 3, "cuts": None},
    {"samples": 3, "cuts": [2.0, 1.0]},
    {"samples": 3, "cuts": [1.0, "2"]},
    {"samples": 3, "cuts": [1.0, float("nan")]},
    {"samples": 3, "cuts": [1.0, float("inf")]},
    {"samples": 3, "cuts": [1.0, 2.0, 3.0, 4.0]},
    {"samples": 10_000, "cuts": list(range(256))},
]


@pytest.mark.parametrize("record", DAMAGED)
def test_a_damaged_record_is_refused_with_what_to_do(record: Any) -> None:
    with pytest.raises(
        CheckpointError, match=r"record of calibration margins .* is damaged .*run `seenn calibrate-exit`"
    ):
        MarginRecord.from_json(record)
