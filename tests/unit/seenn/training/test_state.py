"""The state of a run, as one file: what comes back, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from seenn.errors import CheckpointError
from seenn.files import read_tensors, write_tensors
from seenn.training.state import EpochReport, RunState


class Remembering(torch.optim.Optimizer):
    """Keeps the last nine gradients of each parameter, their number, and a word."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for parameter in self.param_groups[0]["params"]:
            memory = self.state[parameter]
            if not memory:
                memory.update(history=torch.zeros(9, *parameter.shape), count=torch.zeros(()), word="first")
            memory["history"] = memory["history"].roll(1, 0)
            memory["history"][0] = parameter.grad
            memory["count"] += 1
            parameter -= 0.1 * memory["history"].sum(0)


def run(optimizer: Any, seed: int = 0) -> RunState:
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 4, 2)).to(memory_format=torch.channels_last)
    return RunState(module=module, optimizer=optimizer(module.parameters()))


def steps(state: RunState, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        images = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(number))
        state.optimizer.zero_grad()
        loss = state.module(images).square().mean()
        loss.backward()
        state.optimizer.step()
        state.took_step(float(loss.detach()), images=5, lr=0.1)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1),
    "remembering": Remembering,
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_whatever_an_optimiser_remembers_is_taken_up_in_its_own_shape(optimizer: Any, tmp_path: Path) -> None:
    whole, cut, after = run(optimizer), run(optimizer), run(optimizer, seed=1)
    steps(whole, 6)
    steps(cut, 3)
    cut.save(tmp_path / "state")
    after.load(tmp_path / "state")
    assert (after.step, after.loss_count, after.loss_sum) == (3, 15, cut.loss_sum)
    steps(after, 3, first=3)
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(after.module.state_dict()[name], tensor), name
    assert after.loss_sum == whole.loss_sum


def test_an_epoch_reports_the_mean_loss_of_its_images_and_the_next_starts_at_nothing() -> None:
    state = run(OPTIMIZERS["sgd"])
    state.took_step(2.0, images=3, lr=0.1)
    state.took_step(6.0, images=1, lr=0.05)
    assert (state.step, state.loss, state.lr) == (2, 6.0, 0.05)
    state.end_epoch(0.5, epoch=1, epochs=2)
    state.took_step(1.5, images=4, lr=0.05)
    state.end_epoch(0.25, epoch=2, epochs=2)
    assert state.epochs == [
        EpochReport(epoch=1, epochs=2, loss=3.0, accuracy=0.5),
        EpochReport(epoch=2, epochs=2, loss=1.5, accuracy=0.25),
    ]
    assert (state.loss_sum, state.loss_count) == (0.0, 0)


def test_the_weights_of_the_best_epoch_are_kept_and_of_equals_the_last() -> None:
    state, kept = run(OPTIMIZERS["sgd"]), []
    for epoch, (accuracy, best) in enumerate([(0.5, 1), (0.25, 1), (0.5, 3), (0.75, 4), (0.5, 4)], 1):
        steps(state, 1, first=epoch)
        kept.append(state.module[0].weight.detach().clone())
        state.end_epoch(accuracy, epoch=epoch, epochs=5)
        assert state.best_epoch.epoch == best
        assert torch.equal(state.best["0.weight"], kept[best - 1])


def changed(path: Path, metadata: dict[str, str] | None = None, **tensors: Tensor | None) -> None:
    """Writes the file again with other tensors and metadata; None takes a tensor away."""
    found, old = read_tensors(path)
    found |= {name.replace("_dot_", "."): tensor for name, tensor in tensors.items() if tensor is not None}
    for name in (name.replace("_dot_", ".") for name, tensor in tensors.items() if tensor is None):
        del found[name]
    write_tensors(path, found, old | (metadata or {}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metadata": {"seenn_run": "2"}}, "its format is '2', expected '1'"),
        ({"metadata": {"seenn_run": "0"}}, "its format is '0', expected '1'"),
        ({"metadata": {"progress": "{"}}, "Expecting property name"),
        ({"metadata": {"progress": json.dumps({"step": 1.5})}}, "step is 1.5"),
        ({"module_dot_2_dot_bias": torch.zeros(3)}, r"of another shape: module\.2\.bias\)"),
        ({"module_dot_2_dot_bias": torch.zeros(1)}, r"of another shape: module\.2\.bias\)"),
        ({"module_dot_2_dot_bias": None}, r"of another shape: module\.2\.bias\)"),
        ({"module_dot_more": torch.zeros(1)}, r"of another shape: module\.more\)"),
        (
            {"module_dot_more": torch.zeros(1), "module_dot_2_dot_bias": torch.zeros(3)},
            r"of another shape: module\.2\.bias, module\.more\)",
        ),
    ],
)
def test_what_is_not_this_runs_state_is_refused_by_name_and_changes_nothing(
    change: Any, said: str, tmp_path: Path
) -> None:
    state = run(OPTIMIZERS["adamw"])
    steps(state, 2)
    state.save(tmp_path / "state")
    changed(tmp_path / "state", **change)
    other = run(OPTIMIZERS["adamw"], seed=1)
    before = {name: tensor.clone() for name, tensor in other.module.state_dict().items()}
    with pytest.raises(CheckpointError, match=rf"the run's state .*state cannot be taken up \(.*{said}"):
        other.load(tmp_path / "state")
    assert all(torch.equal(tensor, before[name]) for name, tensor in other.module.state_dict().items())
    assert other.step == 0


def test_a_file_holds_tensors_and_json_and_nothing_else(tmp_path: Path) -> None:
    state = run(Remembering)
    steps(state, 1)
    state.end_epoch(0.5, epoch=1, epochs=1)
    state.save(tmp_path / "state")
    with safe_open(tmp_path / "state", framework="pt") as file:
        names, metadata = set(file.keys()), file.metadata()
    own = {"0.weight", "0.bias", "2.weight", "2.bias"}
    memory = {f"optimizer.{index}.{name}" for index in range(4) for name in ("history", "count")}
    assert names == {f"{kind}.{name}" for kind in ("module", "best") for name in own} | memory
    report = {"epoch": 1, "epochs": 1, "loss": state.epochs[0].loss, "accuracy": 0.5}
    progress = {"step": 1, "loss_sum": 0.0, "loss_count": 0, "epochs": [report]}
    assert json.loads(metadata["progress"]) == progress


def test_records_are_made_by_name() -> None:
    state = run(Remembering)
    with pytest.raises(TypeError, match="positional"):
        RunState(state.module, state.optimizer)  # type: ignore[misc]
    with pytest.raises(TypeError, match="positional"):
        EpochReport(1, 2, 0.5, 0.5)  # type: ignore[misc]
