"""Weights in several files."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.distributed.checkpoint import save

from converter.load.weights import read_weights
from seenn.errors import CheckpointError

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4, 2), "b.bias": torch.zeros(4)}


def assert_read(path: Path, state: State) -> None:
    tensors = read_weights(path).tensors
    assert tensors.keys() == state.keys()
    assert all(torch.equal(tensors[name], tensor) for name, tensor in state.items())


def as_index(folder: Path, state: State) -> Path:
    parts = {"model-1.safetensors": ["a.weight"], "model-2.safetensors": ["b.weight", "b.bias"]}
    for name, keys in parts.items():
        safetensors.torch.save_file({key: state[key] for key in keys}, folder / name)
    where = {key: name for name, keys in parts.items() for key in keys}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder / "model.safetensors.index.json"


def as_distributed(folder: Path, state: State) -> Path:
    with pytest.warns(UserWarning, match="single process"):
        save({**state, "step": 3}, checkpoint_id=folder)
    return folder / ".metadata"


@pytest.mark.parametrize("write", [as_index, as_distributed])
def test_shards_are_read_by_folder_and_by_file(
    tmp_path: Path, state: State, write: Callable[[Path, State], Path]
) -> None:
    assert_read(write(tmp_path, state), state)
    assert_read(tmp_path, state)


def test_the_model_is_found_among_what_a_training_leaves(tmp_path: Path, state: State) -> None:
    for name in ("optimizer.pt", "training_args.bin", "rng_state.pth", "scheduler.pt"):
        torch.save({"x": torch.ones(1)}, tmp_path / name)
    torch.save(state, tmp_path / "epoch7.pth")
    assert_read(tmp_path, state)
    torch.save(state, tmp_path / "epoch8.pth")
    with pytest.raises(CheckpointError, match=r"holds epoch7\.pth, epoch8\.pth; name the file that is meant"):
        read_weights(tmp_path)
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    assert_read(tmp_path, state)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no file of weights; name the file"):
        read_weights(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not an index of weights"),
        ('{"weight_map": []}', "not an index of weights"),
        ('{"weight_map": {}}', "names 0 shards"),
        ('{"weight_map": {"a": "../model-1.safetensors"}}', "is no file of its folder; copy all shards beside it"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "is no file of its folder"),
        ('{"weight_map": {"c": "model-1.safetensors"}}', "names 1 tensors that its shards lack, 'c' first"),
    ],
)
def test_an_index_that_lies_is_refused(tmp_path: Path, state: State, content: str, message: str) -> None:
    index = as_index(tmp_path, state)
    index.write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_weights(index)


def test_metadata_of_a_distributed_checkpoint_run_nothing(tmp_path: Path, state: State) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "was_run"),))

    as_distributed(tmp_path, state)
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(CheckpointError, match=r"(posix|nt)\.mkdir is no part of it"):
        read_weights(tmp_path)
    assert not (tmp_path / "was_run").exists()


def test_more_than_the_shards_hold_is_not_allocated(tmp_path: Path, state: State) -> None:
    file = as_distributed(tmp_path, state)
    metadata = pickle.loads(file.read_bytes())  # noqa: S301 - written above
    metadata.state_dict_metadata["a.weight"].size = torch.Size([1 << 40, 3])
    file.write_bytes(pickle.dumps(metadata))
    with pytest.raises(CheckpointError, match="declares 13,194,139,533,360 bytes of weights in files of"):
        read_weights(tmp_path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: Any) -> Path:
    folder: Path = tmp_path_factory.mktemp("shards")
    as_distributed(folder, {"a": torch.ones(3), "b": torch.zeros(2, 2)})
    return folder


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_only_checkpoint_errors_come_out_of_mutated_shards(data: Any, sound: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sound, tmp_path, dirs_exist_ok=True)
    path = folder / data.draw(st.sampled_from([".metadata", "__0_0.distcp"]))
    content = bytearray(path.read_bytes())
    places = st.integers(0, len(content) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        content[place] = value
    path.write_bytes(bytes(content[: data.draw(st.one_of(st.none(), places))]))
    with suppress(CheckpointError):
        read_weights(folder)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
@pytest.mark.parametrize("named", [True, False])
def test_shards_without_their_index_ask_for_it_by_name(tmp_path: Path, state: State, suffix: str, named: bool) -> None:
    for number, (name, tensor) in enumerate(state.items(), start=1):
        shard = tmp_path / f"model-{number:05}-of-00003.{suffix}"
        if suffix == "bin":
            torch.save({name: tensor}, shard)
        else:
            safetensors.torch.save_file({name: tensor}, shard)
    index = tmp_path / f"model.{suffix}.index.json"
    path = tmp_path / f"model-00002-of-00003.{suffix}" if named else tmp_path
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert f"one of several shards, whose index is {index}, which is missing: copy it beside the shards" in str(
        caught.value
    )
    where = {name: f"model-{number:05}-of-00003.{suffix}" for number, name in enumerate(state, start=1)}
    index.write_text(json.dumps({"weight_map": where}))
    assert_read(index, state)
    if named:
        with pytest.raises(CheckpointError, match=r"one of several shards, whose index is .*, name that$"):
            read_weights(path)
    else:
        assert_read(path, state)


def test_the_only_shard_is_whole(tmp_path: Path, state: State) -> None:
    safetensors.torch.save_file(state, tmp_path / "model-00001-of-00001.safetensors")
    assert_read(tmp_path, state)
