from __future__ import annotations

import json
import os
import pickle
import re
import signal
import struct
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from seenn.checkpoint import load, save
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Conv2d, CumulativeDifference, IFNeuron, Linear, MaxPool2d, Mean
from seenn.data import Preprocessing
from seenn.errors import CheckpointError, FileNameError
from seenn.exits import ConfidenceExit, FixedExit
from seenn.snn import SNN

PREPROCESSING = Preprocessing(channels=2, height=6, width=6, mean=(0.1, 1 / 3), std=(0.5, 0.25))
Edit = Callable[[dict[str, Any], dict[str, Tensor]], None]


@pytest.fixture
def path(tmp_path: Path, network: SpikingNetwork) -> Path:
    manifest = {"timesteps": 4, "source": {"name": "tiny é"}, "error": 0.1 + 0.2}
    file = tmp_path / "snn.safetensors"
    save(file, SNN(network=network, preprocessing=PREPROCESSING, manifest=manifest))
    return file


def read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def rewrite(path: Path, edit: Edit) -> Path:
    """The file again, after ``edit`` has changed its graph and its tensors."""
    metadata, tensors = read(path)
    graph = json.loads(metadata["graph"])
    edit(graph, tensors)
    save_file(tensors, path, {**metadata, "graph": json.dumps(graph)})
    return path


def test_a_round_trip_is_exact(path: Path, network: SpikingNetwork, images: Tensor, tmp_path: Path) -> None:
    found = load(path)
    assert (found.timesteps, found.preprocessing, found.policy) == (4, PREPROCESSING, None)
    assert found.manifest == {"timesteps": 4, "source": {"name": "tiny é"}, "error": 0.1 + 0.2}
    assert torch.equal(found.network(images, 5), network(images, 5))
    assert [(n.name, n.op.kind, n.op.config(), n.inputs) for n in found.network.graph] == [
        (n.name, n.op.kind, n.op.config(), n.inputs) for n in network.graph
    ]
    again = tmp_path / "again.safetensors"
    save(again, found)
    (metadata, tensors), (other, others) = read(path), read(again)
    assert other == metadata
    assert all(torch.equal(others[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize("name", ["a.pth", "a.PT", "a.onnx", "a.h5", "a.bin"])
def test_a_name_of_another_kind_of_file_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        FileNameError, match=rf"what is written is a \.safetensors file, and .*{name} says {name[1:].lower()}"
    ):
        load(path).save(tmp_path / name)
    assert not (tmp_path / name).exists()
    load(path).save(tmp_path / "plain")
    assert load(tmp_path / "plain").timesteps == 4


def test_what_is_no_path_is_not_loaded() -> None:
    with pytest.raises(CheckpointError, match="a network is loaded from a file, got a dict: give its path"):
        load({})  # type: ignore[arg-type]


def test_a_file_that_has_changed_since_it_was_loaded_is_overwritten_only_on_demand(path: Path, tmp_path: Path) -> None:
    snn, other = load(path), load(path)
    snn.save(path)  # its own changes are no others'
    replace(snn, manifest={"timesteps": 3}).save(path)
    assert load(path).timesteps == 3
    with pytest.raises(CheckpointError, match=r"changed since it was read; nothing was written.* overwrite=True"):
        other.save(path)
    assert load(path).timesteps == 3
    other.save(tmp_path / "another.safetensors")
    other.save(path, overwrite=True)
    assert load(path).timesteps == 4


def test_a_link_that_leads_elsewhere_since_is_not_followed(path: Path, tmp_path: Path) -> None:
    other, link = tmp_path / "other.safetensors", tmp_path / "current.safetensors"
    snn = load(path)
    replace(snn, manifest={"timesteps": 3}, origin=None).save(other)
    link.symlink_to(path)
    snn = load(link)
    snn.save(link)
    link.unlink()
    link.symlink_to(other)
    with pytest.raises(CheckpointError, match="changed since it was read; nothing was written"):
        snn.save(link)
    assert load(other).timesteps == 3
    snn.save(link, overwrite=True)
    snn.save(link)
    assert load(other).timesteps == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tensors_keep_their_type_and_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    nodes = [
        Node("l", Linear(torch.randn(4, 3)), (INPUT,)),
        Node("n", IFNeuron(torch.rand(4) + 0.1, signed=True), ("l",)),
        Node("m", CumulativeDifference(MaxPool2d(kernel=1, stride=1)), ("n",)),
    ]
    network = SpikingNetwork(OpGraph(nodes[:2], "n"), (3,)).to(dtype)
    for policy in (FixedExit(timesteps=3), ConfidenceExit(threshold=0.1 + 0.2, temperature=3.0, accumulation="sum")):
        save(tmp_path / "f.safetensors", SNN(network=network, policy=policy))
        found = load(tmp_path / "f.safetensors")
        assert found.policy == policy
        assert (found.preprocessing, found.timesteps) == (None, 8)
        before, after = network.state_dict(), found.network.state_dict()
        assert before.keys() == after.keys()
        assert all(after[name].dtype == dtype and torch.equal(before[name], after[name]) for name in before)


def test_values_beyond_a_budget_of_bytes_are_refused_before_they_exist(tmp_path: Path) -> None:
    def written(padding: int) -> Path:
        nodes = [
            Node("conv", Conv2d(torch.ones(8, 2, 3, 3), padding=padding), (INPUT,)),
            Node("fire", IFNeuron(), ("conv",)),
            Node("pool", Mean(axes=(2, 3)), ("fire",)),
        ]
        network = SpikingNetwork(OpGraph(nodes, "pool"), (2, 6, 6))
        save(tmp_path / "f.safetensors", SNN(network=network))
        return tmp_path / "f.safetensors"

    assert load(written(500)).network.shapes["conv"] == (8, 1004, 1004)
    with pytest.raises(
        CheckpointError,
        match=r"node 'conv', \[8, 14004, 14004\], brings the values of one image to 6,275,584,800 bytes; "
        r"expected at most 4,294,967,296",
    ):
        load(written(7000))


def set_in(node: str, **changes: Any) -> Edit:
    def edit(graph: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        next(n for n in graph["nodes"] if n["name"] == node).update(changes)

    return edit


def configure(node: str, **changes: Any) -> Edit:
    def edit(graph: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        next(n for n in graph["nodes"] if n["name"] == node)["config"].update(changes)

    return edit


def _pool_anything(graph: dict[str, Any]) -> None:
    graph.update(input_shape=[2, 1 << 19, 1 << 19])
    set_in("pool", op="adaptive_avg_pool2d", config={"size": [3, 3]})(graph, {})


DAMAGE: dict[str, tuple[Edit, str]] = {
    "unknown op": (set_in("conv1", op="os.system"), "node 'conv1': unknown op 'os.system'. Check its spelling"),
    "another op": (set_in("conv1", op="linear"), "node 'conv1': op 'linear' has no attribute"),
    "unknown attribute": (configure("pool", code="import os"), "node 'pool': op 'avg_pool2d' has no attribute 'code'"),
    "missing attribute": (set_in("pool", config={}), "op 'avg_pool2d' lacks the attribute 'ceil_mode'"),
    "huge padding": (configure("conv1", padding=[1 << 20, 1 << 20]), "together: 'a linear layer of 36 features"),
    "huger padding": (configure("conv1", padding=[1 << 40, 1]), "padding must be an integer from 0 to 1048576"),
    "huge kernel": (configure("pool", kernel=[1 << 20, 1 << 20]), "the graph's shapes do not fit together"),
    "wrong groups": (configure("conv2", groups=4), "the graph's shapes do not fit together"),
    "forward reference": (set_in("conv1", inputs=["head"]), "node 'conv1' reads ['head'], which no earlier node"),
    "own output": (set_in("conv1", inputs=["conv1"]), "node 'conv1' reads ['conv1']"),
    "too many inputs": (set_in("pool", inputs=["relu2", "relu2"]), "node 'pool' (avg_pool2d) takes one input, got 2"),
    "nested function": (
        set_in("flatten", op="cumulative_difference", config={"function": {"op": "cumulative_difference"}}),
        "function must be a stateless op",
    ),
    "inputs that are no names": (set_in("pool", inputs=[1]), "node 'pool' must list the names of its inputs"),
    "name": (set_in("pool", name=""), "a node's name must be a string of 1 to 512 characters, got ''"),
    "no config": (set_in("pool", config=None), "node 'pool' must name an op and give its attributes"),
    "two of a name": (set_in("pool", name="relu2"), "tensors"),
    "no output": (lambda g, t: g.update(output="tail"), "the output 'tail' is not a node"),
    "not a score per class": (lambda g, t: g.update(output="relu2"), "the output must be one score per class, got"),
    "nodes": (lambda g, t: g.update(nodes={}), "the graph must be an object with a list of nodes"),
    "a node": (lambda g, t: g["nodes"].append("conv"), "a node must be an object, got str"),
    "no nodes": (lambda g, t: (g.update(nodes=[]), t.clear()), "the output 'head' is not a node"),
    "too many nodes": (lambda g, t: g.update(nodes=[0] * 100_001), "the graph has 100001 nodes; expected at most"),
    "input shape": (lambda g, t: g.update(input_shape=[2, 6, 1 << 30]), "input_shape must be 1 to 4 positive integers"),
    "large input": (lambda g, t: _pool_anything(g), "node 'input', [2, 524288, 524288], brings the values"),

    "huge number": (lambda g, t: g.update(input_shape=[10**400]), "is not a number that a network can hold"),
    "infinite number": (configure("relu1", ceiling=10**400), "is not a number that a network can hold"),
    "missing tensor": (lambda g, t: t.pop("head.weight"), "node 'head': op 'linear' cannot be built"),
    "extra tensor": (lambda g, t: t.update({"head.code": t["head.bias"].clone()}), "tensors belong to no node \\(head"),
    "NaN": (lambda g, t: t["head.weight"].fill_(torch.nan), "1 tensors hold NaN or infinite values: head.weight"),
    "threshold": (lambda g, t: t["relu1.v_threshold"].fill_(0), "node 'relu1': .*v_threshold must be positive"),
    "dimensions": (lambda g, t: t.update({"head.weight": torch.ones(5).double()}), "weight must have 2 dimensions"),
    "channels": (lambda g, t: t.update({"relu1.v_threshold": torch.ones(3).double()}), "shapes do not fit together"),
    "precision": (
        lambda g, t: t.update({"head.weight": torch.ones(5, 36)}),
        "the tensors are of several types, torch.float32 and torch.float64: cast the network to one",
    ),
    "integers": (
        lambda g, t: t.update({"head.bias": torch.ones(5).long()}),
        "1 tensors are not floating-point weights \\(head.bias \\(torch.int64\\)",
    ),
    "eight bits": (
        lambda g, t: t.update({"head.bias": torch.ones(5).to(torch.float8_e4m3fn)}),
        "not floating-point weights",
    ),
    "batch axis": (
        set_in("flatten", op="pad", config={"amounts": [0, 0, 0, 0, 0, 0, 1, 0]}),
        "node 'flatten' \\(pad\\) does not keep the images of a batch apart",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_or_hostile_network_is_refused(path: Path, case: str) -> None:
    edit, message = DAMAGE[case]
    pattern = message if re.search(r"\\|\||\.\*", message) else re.escape(message)
    with pytest.raises(CheckpointError, match=pattern) as caught:
        load(rewrite(path, edit))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seenn": "2"}, "has format '2'; this version of seenn reads '1'"),
        ({"seenn": None}, "holds weights but no seenn network: make one with `seenn convert --model NAME --ckpt"),
        ({"graph": None}, "the metadata has no 'graph'"),
        ({"graph": "{"}, "the metadata's 'graph' is not JSON"),
        ({"graph": "[" * 100_000}, "the metadata's 'graph' is not JSON"),
        ({"graph": "[]"}, "the graph must be an object"),
        ({"manifest": "NaN"}, "the metadata's 'manifest' is not JSON: NaN is not a number"),
        ({"manifest": '{"x": 1e999}'}, "1e999 is not a number that a network can hold"),
        ({"manifest": "[]"}, "the manifest must be an object, got list"),
        ({"policy": '{"policy": "eval"}'}, "unknown exit policy 'eval'"),
        ({"policy": '{"policy": "confidence", "temperature": 1' + "0" * 400 + "}"}, "not a number that a network can"),
        ({"preprocessing": "{}"}, "preprocessing: got"),
    ],
)
def test_damaged_metadata_is_refused(path: Path, changes: dict[str, str | None], message: str) -> None:
    metadata, tensors = read(path)
    save_file(tensors, path, {k: v for k, v in {**metadata, **changes}.items() if v is not None})
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load(path)


def header(path: Path) -> tuple[dict[str, Any], bytes]:
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    return json.loads(raw[8 : 8 + length]), raw[8 + length :]


def with_header(text: str, data: bytes) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def test_files_that_are_something_else_are_refused(path: Path, tmp_path: Path) -> None:
    declared, data = header(path)
    declared["conv1.weight"]["shape"] = [1 << 40, 1 << 20]
    twice = json.dumps(declared)[:-1] + ', "conv1.weight": ' + json.dumps(declared["head.bias"]) + "}"
    contents = {
        "pickle": pickle.dumps({"a": os.getpid}),
        "empty": b"",
        "absurd header": struct.pack("<Q", 1 << 62) + b"{}",
        "absurd shape": with_header(json.dumps(declared), data),
        "duplicate tensor": with_header(twice, data),
        "text": b"hello, world",
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"is not a readable safetensors file \(.*it may be truncated"):
            load(file)
    with pytest.raises(CheckpointError, match=r"there is no spiking network .* here: make it with `seenn convert"):
        load(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match=r"is a folder without network\.nir: give a file of seenn's, a folder"):
        load(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_does_worse_than_a_checkpoint_error(path: Path, data: st.DataObject) -> None:
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    if data.draw(st.booleans()):
        damaged = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        flips = data.draw(
            st.lists(st.tuples(st.integers(0, 8 + length - 1), st.integers(1, 255)), min_size=1, max_size=4)
        )
        changed = bytearray(content)
        for place, bits in flips:
            changed[place] ^= bits
        damaged = bytes(changed)
    file = path.with_name("damaged.safetensors")
    file.write_bytes(damaged)
    try:
        network = load(file).network
    except CheckpointError:
        return
    assert network.sites  # a flip inside a name or a note may well leave a network


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["conv2d", "input"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_json_in_the_graph_does_worse_than_a_checkpoint_error(path: Path, data: st.DataObject) -> None:
    metadata, tensors = read(path)
    graph = json.loads(metadata["graph"])
    place: Any = graph
    while True:  # walk to a random place, and put something else there
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    place[key] = data.draw(json_values)
    file = path.with_name("damaged.safetensors")
    save_file(tensors, file, {**metadata, "graph": json.dumps(graph)})
    try:
        load(file)
    except CheckpointError:
        return  # anything else fails the test


def test_an_interrupt_while_saving_leaves_the_older_file_and_nothing_else(
    path: Path, network: SpikingNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def half(tensors: object, target: Path, metadata: object) -> None:
        target.write_bytes(before[:100])
        signal.default_int_handler(signal.SIGINT, None)  # what Ctrl-C runs, also where a shell has it ignored

    monkeypatch.setattr("safetensors.torch.save_file", half)
    with pytest.raises(KeyboardInterrupt):
        save(path, SNN(network=network))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_older_file_and_nothing_else(path: Path) -> None:
    before = path.read_bytes()
    program = f"""
        import resource, seenn
        snn = seenn.load({str(path)!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            snn.save({str(path)!r})
        except seenn.CheckpointError as error:
            print(error)
    """
    done = forked.run("-c", textwrap.dedent(program))
    assert done.returncode == 0, done.stderr
    assert f"cannot write {path}: " in done.stdout
    assert "What was there before is intact. Check that the folder exists, is writable and has space" in done.stdout
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_missing_or_protected_folder_is_named(path: Path, network: SpikingNetwork) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*nowhere.*Check that the folder exists, is writable"):
        save(path.parent / "nowhere" / "snn.safetensors", SNN(network=network))
    with pytest.raises(CheckpointError, match=r"cannot write /proc/snn.safetensors"):
        save("/proc/snn.safetensors", SNN(network=network))  # nobody may write there, not even root


def test_a_network_that_could_not_be_loaded_is_not_saved(path: Path, network: SpikingNetwork) -> None:
    network.graph["head"].op.tensors()["weight"].data[0, 0] = torch.nan
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN or infinite values: head.weight"):
        save(path, SNN(network=network))
    assert load(path).timesteps == 4


def test_a_manifest_must_be_json(path: Path, network: SpikingNetwork) -> None:
    for value in (float("nan"), torch.ones(1)):
        with pytest.raises(ValueError, match="the manifest of a network must be JSON"):
            save(path, SNN(network=network, manifest={"x": value}))
    assert load(path).timesteps == 4


def test_an_onnx_file_is_named_as_what_it_is(tmp_path: Path) -> None:
    file = tmp_path / "ann.ONNX"
    file.write_bytes(b"ir")
    with pytest.raises(
        CheckpointError, match=r"is a model, not a spiking network: .*`seenn convert --model .*ann\.ONNX`, in"
    ):
        load(file)


def test_pytorch_weights_are_named_as_what_they_are(tmp_path: Path) -> None:
    weights = tmp_path / "ann.pth"
    torch.save({"weight": torch.ones(2)}, weights)
    with pytest.raises(CheckpointError, match="holds PyTorch weights, not a spiking network"):
        load(weights)
