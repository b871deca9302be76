"""A run's folder: ``config.json``, ``metrics.jsonl``, ``curves.png`` and the state to continue from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seenn.distributed import World
from seenn.errors import CheckpointError, UnsupportedError
from seenn.files import locked, make_folder, remove_stale, write_text, writing
from seenn.training.curves import plot_curves
from seenn.training.state import RunState

STATE, CONFIG, METRICS, CURVES = "state.safetensors", "config.json", "metrics.jsonl", "curves.png"
LOCK = ".lock"  # held by the process that writes here


@dataclass(kw_only=True)
class Run:
    """Where a run keeps what it did, and how often. Rank 0 writes; every process reads.

    ``config`` is all that determines the outcome, as JSON: resuming with another one is refused.
    """

    folder: Path
    config: Mapping[str, Any]
    resume: bool = False
    save_every: int = 100  # steps between two saved states; the end of an epoch saves too
    log_every: int = 10  # steps between two lines of metrics
    tensorboard: bool = False
    _since: float = field(default_factory=time.monotonic, init=False)
    _board: Any = field(default=None, init=False)  # TensorBoard's writer

    def __post_init__(self) -> None:
        for name in ("save_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @contextmanager
    def opened(self, state: RunState, here: World) -> Iterator[None]:
        """Makes the folder, or takes up the run that is in it; inside, the folder belongs to this run alone.

        Raises:
            CheckpointError: there is a run already and ``resume`` is False, or it is damaged or another one; or
                another process runs in the folder.
            OutputError: the folder cannot be written.
        """
        with ExitStack() as stack:
            if here.first:
                lock = make_folder(self.folder) / LOCK
                with writing(lock):
                    lock.touch()
                if stack.enter_context(locked(lock)) is False:
                    raise CheckpointError(
                        f"another process is running in {self.folder}: wait until it ends, or name another folder"
                    )
                for name in (STATE, CONFIG, METRICS, CURVES):
                    remove_stale(self.folder / name)
            here.wait()
            if (saved := self.folder / STATE).exists():
                if not self.resume:
                    raise CheckpointError(
                        f"{self.folder} holds a run already: continue it with --resume, or name another folder"
                    )
                self._check_config()
                state.load(saved)
            here.wait()
            if here.first:
                if self.tensorboard:
                    self._board = _tensorboard(self.folder)
                write_text(self.folder / CONFIG, json.dumps(self.config, indent=2, allow_nan=False) + "\n")
                lines = [line for line in self._metrics() if line["step"] <= state.step]
                write_text(self.folder / METRICS, "".join(json.dumps(line) + "\n" for line in lines))
            here.wait()
            yield

    def after_step(self, state: RunState, here: World, *, epoch_ended: bool) -> None:
        """Logs and saves where it is time to; after an epoch also its report and the curves."""
        line = {"step": state.step, "loss": state.loss, "lr": state.lr}
        if here.first and epoch_ended:
            self._log(line | asdict(state.epochs[-1]))
            plot_curves(list(self._metrics()), self.folder / CURVES)
        elif here.first and state.step % self.log_every == 0:
            self._log(line)
        if epoch_ended or state.step % self.save_every == 0:
            self.save(state, here)

    def save(self, state: RunState, here: World) -> None:
        """Writes the state; the processes wait for it."""
        if here.first:
            state.save(self.folder / STATE)
        here.wait()

    def _log(self, line: dict[str, Any]) -> None:
        line["seconds"] = round(time.monotonic() - self._since, 3)  # since this process began
        with writing(self.folder / METRICS), open(self.folder / METRICS, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self._board is not None:
            kind = "epoch" if "epoch" in line else "step"
            for key in ("loss", "lr", "accuracy"):
                if key in line:
                    self._board.add_scalar(f"{kind}/{key}", line[key], line["step"])
            self._board.flush()

    def _metrics(self) -> Iterator[dict[str, Any]]:
        """The lines so far; one that a kill cut off is left out."""
        path = self.folder / METRICS
        for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                yield line

    def _check_config(self) -> None:
        path = self.folder / CONFIG
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(before, dict):
                raise ValueError("expected an object")
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): the run's folder is damaged; start again in another one"
            ) from error
        old, new = dict(_flat(before)), dict(_flat(json.loads(json.dumps(self.config))))
        if differ := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
            listed = "; ".join(f"{key} was {old.get(key)!r}, now {new.get(key)!r}" for key in differ)
            raise CheckpointError(
                f"the run in {self.folder} was started with another configuration: {listed}. Give the same options, "
                "or start another run in another folder"
            )


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UnsupportedError(
            "TensorBoard is not installed: pip install tensorboard, or leave out --tensorboard (metrics.jsonl and "
            "curves.png hold the same figures)"
        ) from error
    return SummaryWriter(str(folder))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested objects by dotted path."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else str(key))
    else:
        yield path, value
