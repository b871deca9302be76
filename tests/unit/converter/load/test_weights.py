"""Reading other programs' weights: wrappers, prefixes, precision, and every way a file can be bad."""

from __future__ import annotations

import argparse
import bz2
import datetime
import gzip
import io
import json
import lzma
import os
import pickle
import sys
import types
import zipfile
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import seenn
from converter.load import protocol
from converter.load.match import load_tensors
from converter.load.names import name_as_in
from converter.load.pickled import MAPPINGS
from converter.load.weights import read_weights, write_weights
from converter.onnx_import import import_onnx
from seenn.errors import CheckpointError


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict())


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def read(path: Path, own: dict[str, Tensor], *, ema: bool = False) -> dict[str, Tensor]:
    """The tensors of a file that are those of a module with the state dict ``own``."""
    return name_as_in(own, read_weights(path), ema=ema).tensors


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(got[name], tensor), name


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model", "net", "params", "my_weights"])
def test_state_dict_is_found_inside_its_wrapper(tmp_path: Path, state: dict[str, Tensor], key: str) -> None:
    optimizer = {"state": {0: {"momentum": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    content = {"epoch": 3, "optimizer": optimizer, key: state}
    assert_same(read(saved(tmp_path / "a.pth", content), state), state)


def test_tensors_beside_a_state_dict_are_not_mistaken_for_it(tmp_path: Path, state: dict[str, Tensor]) -> None:
    content = {"best_accuracy": torch.tensor(0.9), "state_dict": state}
    assert_same(read(saved(tmp_path / "a.pth", content), state), state)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".pth.tar"])
def test_bare_state_dict_is_read_with_any_torch_ending(tmp_path: Path, state: dict[str, Tensor], suffix: str) -> None:
    assert_same(read(saved(tmp_path / f"a{suffix}", OrderedDict(state)), state), state)


def test_legacy_format_is_read(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "a.pth", state, _use_new_zipfile_serialization=False)
    assert_same(read(path, state), state)


def test_timm_training_checkpoint_is_read_with_its_arguments_and_both_averages(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    average = {name: tensor + 1 for name, tensor in state.items()}
    content = {"state_dict": state, "state_dict_ema": average, "args": argparse.Namespace(lr=0.1)}
    path = saved(tmp_path / "a.pth", content)
    assert_same(read(path, state), state)
    assert_same(read(path, state, ema=True), average)


def test_average_is_taken_when_it_is_all_there_is(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = saved(tmp_path / "a.pth", {"model_ema": {"module": state}, "epoch": 2})
    assert_same(read(path, state), state)
    assert_same(read(path, state, ema=True), state)


def test_asking_for_an_average_that_is_not_there_is_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match=r"holds no averaged \(EMA\) weights"):
        read(saved(tmp_path / "a.pth", {"state_dict": state}), state, ema=True)


def test_nested_prefixes_are_stripped(tmp_path: Path, state: dict[str, Tensor]) -> None:
    wrapped = {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
    assert_same(read(saved(tmp_path / "a.pth", wrapped), state), state)


def test_half_precision_is_cast_up_and_integers_stay(tmp_path: Path, state: dict[str, Tensor]) -> None:
    content = {
        n: t.half() if n.startswith("0.") else t.bfloat16() if t.is_floating_point() else t for n, t in state.items()
    }
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    load_tensors(module, read_weights(saved(tmp_path / "a.pth", content)), name="net")
    assert_same(dict(module.state_dict()), {name: tensor.to(state[name].dtype) for name, tensor in content.items()})


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_written_weights_come_back_bit_for_bit_with_their_record(
    tmp_path: Path, state: dict[str, Tensor], suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    tied = {**state, "tied": state["0.weight"]}
    write_weights(path, tied, {"model": {"name": "x"}, "epochs": 3})
    weights = read_weights(path)
    assert_same(name_as_in(tied, weights).tensors, tied)
    assert weights.record == {"model": {"name": "x"}, "epochs": 3}
    assert os.listdir(tmp_path) == [path.name]


def test_what_cannot_be_written_is_refused_and_leaves_no_file(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(ValueError, match="must be JSON"):
        write_weights(tmp_path / "a.pth", state, {"x": object()})
    with pytest.raises(ValueError, match=r"expected a name ending in \.pth"):
        write_weights(tmp_path / "a.onnx", state, {})
    assert os.listdir(tmp_path) == []


PROTOCOLS = range(2, 6)


class Payload:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("version", PROTOCOLS)
@pytest.mark.parametrize("zipped", [True, False])
def test_pickle_payload_is_named_refused_and_never_run(tmp_path: Path, zipped: bool, version: int) -> None:
    marker = tmp_path / "was_run"
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": version}
    path = saved(tmp_path / "a.pth", {"state_dict": Payload(marker)}, **options)
    with pytest.raises(CheckpointError, match=r"pickles (posix|nt)\.mkdir: objects of a program.*torch\.save\(torch"):
        read_weights(path)
    assert not marker.exists()


LOADED = "torch.load('{}', weights_only=False)"
PICKLED: dict[str, tuple[Any, str]] = {
    "module": (nn.Linear(2, 2), f"{LOADED}.state_dict()"),
    "module in a mapping": ({"epoch": 1, "model": nn.Linear(2, 2)}, f"{LOADED}['model'].state_dict()"),
    "beside weights": ({"state_dict": {"a": torch.ones(1)}, "loss": nn.MSELoss()}, f"{LOADED}['state_dict']"),
    "among weights": (
        {"a": torch.ones(1), "loss": nn.MSELoss()},
        f"{{{{n: t for n, t in {LOADED}.items() if isinstance(t, torch.Tensor)}}}}",
    ),
}


@pytest.mark.parametrize("kind", PICKLED)
def test_pickled_objects_are_refused_with_the_line_that_saves_the_weights(tmp_path: Path, kind: str) -> None:
    content, line = PICKLED[kind]
    path = saved(tmp_path / "a.pth", content)
    with pytest.raises(CheckpointError) as caught:
        read_weights(path)
    assert f"torch.save({line.format(path)}, 'weights.pth')" in str(caught.value)
    assert "pickles torch.nn.modules.l" in str(caught.value)


@pytest.mark.parametrize("version", PROTOCOLS)
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_beside_the_weights_is_passed_over(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, version: int
) -> None:
    beside = {
        "best": np.float64(0.93), "seen": np.arange(3), "dtype": np.dtype("f4"), "out": Path("runs"),
        "when": date(2024, 5, 1), "args": argparse.Namespace(lr=0.1, out=Path("x")), "raw": b"\x00\xff" * 200,
        "more": SimpleNamespace(seed=np.int64(1)), "size": torch.Size([2]), "kinds": {"a"}, "decimal": Decimal("0.1"),
        "frozen": frozenset("ab"), "long": "é" * 300, "again": ("best", "seen", "é" * 300), "runs": defaultdict(list),
        "last": deque([0.3, 0.2], maxlen=2), "counted": Counter("aab"),
    }  # fmt: skip
    beside["runs"]["lr"].append(0.1)
    content = {**beside, "state_dict": state}
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": version}
    assert_same(read(saved(tmp_path / "a.pth", content, **options), state), state)


@pytest.mark.parametrize("version", PROTOCOLS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_state_dict_of_numpy_arrays_is_read(
    tmp_path: Path, state: dict[str, Tensor], zipped: bool, version: int
) -> None:
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": version}
    for content in (arrays, {"epoch": 3, "state_dict": arrays}):
        assert_same(read(saved(tmp_path / "a.pth", content, **options), state), state)
    others = {"big": np.ones((2, 3), dtype=">f8"), "turned": np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    tensors = read_weights(saved(tmp_path / "b.pth", {**others, "text": np.array(["a"])}, **options)).tensors
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {
        name: array.tolist() for name, array in others.items()
    }


def test_arrays_that_a_training_noted_are_no_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    found = read_weights(saved(tmp_path / "a.pth", {"losses": np.ones(3), "state_dict": state}))
    assert found.tensors.keys() == {f"state_dict.{name}" for name in state}


def test_weights_in_memory_are_no_file(state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="weights are a dict: give the path of a file; what is in memory goes"):
        read_weights(state)  # type: ignore[arg-type]


class EasyDict(dict[str, Any]):
    """As such libraries have them: entries are attributes too."""

    def __init__(self, **entries: Any) -> None:
        super().__init__(entries)
        self.__dict__.update(entries)


@pytest.mark.parametrize("name", sorted(MAPPINGS - {"collections.defaultdict"}))
def test_dictionaries_of_other_libraries_are_read_as_dictionaries(
    tmp_path: Path, state: dict[str, Tensor], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, own = name.rpartition(".")
    kind = type(own, (EasyDict,), {"__module__": module})
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(module))
    setattr(sys.modules[module], own, kind)
    config = kind(lr=0.1, model=kind(depth=18))
    assert_same(read(saved(tmp_path / "a.pth", {"config": config, "state_dict": state}), state), state)
    assert_same(read(saved(tmp_path / "a.pth", kind(state_dict=state)), state), state)


def test_a_long_pickle_of_a_newer_protocol_is_refused(
    tmp_path: Path, state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "_MOST_BYTES", 500)
    assert_same(read(saved(tmp_path / "a.pth", state), state), state)
    with pytest.raises(CheckpointError, match=r"in a new protocol; re-save it with torch\.save"):
        read(saved(tmp_path / "a.pth", state, pickle_protocol=4), state)


def test_missing_empty_and_unknown_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.pth").touch()
    with pytest.raises(CheckpointError, match="the file is empty"):
        read_weights(tmp_path / "empty.pth")
    with pytest.raises(CheckpointError, match="no such file"):
        read_weights(tmp_path / "absent.pth")
    (tmp_path / "a.doc").write_text("weights")
    with pytest.raises(CheckpointError, match="not a torch checkpoint, or damaged"):
        read_weights(tmp_path / "a.doc")
    with pytest.raises(CheckpointError, match="a Keras file; export it to ONNX and pass the file with --model"):
        read_weights(tmp_path / "a.h5")


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_truncated_file_is_refused(tmp_path: Path, state: dict[str, Tensor], suffix: str, kept: float) -> None:
    path = tmp_path / f"a{suffix}"
    write_weights(path, state, {})
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(CheckpointError, match="truncated"):
        read_weights(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_file_of_something_else_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_text("404: not found")
    with pytest.raises(CheckpointError, match="not a") as caught:
        read_weights(path)
    assert "weights_only" not in str(caught.value)  # torch's advice to run what is in the file


STAND_INS = {
    "<!DOCTYPE html><html>": "a web page, not the file itself: download it again",
    "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n": "a pointer of Git LFS, .* `git lfs pull`",
}


@pytest.mark.parametrize("content", STAND_INS)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("a.pth", read_weights),
        ("a.safetensors", read_weights),
        ("a.safetensors", seenn.load),
        ("a.onnx", import_onnx),
    ],
)
def test_what_came_in_the_place_of_a_file_is_named(
    tmp_path: Path, name: str, read: Callable[[Path], Any], content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=STAND_INS[content]):
        read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a", "a.params"])
@pytest.mark.parametrize("written", ["a.pth", "a.safetensors"])
def test_what_a_file_holds_counts_and_not_its_name(
    tmp_path: Path, state: dict[str, Tensor], written: str, name: str
) -> None:
    write_weights(tmp_path / written, state, {"epoch": 3})
    (tmp_path / written).rename(tmp_path / name)
    found = read_weights(tmp_path / name)
    assert found.record == {"epoch": 3}
    assert_same(name_as_in(state, found).tensors, state)


@pytest.mark.parametrize("content", [{"epoch": 3}, [torch.ones(2)], {}, {"state_dict": {}}])
def test_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    with pytest.raises(CheckpointError, match="no weights inside"):
        read_weights(saved(tmp_path / "a.pth", content))


@pytest.mark.parametrize("version", PROTOCOLS)
@pytest.mark.parametrize(
    "around",
    [
        lambda state: (state,),
        lambda state: [state, {"epoch": 3}, "sgd"],
        lambda state: list(state.items()),
    ],
)
def test_a_state_dict_in_a_list_or_as_pairs_is_read(
    tmp_path: Path, state: dict[str, Tensor], around: Callable[[Any], Any], version: int
) -> None:
    assert_same(read(saved(tmp_path / "a.pth", around(state), pickle_protocol=version), state), state)


def test_several_state_dicts_in_a_list_are_not_told_apart(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="a list with 2 state dicts: save the one that is meant"):
        read_weights(saved(tmp_path / "a.pth", [state, state]))


@pytest.mark.parametrize("version", PROTOCOLS)
@pytest.mark.parametrize(
    "content",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3, "when": datetime.date(2020, 1, 1)},
        lambda state: {name: nn.Parameter(t) if t.is_floating_point() else t for name, t in state.items()},
        lambda state: {name: tensor.numpy() for name, tensor in state.items()},
    ],
)
def test_what_pickle_wrote_is_read(
    tmp_path: Path, state: dict[str, Tensor], content: Callable[[Any], Any], version: int
) -> None:
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content(state), version))
    assert_same(read(tmp_path / "a.pkl", state), state)


@pytest.mark.parametrize("version", PROTOCOLS)
def test_what_pickle_wrote_runs_nothing(tmp_path: Path, state: dict[str, Tensor], version: int) -> None:
    marker, path = tmp_path / "was_run", tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({**state, "more": Payload(marker)}, version))
    with pytest.raises(CheckpointError, match=r"pickles (posix|nt)\.mkdir: objects of a program.*pickle\.load\(open\("):
        read_weights(path)
    inner = io.BytesIO()
    torch.save(Payload(marker), inner, _use_new_zipfile_serialization=False)
    path.write_bytes(pickle.dumps({"weight": Storage(inner.getvalue())}, version))
    with pytest.raises(CheckpointError):
        read_weights(path)
    assert not marker.exists()


class Storage:
    """Pickles as the numbers of a tensor do, and is something else."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __reduce__(self) -> tuple[Any, ...]:
        return (torch.storage._load_from_bytes, (self.content,))


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["a.npz", "a.pth"])
def test_arrays_of_numpy_are_read(tmp_path: Path, state: dict[str, Tensor], write: Any, name: str) -> None:
    with (tmp_path / name).open("wb") as file:
        write(file, **{key: tensor.numpy() for key, tensor in state.items()})
    assert_same(read(tmp_path / name, state), state)
    with (tmp_path / name).open("wb") as file:
        write(file, **{"0.weight": state["0.weight"].numpy().astype(">f4")})
    assert_same(read_weights(tmp_path / name).tensors, {"0.weight": state["0.weight"]})


def test_arrays_of_objects_are_refused_and_never_made(tmp_path: Path) -> None:
    marker = tmp_path / "was_run"
    np.savez(tmp_path / "a.npz", a=np.array([Payload(marker)], dtype=object))
    with pytest.raises(CheckpointError, match=r"a\.npz: not arrays of numbers, or damaged .*save them by np\.savez"):
        read_weights(tmp_path / "a.npz")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["a.pth.gz", "a.pth"])
def test_a_packed_file_is_to_be_unpacked(tmp_path: Path, state: dict[str, Tensor], name: str) -> None:
    content = saved(tmp_path / "whole.pth", state).read_bytes()
    for pack, kind in ((gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")):
        (tmp_path / name).write_bytes(pack(content))  # type: ignore[operator]
        with pytest.raises(CheckpointError, match=f"compressed by {kind}: unpack it, and name the file that comes out"):
            read_weights(tmp_path / name)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_zip_archive_of_a_checkpoint_is_to_be_unpacked(tmp_path: Path, state: dict[str, Tensor], method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        archive.write(saved(tmp_path / "whole.pth", state), "whole.pth")
    with pytest.raises(CheckpointError, match=r"a\.zip: a zip archive with whole\.pth: unpack it, and name the file"):
        read_weights(tmp_path / "a.zip")


def test_every_non_finite_tensor_is_named_with_its_count(tmp_path: Path, state: dict[str, Tensor]) -> None:
    state["0.bias"] = torch.tensor([1.0, 0.0, float("nan"), 0.0])
    state["1.weight"] = torch.full((4,), float("inf"))
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    with pytest.raises(CheckpointError, match=r"in 2 tensors: 0\.bias \(1 of 4\), 1\.weight \(4 of 4\)"):
        load_tensors(module, read_weights(saved(tmp_path / "a.pth", state)), name="net")


def test_tensor_that_declares_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    content = {"huge": torch.ones(1).expand(10**12), "sparse": torch.eye(2).to_sparse()}
    with pytest.raises(CheckpointError, match=r"cannot use 2 tensors: huge \(declares 1,0.*sparse \(not a"):
        read(saved(tmp_path / "a.pth", content), {"huge": torch.ones(1), "sparse": torch.eye(2)})


def test_compressed_archive_is_refused_before_it_inflates(tmp_path: Path, state: dict[str, Tensor]) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10_000_000))
    with pytest.raises(CheckpointError, match=r"declares 10,000,000 bytes"):
        read_weights(tmp_path / "a.pth")


def test_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript archive holds code"):
        read_weights(tmp_path / "a.pt")


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), (json.dumps([1]), "is a list")])
def test_damaged_record_is_refused(tmp_path: Path, state: dict[str, Tensor], text: str, message: str) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(state, path, metadata={"seenn_record": text})
    with pytest.raises(CheckpointError, match=message):
        read_weights(path)


def test_spiking_network_is_not_taken_for_weights(tmp_path: Path, state: dict[str, Tensor]) -> None:
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(state, path, metadata={"seenn": "1", "graph": "[]"})
    with pytest.raises(CheckpointError, match="a spiking network of seenn, expected the weights of an ANN"):
        read_weights(path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), zipped=st.booleans(), version=st.sampled_from(PROTOCOLS))
def test_only_checkpoint_errors_come_out_of_mutated_files(
    data: Any, zipped: bool, version: int, tmp_path: Path
) -> None:
    weights = data.draw(st.sampled_from([torch.ones(3), np.ones(3, dtype=np.float32)]))
    content = {"args": argparse.Namespace(best=np.float64(1), out=Path("x")), "state_dict": {"a": weights}}
    options = {"_use_new_zipfile_serialization": zipped, "pickle_protocol": version}
    path = saved(tmp_path / "a.pth", content, **options)
    changed = bytearray(path.read_bytes())
    places = st.integers(0, len(changed) - 1)
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=6)):
        changed[place] = value
    path.write_bytes(bytes(changed[: data.draw(st.one_of(st.none(), places))]))
    with suppress(CheckpointError):
        read(path, {"a": torch.ones(3)})
