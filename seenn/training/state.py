"""Everything that a run needs to go on: in memory, and as one ``.safetensors`` file without code in it."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from seenn.errors import CheckpointError
from seenn.files import read_tensors, write_tensors

VERSION = "1"
PROGRESS = {"step": int, "loss_sum": float, "loss_count": int, "epochs": list}  # types of what is saved as JSON


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """What one epoch did."""

    epoch: int  # 1-based
    epochs: int
    loss: float  # mean over the epoch's images
    accuracy: float  # on the held-out split, in [0, 1]


@dataclass(kw_only=True)
class RunState:
    """Weights, the optimiser's memory, averages, the best weights so far, and how far the run is."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None
    step: int = 0  # steps taken
    loss_sum: float = 0.0  # over the images of this epoch
    loss_count: int = 0
    epochs: list[EpochReport] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    loss: float = float("nan")  # of the last step
    lr: float = float("nan")

    @property
    def kept(self) -> nn.Module:
        """The module whose weights are validated and kept: the average where there is one."""
        return self.module if self.average is None else self.average.module

    @property
    def best_epoch(self) -> EpochReport:
        """The epoch whose weights are kept: the best, and of equals the last."""
        return max(self.epochs, key=lambda report: (report.accuracy, report.epoch))

    def took_step(self, loss: float, images: int, lr: float) -> None:
        """Counts a step."""
        self.step += 1
        self.loss, self.lr = loss, lr
        self.loss_sum += loss * images
        self.loss_count += images

    def end_epoch(self, accuracy: float, *, epoch: int, epochs: int) -> None:
        """Files the report of an epoch, keeps its weights if they are the best, and starts the next one's sums."""
        loss = self.loss_sum / self.loss_count
        report = EpochReport(epoch=epoch, epochs=epochs, loss=loss, accuracy=accuracy)
        self.epochs.append(report)
        if self.best_epoch is report:
            self.best = {name: t.detach().cpu().clone() for name, t in self.kept.state_dict().items()}
        self.loss_sum, self.loss_count = 0.0, 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the state, atomically; raises as :func:`seenn.files.write_tensors`."""
        progress = {name: getattr(self, name) for name in PROGRESS} | {"epochs": list(map(asdict, self.epochs))}
        tensors = {name: t.detach().cpu().contiguous().clone() for name, t in self._tensors().items()}
        tensors |= {f"best.{name}": t.contiguous() for name, t in self.best.items()}
        write_tensors(path, tensors, {"seenn_run": VERSION, "progress": json.dumps(progress)})

    @torch.no_grad()
    def load(self, path: str | os.PathLike[str]) -> None:
        """Takes up what :meth:`save` wrote, in the memory layout that the tensors have here.

        Raises:
            CheckpointError: the file is damaged, or of another run.
        """
        where = Path(path)
        try:
            found, metadata = read_tensors(where)
            if metadata.get("seenn_run") != VERSION:
                raise ValueError(f"its format is {metadata.get('seenn_run')!r}, expected {VERSION!r}")
            progress = json.loads(metadata["progress"])
            for name, kind in PROGRESS.items():
                if not isinstance(progress[name], kind):
                    raise ValueError(f"{name} is {progress[name]!r}")
            progress["epochs"] = [EpochReport(**report) for report in progress["epochs"]]
            self._start_optimizer(found)
            own = self._tensors()
            best = {name.removeprefix("best."): t for name, t in found.items() if name.startswith("best.")}
            rest = {name: t for name, t in found.items() if not name.startswith("best.")}
            if wrong := sorted(
                set(own.keys() ^ rest.keys())
                | {name for name in own.keys() & rest.keys() if own[name].shape != rest[name].shape}
            ):
                raise ValueError(f"tensors that are missing, unknown or of another shape: {', '.join(wrong[:8])}")
        except (OSError, SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"the run's state {where} cannot be taken up ({error}): it is damaged or of another run. Start again "
                "in another folder"
            ) from error
        for name, tensor in own.items():
            tensor.copy_(rest[name])
        self.best = best
        for name, value in progress.items():
            setattr(self, name, value)

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor that changes from step to step, by name; the tensors themselves."""
        found = {f"module.{name}": t for name, t in self.module.state_dict().items()}
        if self.average is not None:
            found |= {f"average.{name}": t for name, t in self.average.state_dict().items()}
        for index, parameter in enumerate(self._parameters()):
            for name, value in self.optimizer.state.get(parameter, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimizer.{index}.{name}"] = value
        return found

    def _parameters(self) -> list[nn.Parameter]:
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def _start_optimizer(self, found: dict[str, Tensor]) -> None:
        """Gives the optimiser the memory that it would have after a step, to be filled."""
        parameters = self._parameters()
        for name, tensor in found.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".", 2)
                parameter = parameters[int(index)]
                like = parameter if tensor.shape == parameter.shape else tensor
                self.optimizer.state[parameter][key] = torch.empty_like(like, requires_grad=False)
