from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seenn.answers import COLUMNS, FORMATS, Row
from seenn.answers.formats import CSV, JSON_LINES, Lines, Parquet, one_line
from seenn.errors import CheckpointError, OutputError

TEXT = st.text(min_size=1).map(one_line)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.lists(
    st.one_of(
        st.builds(
            lambda path, label, name, confidence, t, segment, cost, values: dict(
                zip(COLUMNS, (path, label, name, confidence, t, segment, cost, values, None), strict=True)
            ),
            *(TEXT, st.integers(0, 2**40), TEXT, NUMBER, st.integers(1, 4096), st.integers(1, 64), NUMBER),
            st.none() | st.lists(NUMBER, min_size=1, max_size=4),
        ),
        st.builds(lambda path, error: {**dict.fromkeys(COLUMNS), "path": path, "error": error}, TEXT, TEXT),
    )
)


@pytest.mark.parametrize("name", FORMATS)
@given(rows=ROWS)
def test_rows_are_read_as_they_were_written(name: str, rows: list[Row], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("rows") / "answers"
    FORMATS[name].write(path, rows)
    assert list(FORMATS[name].read(path)) == rows


@pytest.mark.parametrize("lines", [CSV, JSON_LINES], ids=lambda lines: lines.name)
@given(rows=ROWS)
def test_every_row_is_one_line_of_text(lines: Lines, rows: list[Row]) -> None:
    assert all(lines.encode(row).encode().count(b"\n") == 1 for row in rows)


@given(text=st.text(alphabet=st.characters()))
def test_any_text_becomes_one_line_of_unicode(text: str) -> None:
    line = one_line(text)
    assert line.encode().decode().split("\n") == [line]
    assert one_line(line) == line


def test_parquet_is_written_in_groups_with_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pyarrow import parquet

    monkeypatch.setattr("seenn.answers.formats.BLOCK", 3)
    row = dict(zip(COLUMNS, ("a", 1, "cat", 0.5, 2, 1, 0.25, [0.5, 1.0], None), strict=True))
    Parquet().write(tmp_path / "a.parquet", [row] * 7)
    file = parquet.ParquetFile(tmp_path / "a.parquet")
    assert file.num_row_groups == 3
    assert [str(field.type) for field in file.schema_arrow] == [
        *("string", "int64", "string", "double", "int64", "int64", "double", "list<element: double>", "string")
    ]


def test_parquet_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("seenn.answers.formats.find_spec", lambda name: None)
    with pytest.raises(OutputError, match=r"pip install 'seenn\[parquet\]', or write \.csv or \.jsonl"):
        Parquet().check()


@pytest.mark.parametrize(
    ("lines", "text", "message"),
    [
        (CSV, "path,label\n", "has other columns than answers have"),
        (CSV, f"{CSV.head}a,1\n", "answer 1 cannot be read: it was changed"),
        (CSV, f'{CSV.head}"a\n', "answer 1 cannot be read: it was changed"),
        (CSV, f"{CSV.head}a,one,,,,,\n", "answer 1 cannot be read"),
        (JSON_LINES, "{}\n", "answer 1 cannot be read"),
        (JSON_LINES, "[\n", "answer 1 cannot be read"),
    ],
)
def test_a_file_that_was_changed_is_refused(lines: Lines, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text(text)
    with pytest.raises(CheckpointError, match=f"{message}.*name another file with -o"):
        list(lines.read(tmp_path / "a"))
