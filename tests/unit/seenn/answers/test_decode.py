from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from seenn.answers import COLUMNS, Picture, answer_pictures, find_pictures
from seenn.answers.decode import AHEAD
from seenn.data.numbers import Numbers
from seenn.errors import CheckpointError, SeennError
from seenn.snn import SNN


@pytest.mark.parametrize("workers", [0, 2, None])
def test_rows_are_what_the_network_answers_to_each_file(snn: SNN, pictures: list[str], workers: int | None) -> None:
    before = torch.get_rng_state()
    session = snn.session("float32", slots=8)
    rows = list(answer_pictures(snn, session, chain.from_iterable(find_pictures(pictures)), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)
    assert [row["path"] for row in rows] == pictures
    assert all(row.keys() == COLUMNS.keys() for row in rows)
    assert [n for n, row in enumerate(rows) if row["error"] is not None] == [0, 17]
    assert rows[17]["error"].startswith(f"{pictures[17]}: is damaged")
    assert rows[17]["label"] is rows[17]["cost"] is None
    good = [row for row in rows if row["error"] is None]
    expected = snn.predict([Path(row["path"]) for row in good], engine="float32")
    assert [row["label"] for row in good] == expected.labels.tolist()
    assert [row["exit_timestep"] for row in good] == expected.exit_timestep.tolist()
    assert [row["confidence"] for row in good] == pytest.approx(expected.confidence.tolist())
    assert [row["cost"] for row in good] == (expected.cost / 4).tolist()
    assert len({row["exit_timestep"] for row in good}) > 1
    assert {row["class"] for row in good} <= {"cat", "dog\\nhouse", "eel"}


def test_pictures_are_no_input_of_a_network_of_numbers(snn: SNN, pictures: list[str]) -> None:
    """Whose names come as it runs."""
    numbers = replace(snn, preprocessing=Numbers(shape=(1, 8, 8)))
    rows = answer_pictures(numbers, numbers.session("float32"), chain.from_iterable(find_pictures(pictures)), workers=0)
    good = [row for n, row in enumerate(rows) if n not in (0, 17)]
    assert len(good) == 28
    assert all("this has pictures, and the network takes numbers of shape [1, 8, 8]" in row["error"] for row in good)


def test_pictures_are_resized_together_as_they_are_alone(
    snn: SNN, pictures: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):  # of one shape, which cannot be resized
        pictures.insert(5, str(tmp_path / f"long{number}.png"))
        Image.new("L", (9000, 1)).save(pictures[5])
    session, found = snn.session("float32", slots=8), []
    for at_once in (0, 1 << 20):
        monkeypatch.setattr("seenn.answers.decode.AT_ONCE", at_once)
        found.append(list(answer_pictures(snn, session, chain.from_iterable(find_pictures(pictures)), workers=0)))
    assert found[0] == found[1]
    assert [n for n, row in enumerate(found[0]) if row["error"] is not None] == [0, 5, 6, 19]
    assert f"{pictures[5]}: an image 9000 pixels wide and 1 high is too elongated" in found[0][5]["error"]


def test_pictures_that_can_all_not_be_read_are_rows_too(snn: SNN, pictures: list[str]) -> None:
    named = [pictures[17], pictures[0], "gone.png"]
    rows = list(answer_pictures(snn, snn.session("float32"), chain.from_iterable(find_pictures(named)), workers=0))
    assert [row["path"] for row in rows] == named
    assert all(row["error"] and row["label"] is None for row in rows)


def test_no_more_pictures_are_asked_for_than_are_soon_needed(snn: SNN) -> None:
    """Pictures may be endlessly many: what is ahead of the answers is bounded."""
    asked = 0

    def endless() -> Iterator[Picture]:
        nonlocal asked
        for asked in count(1):
            yield Picture(str(asked), partial(torch.zeros, (1, 8, 8), dtype=torch.uint8))

    rows = answer_pictures(snn, snn.session("float32", slots=8), endless(), workers=2)
    for number in range(1, 201):
        assert next(rows)["path"] == str(number)
        assert asked <= number + 8 * (2 * 2 + 2 + 4)
    rows.close()  # type: ignore[attr-defined]


def die() -> Tensor:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_worker_that_was_killed_is_one_sentence(snn: SNN) -> None:
    rows = answer_pictures(snn, snn.session("float32"), [Picture("a", die)], workers=1)
    with pytest.raises(SeennError, match=r"a process that decodes pictures was killed, .*: use fewer --workers, or 0"):
        list(rows)


def test_a_network_without_preprocessing_is_refused(snn: SNN) -> None:
    bare = replace(snn, preprocessing=None)
    with pytest.raises(CheckpointError, match="does not record how pictures are prepared: state --mean and --std"):
        list(answer_pictures(bare, bare.session("float32"), []))


def test_an_interrupt_comes_when_the_workers_are_started(snn: SNN) -> None:
    asked = 0

    def pictures() -> Iterator[Picture]:
        nonlocal asked
        for asked in range(1, 33):
            yield Picture(str(asked), partial(torch.zeros, (1, 8, 8), dtype=torch.uint8))
            if asked == 1:  # while the workers are filled for the first time; any thread of the process takes it
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.05)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a runner in the background ignores
    try:
        with pytest.raises(KeyboardInterrupt):
            next(answer_pictures(snn, snn.session("float32", slots=4), pictures(), workers=1))
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert asked == 4 * AHEAD


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_may_be_started_in_any_way(
    method: str, snn: SNN, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = multiprocessing.get_context(method)
    monkeypatch.setattr("seenn.answers.decode.DataLoader", partial(DataLoader, multiprocessing_context=context))
    found = list(answer_pictures(snn, snn.session("float32"), chain.from_iterable(find_pictures(pictures)), workers=1))
    assert [row["path"] for row in found] == pictures
    assert [n for n, row in enumerate(found) if row["error"] is not None] == [0, 17]
