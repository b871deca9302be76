from __future__ import annotations

import pytest
import torch

from seenn.analysis.report.samples import easiest_and_hardest

LABELS = torch.tensor([0, 1, 2, 3, 4])
EXITS = torch.tensor([2, 1, 3, 1, 3])
CONFIDENCE = torch.tensor([0.9, 0.7, 0.2, 0.8, 0.4])


def test_easiest_exit_first_and_surest_hardest_last_and_least_sure() -> None:
    easiest, hardest = easiest_and_hardest(LABELS, LABELS, EXITS, CONFIDENCE, count=2)
    assert [sample.index for sample in easiest] == [3, 1]
    assert [sample.index for sample in hardest] == [2, 4]
    assert all(sample.correct for sample in (*easiest, *hardest))
    assert hardest[0].exit_timestep == 3
    assert hardest[0].confidence == pytest.approx(0.2)


def test_no_image_is_both_easy_and_hard() -> None:
    easiest, hardest = easiest_and_hardest(LABELS, LABELS, EXITS, CONFIDENCE, count=5)
    assert [sample.index for sample in easiest] == [3, 1]
    assert [sample.index for sample in hardest] == [2, 4]


def test_ties_keep_the_order_of_the_split() -> None:
    easiest, _ = easiest_and_hardest(LABELS, LABELS, torch.ones(5), torch.ones(5), count=2)
    assert [sample.index for sample in easiest] == [0, 1]
