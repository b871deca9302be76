from __future__ import annotations

import pytest

from seenn.analysis.report.text import count, energy, markdown_cell, markdown_code, percent, steps


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


def test_markdown_cells_stay_one_cell() -> None:
    assert markdown_cell("a|b\n*c*") == r"a\|b \*c\*"
    assert markdown_code("a|b") == r"`a\|b`"
    assert markdown_code("a`b") == "`` a`b ``"
