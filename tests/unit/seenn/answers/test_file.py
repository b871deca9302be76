from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from seenn.answers import FORMATS, AnswerFile, Picture, Row, find_pictures
from seenn.errors import CheckpointError, OutputError

Answer = Callable[[Iterable[Picture]], Iterator[Row]]
ALL = pytest.mark.parametrize("name", FORMATS)


def answered(path: Path, inputs: list[str], answer: Answer, *, resume: bool = False, engine: str = "float32") -> dict:  # type: ignore[type-arg]
    file = AnswerFile(path, FORMATS[path.suffix[1:]], {"engine": engine})
    file.begin(resume=resume)
    return file.write(find_pictures(inputs), answer).to_json()


def cut_off(answer: Answer, after: int, error: BaseException) -> Answer:
    def rows(pictures: Iterable[Picture]) -> Iterator[Row]:
        for number, row in enumerate(answer(pictures)):
            if number == after:
                raise error
            yield row

    return rows


def rows(path: Path) -> list[Row]:
    return list(FORMATS[path.suffix[1:]].read(path))


@ALL
def test_a_file_holds_a_row_a_picture_and_its_record_the_sums(
    name: str, answer: Answer, pictures: list[str], tmp_path: Path
) -> None:
    path = tmp_path / f"answers.{name}"
    found = answered(path, pictures, answer)
    written = rows(path)
    assert [row["path"] for row in written] == pictures
    steps = [row["exit_timestep"] for row in written if row["error"] is None]
    assert found.items() >= {"inputs": 30, "answered": 28, "unreadable": 2, "steps": sum(steps)}.items()
    assert found["mean_timesteps"] == sum(steps) / 28
    assert f"{pictures[0]}: is damaged" in found["first_error"]
    assert json.loads((tmp_path / f"answers.{name}.run.json").read_text())["summary"] == found
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"answers.{name}", f"answers.{name}.run.json", "pictures"]


@ALL
@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a bug")], ids=["Ctrl-C", "bug"])
@pytest.mark.parametrize("after", [0, 7, 29])
def test_a_run_that_was_cut_off_goes_on_where_it_stopped(
    after: int, error: BaseException, name: str, answer: Answer, pictures: list[str], tmp_path: Path
) -> None:
    path, whole = tmp_path / f"answers.{name}", tmp_path / f"whole.{name}"
    answered(whole, pictures, answer)
    with pytest.raises(type(error)):
        answered(path, pictures, cut_off(answer, after, error))
    asked = []

    def watched(rest: Iterable[Picture]) -> Iterator[Row]:
        for row in answer(rest):
            asked.append(row["path"])
            yield row

    assert answered(path, pictures, watched, resume=True) == answered(whole, pictures, answer, resume=True)
    assert asked == pictures[after:]
    assert rows(path) == rows(whole)


@ALL
def test_going_on_with_a_complete_file_changes_nothing(
    name: str, answer: Answer, pictures: list[str], tmp_path: Path
) -> None:
    path = tmp_path / f"answers.{name}"
    found = answered(path, pictures, answer, resume=True)  # begins where there is nothing
    before = path.read_bytes()
    assert answered(path, pictures, answer, resume=True) == found
    assert path.read_bytes() == before


@ALL
def test_a_file_is_never_lost_nor_mixed(name: str, answer: Answer, pictures: list[str], tmp_path: Path) -> None:
    path = tmp_path / f"answers.{name}"
    with pytest.raises(KeyboardInterrupt):
        answered(path, pictures, cut_off(answer, 9, KeyboardInterrupt()))
    with pytest.raises(OutputError, match="was begun before: go on with --resume, or name another file with -o"):
        answered(path, pictures, answer)
    with pytest.raises(CheckpointError, match=r"with other options: engine was float32, now int8\. Name another -o"):
        answered(path, pictures, answer, resume=True, engine="int8")
    with pytest.raises(CheckpointError, match=r"answer 2 is of .*01\.png, where the inputs now have .*02\.png"):
        answered(path, [pictures[0], *pictures[2:]], answer, resume=True)
    with pytest.raises(CheckpointError, match=r"answer 6 is of .*05\.png, where the inputs now have nothing: give the"):
        answered(path, pictures[:5], answer, resume=True)
    answered(path, pictures, answer, resume=True)
    assert [row["path"] for row in rows(path)] == pictures
    with pytest.raises(OutputError, match="holds the answers of a whole run: name another file with -o"):
        answered(path, pictures, answer)


@ALL
def test_more_pictures_than_before_are_answered_or_refused(
    name: str, answer: Answer, pictures: list[str], tmp_path: Path
) -> None:
    path = tmp_path / f"answers.{name}"
    answered(path, pictures[:20], answer)
    if name == "parquet":
        with pytest.raises(CheckpointError, match=r"is complete, and .*20\.png not in it: name another file with -o"):
            answered(path, pictures, answer, resume=True)
    else:
        assert answered(path, pictures, answer, resume=True)["inputs"] == 30
        assert [row["path"] for row in rows(path)] == pictures


def test_a_file_that_nobody_knows_is_left_alone(answer: Answer, pictures: list[str], tmp_path: Path) -> None:
    path = tmp_path / "answers.csv"
    path.write_text("mine")
    with pytest.raises(
        CheckpointError, match=r"run\.json is missing or damaged, so nothing says what gave the answers"
    ):
        answered(path, pictures, answer, resume=True)
    path.with_name("answers.csv.run.json").write_text("{")
    with pytest.raises(CheckpointError, match="missing or damaged"):
        answered(path, pictures, answer, resume=True)
    assert path.read_text() == "mine"


def test_a_parquet_file_whose_record_was_not_finished_is_complete_nevertheless(
    answer: Answer, pictures: list[str], tmp_path: Path
) -> None:
    path, record = tmp_path / "answers.parquet", tmp_path / "answers.parquet.run.json"
    found = answered(path, pictures, answer)
    (tmp_path / "answers.parquet.0.jsonl").write_text("left behind")
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "summary"}))
    assert answered(path, pictures, answer, resume=True) == found
    assert json.loads(record.read_text())["summary"] == found
    assert not (tmp_path / "answers.parquet.0.jsonl").exists()
