from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest

BARS = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks/bars.py"))
Row, write_results = BARS["Row"], BARS["write_results"]
COMMAND = "python benchmarks/drop.py | tee log"


def test_bars_decide_themselves_and_are_met_at_equality() -> None:
    assert Row.at_most("drop", 3.0, 3.0, COMMAND).ok
    assert not Row.at_most("drop", 3.01, 3.0, COMMAND).ok
    assert Row.at_least("speed", 2.0, 2.0, COMMAND).ok
    assert not Row.at_least("speed", 1.9, 2.0, COMMAND).ok
    assert Row.within("slope", 0.95, 1.0, 0.0625, COMMAND).ok
    assert not Row.within("slope", 1.07, 1.0, 0.0625, COMMAND).ok
    assert Row.within("slope", 1.0, 1.0, 0.05, COMMAND).bar == "1 ± 0.05"


def test_results_are_a_json_list_and_the_table_made_from_it(tmp_path: Path) -> None:
    rows = [
        Row.at_most("drop at T=8, points", 3.5, 3.0, COMMAND),
        Row.at_least("images a second", 120.0, 100, COMMAND),
        Row("ANN accuracy, %", 93.2, None, True, COMMAND),
    ]
    data, table = write_results(tmp_path / "results" / "resnet18.v1", "Accuracy", rows, notes=["One seed."])
    assert (data.name, table.name) == ("resnet18.v1.json", "resnet18.v1.md")
    assert json.loads(data.read_text(encoding="utf-8"))[:2] == [
        {"name": "drop at T=8, points", "value": 3.5, "bar": "≤ 3", "ok": False, "command": COMMAND},
        {"name": "images a second", "value": 120.0, "bar": "≥ 100", "ok": True, "command": COMMAND},
    ]
    assert table.read_text(encoding="utf-8") == (
        "# Accuracy\n\n"
        "| name | value | bar | ok | command |\n"
        "| --- | --- | --- | --- | --- |\n"
        "| drop at T=8, points | 3.5 | ≤ 3 | **NO** | `python benchmarks/drop.py \\| tee log` |\n"
        "| images a second | 120 | ≥ 100 | yes | `python benchmarks/drop.py \\| tee log` |\n"
        "| ANN accuracy, % | 93.2 | – | – | `python benchmarks/drop.py \\| tee log` |\n"
        "\nOne seed.\n"
    )


def test_rows_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="row 'drop': value is nan; expected a finite number"):
        Row.at_most("drop", float("nan"), 1, COMMAND)
    with pytest.raises(ValueError, match="row 'drop': has no bar, so it cannot miss one"):
        Row("drop", 1.0, None, False, COMMAND)


def test_no_rows_and_repeated_names_are_refused(tmp_path: Path) -> None:
    row = Row.at_most("drop", 1, 2, COMMAND)
    with pytest.raises(ValueError, match="results 'Drop': no rows; expected at least one"):
        write_results(tmp_path / "drop", "Drop", [])
    with pytest.raises(ValueError, match=r"several rows are named \['drop'\]; expected each name once"):
        write_results(tmp_path / "drop", "Drop", [row, row])
    assert list(tmp_path.iterdir()) == []
