from __future__ import annotations

import pytest
import torch

from seenn.analysis.report.text import (
    count,
    energy,
    markdown_cell,
    markdown_code,
    percent,
    policy,
    steps,
    thresholds,
)
from seenn.exits import policy_to_json
from seenn.exits.rules.gap import GapExit
from seenn.exits.rules.two_sided import TwoSidedExit


@pytest.mark.parametrize(
    ("picojoules", "text"),
    [
        (0, "0.00 pJ"),
        (999.4, "999 pJ"),
        (999.6, "1.00 nJ"),
        (46e6, "46.0 µJ"),
        (1.234e9, "1.23 mJ"),
        (5e15, "5,000 J"),
    ],
)
def test_energy_has_three_digits_in_a_readable_unit(picojoules: float, text: str) -> None:
    assert energy(picojoules) == text


def test_counts_percents_and_steps_read_well() -> None:
    assert (count(12), count(999_700), count(35e6)) == ("12.0", "1.00 M", "35.0 M")
    assert percent(0.93456) == "93.46 %"
    assert (steps(1), steps(8), steps(1.5)) == ("1 step", "8 steps", "1.50 steps")


def test_many_thresholds_are_said_briefly_and_those_beyond_all_scores_in_words() -> None:
    assert thresholds(0.95) == "0.95"
    assert thresholds((0.5, torch.finfo(torch.float32).max, torch.finfo(torch.float32).min)) == "0.5, never, always"
    assert thresholds([0.25] * 31) == f"{'0.25, ' * 6}… (31, all in the JSON)"
    described = policy_to_json(TwoSidedExit(inner=GapExit(threshold=(3.4e38,) * 7)))
    assert policy(described).count("never") == 6
    assert "e+38" not in policy(described)
    assert policy({"policy": "fixed", "timesteps": None}) == "policy fixed, timesteps None"


def test_markdown_cells_stay_one_cell() -> None:
    assert markdown_cell("a|b\n*c*") == r"a\|b \*c\*"
    assert markdown_code("a|b") == r"`a\|b`"
    assert markdown_code("a`b") == "`` a`b ``"
