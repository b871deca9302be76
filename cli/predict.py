"""``seenn predict``: labels of pictures and other samples, of any number, each with the steps it took."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.common import Console, command
from cli.groups import AlarmOptions, OwnPolicyOptions, PreparationOptions, RunOptions, SnnFile
from cli.options import PATH, Integer, argument, option
from cli.output import output_file

if TYPE_CHECKING:
    from seenn.answers import AnswerFile, Picture, Row, Summary
    from seenn.answers.file import Units
    from seenn.runtime import DriftAlarm, Engine
    from seenn.snn import SNN

FORMATS = ("csv", "jsonl", "parquet")


@dataclass(frozen=True, kw_only=True)
class PredictFiles(SnnFile):
    """The network, which has to be named before the pictures."""

    snn: str = argument(required=True, type=PATH)
    inputs: tuple[str, ...] = argument(required=True, nargs=-1, metavar="PICTURES...")

    def prepared(self, snn: SNN) -> SNN:
        """The network, which says how its inputs are prepared.

        Raises:
            CheckpointError: it does not, or it reads something else.
        """
        from seenn.answers import expand, is_array
        from seenn.data.numbers import Numbers
        from seenn.data.preprocessing import Preprocessing
        from seenn.errors import CheckpointError

        shape = snn.network.input_shape
        if "frames" in (snn.manifest.get("data") or {}):
            raise CheckpointError(
                f"{self.snn} reads recordings of events, not image files: use seenn.load(…).predict in Python"
            )
        listed = "-" in self.inputs  # what is not known yet
        arrays = all(is_array(name) for given in self.inputs if given != "-" for name in expand(given))
        if isinstance(snn.preprocessing, Preprocessing) or (snn.preprocessing and arrays):
            return snn
        if snn.preprocessing is None and len(shape) == 3 and (listed or not arrays):
            raise CheckpointError(
                f"{self.snn} does not record how pictures are prepared: state --mean and --std as in training"
            )
        if arrays:  # of what the network takes
            return replace(snn, preprocessing=Numbers(shape=tuple(shape)))
        raise CheckpointError(
            f"{self.snn} reads samples of shape {list(shape)}, not image files: store them as .npy or .npz, [N, …], "
            "and name these files, or a pattern such as FOLDER/*.npy"
        )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """Where answers go."""

    output: str | None = option(
        "Write the answers here as they come.  [default: print them]", short="-o", metavar="FILE"
    )
    format: str | None = option("Of -o.  [default: by its suffix]", type=click.Choice(FORMATS))
    resume: bool = option("Go on with -o where a run was cut off; begin it where there is none.")
    strict: bool = option("Exit code 1 where a picture cannot be read.")
    workers: int | None = option(
        "Processes that decode pictures; 0: none but this.  [default: half of the processors]", type=Integer(0, 256)
    )

    def __post_init__(self) -> None:
        if self.output is None and (self.resume or self.format is not None):
            raise ValueError("--resume and --format are of a file of answers: add -o FILE")
        if self.output is None:
            return
        output_file(self.output, kind=None, replaces=False)  # of a file that is there, what goes on with it says more
        if self._format not in FORMATS:
            raise ValueError(f"-o {self.output} does not end in .{', .'.join(FORMATS)}: add --format")

    @property
    def _format(self) -> str:
        return self.format or Path(self.output or "").suffix.lower().removeprefix(".")

    def file(self, **identity: object) -> AnswerFile | None:
        """The file of answers that depend on ``identity``; None where they are printed."""
        from seenn import answers
        from seenn.distributed import world

        if self.output is not None:
            return answers.AnswerFile(Path(self.output), answers.FORMATS[self._format], identity)
        if world().size > 1:
            raise click.UsageError("several processes write their answers into one file: add -o FILE")
        return None


@command("Classify pictures or signals, of any number.")
def predict(
    console: Console,
    files: PredictFiles,
    answers: AnswerOptions,
    own: OwnPolicyOptions,
    how: RunOptions,
    preparation: PreparationOptions,
    warn: AlarmOptions,
) -> None:
    """Classify PICTURES, or signals, with the spiking network SNN.

    PICTURES are image files, folders, patterns ('shard-{000..099}.tar'), webdataset tar files, .csv or .tsv tables
    with a column path, .npy or .npz arrays of pictures, signals or rows of numbers, or - for a list of such names on
    stdin. Answers keep their order.
    """
    from seenn.answers import answer_pictures, check_inputs, check_sample, find_pictures
    from seenn.data.picture import SUFFIXES
    from seenn.distributed import world

    if Path(files.snn).suffix.lower() in SUFFIXES:
        raise click.UsageError(f"{files.snn} is a picture: name the network first, seenn predict SNN PICTURES")
    recorded = files.load().to(console.device)
    snn = files.prepared(preparation.for_pictures(recorded))
    assert snn.preprocessing is not None
    if "-" in files.inputs and world().size > 1:
        raise click.UsageError(
            "several processes cannot share the list on stdin: write it into a table with a column path"
        )
    shape = snn.network.input_shape
    check_inputs(files.inputs, partial(check_sample, snn.preprocessing), shape)
    engine = how.make(console, snn)
    timesteps = snn.steps(how.timesteps)
    stated = {} if snn is recorded else {"preprocessing": snn.preprocessing.to_json()}
    target = answers.file(
        snn=files.fingerprint, engine=engine.name, timesteps=timesteps, float_sites=list(how.float_sites), **stated
    )
    session = snn.session(engine, timesteps=timesteps, slots=how.batch_size)
    # Names on stdin come in time; files lie in any order, such as class by class.
    watch = snn.drift_alarm(session, warn.drift_alarm, in_order="-" in files.inputs)
    answer = partial(answer_pictures, snn, session, workers=answers.workers, observers=[watch] if watch else [])
    units = find_pictures(files.inputs, shape)
    if target is None:
        rows = answer(chain.from_iterable(units))
        found = _print(console, rows, engine, watch, with_cost=bool(snn.network.graph.heads))
    else:
        found = _write(console, target, units, answer, engine, watch, resume=answers.resume)
    if found.unreadable and console.first:
        which = "none could be read" if not found.answered else f"{found.unreadable} could not be read"
        said = found.first_error is None or (target is None and not console.json)
        first = "" if said else f"; the first: {found.first_error}"
        click.echo(f"warning: of {found.inputs} inputs {which}{first}", err=True)
    if not found.inputs and console.first:
        click.echo("warning: stdin names no inputs", err=True)
    if found.unreadable and (answers.strict or not found.answered):
        sys.exit(1)


def _print(
    console: Console, rows: Iterable[Row], engine: Engine, watch: DriftAlarm | None, *, with_cost: bool
) -> Summary:
    """Answers on stdout: a line each as they come, or one object in the end."""
    from seenn.answers import Summary

    summary, kept = Summary(), []
    for row in rows:
        summary.add(row)
        if console.json:
            kept.append(row)
        elif row["error"] is None:
            click.echo(f"{row['path']}: {_said(row, with_cost)}")
        else:
            click.echo(f"warning: {row['error']}", err=True)  # which --quiet leaves
    drift = _drift(console, watch)
    if console.json:
        console.answer({"predictions": kept, **summary.to_json(), **drift}, engine=engine)
    return summary


def _said(row: Row, with_cost: bool) -> str:
    """The answer in words; with its cost where steps have exits of different depth."""
    steps = f"{row['exit_timestep']} step{'s' * (row['exit_timestep'] != 1)}"
    if with_cost:
        steps += f", exit {row['exit_segment']}, {100 * row['cost']:.1f} % of the cost of all"
    if row["confidence"] is None:
        return f"{' '.join(f'{value:.6g}' for value in row['values'])}  ({steps})"
    return f"{row['class'] or '(none)'}  (confidence {row['confidence']:.3f}, {steps})"


def _drift(console: Console, watch: DriftAlarm | None) -> dict[str, Any]:
    """Whether the pictures of this run, of every process, are like those of the calibration; None: not known."""
    from seenn.distributed import world

    if watch is not None:
        watch.gather(world())
        if console.first:
            watch.judge()
    return {"drift": None if watch is None else watch.to_json()}


def _write(
    console: Console,
    target: AnswerFile,
    units: Units,
    answer: Callable[[Iterable[Picture]], Iterator[Row]],
    engine: Engine,
    watch: DriftAlarm | None,
    *,
    resume: bool,
) -> Summary:
    """Answers in a file, and their summary on stdout."""
    target.begin(resume=resume)
    try:
        with console.progress("inputs") as update:
            summary = target.write(units, answer, progress=lambda done: update(done, None))
    except KeyboardInterrupt:
        console.say(f"the answers so far are kept: the same command with --resume goes on with {target.path}")
        raise
    steps = (
        ""
        if summary.mean_timesteps is None
        else f", {summary.mean_timesteps:.2f} steps on average, {summary.mean_cost:.3f} of the cost of all"
    )
    text = f"{target.path}: {summary.answered} of {summary.inputs} inputs answered{steps}"
    drift = _drift(console, watch)
    console.answer({"answers": str(target.path), **summary.to_json(), **drift}, text, engine=engine)
    return summary
