"""The file of answers: begun, cut off, gone on with, and put together from several processes' parts.

Beside it, ``FILE.run.json`` says what answers and, in the end, how many there are. Rows are appended to a journal,
which only ever holds whole ones: the file itself, or where that cannot grow (Parquet, several processes) JSON lines
beside it, one journal a process, put together in the order of the inputs when all are answered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch

from seenn.answers.formats import JSON_LINES, Format, Lines, Row
from seenn.answers.journal import Journal
from seenn.answers.pictures import Picture
from seenn.distributed import World, world
from seenn.errors import CheckpointError, OutputError
from seenn.files import atomic_path, write_text

AT_ONCE = 512  # rows, or
EVERY = 0.5  # seconds, are written at once

Units = Iterable[Iterable[Picture]]


@dataclass
class Summary:
    """How many inputs were answered, and in how many steps."""

    answered: int = 0
    unreadable: int = 0
    steps: int = 0  # of all answers
    cost: float = 0.0  # likewise, the shares of what all T steps cost
    first_error: str | None = None  # of this process

    @property
    def inputs(self) -> int:
        """All of them."""
        return self.answered + self.unreadable

    @property
    def mean_timesteps(self) -> float | None:
        """Of the answers; None where there are none."""
        return self.steps / self.answered if self.answered else None

    @property
    def mean_cost(self) -> float | None:
        """Of the answers, as a share of what all T steps cost; None where there are none."""
        return self.cost / self.answered if self.answered else None

    def add(self, row: Row) -> None:
        """Counts one row."""
        if row["error"] is None:
            self.answered += 1
            self.steps += row["exit_timestep"]
            self.cost += row["cost"]
        else:
            self.unreadable += 1
            self.first_error = self.first_error or row["error"]

    def over(self, here: World) -> Summary:
        """Of every process together."""
        counts = here.sum_(torch.tensor([self.answered, self.unreadable, self.steps]))
        cost = float(here.sum_(torch.tensor(self.cost, dtype=torch.float64)))
        answered, unreadable, steps = counts.tolist()
        return Summary(answered, unreadable, steps, cost, self.first_error)

    def to_json(self) -> dict[str, Any]:
        """For the record, and for programs."""
        means = {"mean_timesteps": self.mean_timesteps, "mean_cost": self.mean_cost}
        return {"inputs": self.inputs, **means, **asdict(self)}


@dataclass(frozen=True)
class AnswerFile:
    """Where answers go, and what gives them.

    Attributes:
        path: of the file.
        format: how its rows are stored.
        identity: what answers depend on, as JSON: a run goes on only with the same.
    """

    path: Path
    format: Format
    identity: Mapping[str, Any]

    @property
    def record(self) -> Path:
        """Says what answers, and how many there are in the end."""
        return self.path.with_name(f"{self.path.name}.run.json")

    def begin(self, *, resume: bool) -> None:
        """Begins a run, or goes on with one, before any work.

        Raises:
            OutputError: the format's package is missing; or answers are there, and it is not to go on with them.
            CheckpointError: they were given by something else.
        """
        self.format.check()
        now = {**self.identity, "format": self.format.name, "processes": world().size}
        there = self.path.exists() or self.record.exists()
        world().wait()  # or one process would see what another one writes
        if there and not resume:
            done = self.record.exists() and "summary" in self._read_record()
            what = "holds the answers of a whole run:" if done else "was begun before: go on with --resume, or"
            raise OutputError(f"{self.path} {what} name another file with -o")
        if there:
            before = self._read_record()
            if changes := [
                f"{name} was {before.get(name)}, now {v}" for name, v in now.items() if before.get(name) != v
            ]:
                raise CheckpointError(
                    f"{self.path} was begun with other options: {'; '.join(changes)}. Name another -o"
                )
        elif world().first:
            write_text(self.record, json.dumps(now, indent=2) + "\n")

    def write(
        self,
        units: Units,
        answer: Callable[[Iterable[Picture]], Iterator[Row]],
        *,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Summary:
        """Answers every picture that has no answer yet; each process does its units of them.

        Args:
            units: as of ``find_pictures``, the same whenever a run goes on.
            answer: one row a picture, in their order.
            progress: is told how many rows this process has.

        Raises:
            CheckpointError: other pictures than before, or rows that were changed.
            OutputError: not all could be written, or another process writes here; what was written is intact.
        """
        here = world()
        direct = isinstance(self.format, Lines) and here.size == 1
        if direct or not self.path.exists():
            share = _Share(units, here)
            with Journal(*self._journal(here.rank, direct=direct)) as journal:
                summary = self._answer(journal, iter(share), answer, progress)
            if not direct:
                self._put_together(share.counts(), here)
            summary = summary.over(here)
        else:
            pictures = chain.from_iterable(units)
            summary = self._compare(self.format.read(self.path), pictures)
            if (more := next(pictures, None)) is not None:
                raise CheckpointError(f"{self.path} is complete, and {more.path} not in it: name another file with -o")
        if here.first:
            write_text(self.record, json.dumps({**self._read_record(), "summary": summary.to_json()}, indent=2) + "\n")
            for rank in range(0 if direct else here.size):
                self._journal(rank, direct=False)[0].unlink(missing_ok=True)
        return summary

    def _answer(
        self,
        journal: Journal,
        pictures: Iterator[Picture],
        answer: Callable[[Iterable[Picture]], Iterator[Row]],
        progress: Callable[[int], None],
    ) -> Summary:
        summary = self._compare(journal.rows(), pictures)
        block: list[Row] = []

        def put() -> None:
            nonlocal block
            full, block = block, []  # given up first: what an interrupt takes is answered again, never written twice
            journal.append(full)
            for row in full:
                summary.add(row)
            progress(summary.inputs)

        put()
        last = time.monotonic()
        try:
            with closing(answer(pictures)) as rows:  # type: ignore[type-var]
                for row in rows:
                    block.append(row)
                    if len(block) >= AT_ONCE or time.monotonic() - last > EVERY:
                        put()
                        last = time.monotonic()
        finally:
            put()
        return summary

    def _compare(self, rows: Iterable[Row], pictures: Iterator[Picture]) -> Summary:
        """Takes from ``pictures`` those that ``rows`` answer."""
        summary = Summary()
        for row in rows:
            picture = next(pictures, None)
            if picture is None or picture.path != row["path"]:
                found = "nothing" if picture is None else picture.path
                raise CheckpointError(
                    f"{self.path}: answer {summary.inputs + 1} is of {row['path']}, where the inputs now have "
                    f"{found}: give the same inputs, or name another file with -o"
                )
            summary.add(row)
        return summary

    def _put_together(self, counts: list[int], here: World) -> None:
        """The rows of every journal, in the order of the units, of which each has so many."""
        if here.first:
            rows = [JSON_LINES.read(self._journal(rank, direct=False)[0]) for rank in range(here.size)]
            ordered = (islice(rows[unit % here.size], count) for unit, count in enumerate(counts))
            with atomic_path(self.path) as temporary:
                self.format.write(temporary, chain.from_iterable(ordered))

    def _journal(self, rank: int, *, direct: bool) -> tuple[Path, Lines]:
        if direct:
            assert isinstance(self.format, Lines)
            return self.path, self.format
        return self.path.with_name(f"{self.path.name}.{rank}.jsonl"), JSON_LINES

    def _read_record(self) -> dict[str, Any]:
        try:
            found = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{self.record} is missing or damaged, so nothing says what gave the answers in {self.path}: name "
                "another file with -o"
            ) from error
        return found if isinstance(found, dict) else {}


class _Share:
    """The pictures of this process's units, and how many each of them had."""

    def __init__(self, units: Units, here: World) -> None:
        self._units, self._here = units, here
        self._numbers: list[int] = []
        self._counts: list[int] = []

    def __iter__(self) -> Iterator[Picture]:
        for number, unit in enumerate(self._units):
            if self._here.takes(number):
                self._numbers.append(number)
                self._counts.append(0)
                for picture in unit:
                    self._counts[-1] += 1
                    yield picture

    def counts(self) -> list[int]:
        """Of every unit, once all processes are through; waits for them."""
        numbers = torch.tensor(self._numbers, dtype=torch.int64)
        counts: list[int] = self._here.in_order(torch.tensor(self._counts, dtype=torch.int64), numbers).tolist()
        return counts
