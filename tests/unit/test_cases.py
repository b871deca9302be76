"""docs/cases.md names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_case_names_tests_that_are_there() -> None:
    rows = [line for line in (ROOT / "docs/cases.md").read_text(encoding="utf-8").splitlines() if "::test" in line]
    assert len(rows) > 50
    for row in rows:
        for file, name in re.findall(r"`([\w/]+\.py)::(test_\w+)`", row):
            assert f"def {name}(" in (ROOT / "tests/unit" / file).read_text(encoding="utf-8"), row
