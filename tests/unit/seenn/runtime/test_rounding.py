"""Rounding to int8 that is chosen once and travels in the network's file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from runs import run
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from converter import convert
from seenn.analysis.bench.layers import layer_losses
from seenn.batch import Batch
from seenn.checkpoint import load
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Conv2d, Flatten, IFNeuron, LIFNeuron, Linear
from seenn.data import DataSplits, load_data
from seenn.errors import CheckpointError
from seenn.runtime import make_engine
from seenn.runtime.lowering import Rounding, choose_rounding, lower
from seenn.snn import SNN

T = 3


@pytest.fixture(scope="module")
def digits() -> DataSplits:
    return load_data("digits")


def network(seed: int = 0, *, leaks: bool = False) -> SpikingNetwork:
    random = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random) / 4

    nodes = [
        Node("conv", Conv2d(weight(8, 1, 3, 3), torch.zeros(8)), (INPUT,)),
        Node("act1", LIFNeuron(torch.ones(8)) if leaks else IFNeuron(torch.ones(8), signed=True), ("conv",)),
        Node("mix", Conv2d(weight(8, 8, 3, 3), torch.zeros(8), stride=2), ("act1",)),
        Node("act2", IFNeuron(torch.ones(8)), ("mix",)),
        Node("flatten", Flatten(), ("act2",)),
        Node("head", Linear(weight(10, 32), torch.zeros(10)), ("flatten",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 8, 8)).requires_grad_(False)


def unrounded(digits: DataSplits, **options: bool) -> SNN:
    return SNN(network=network(**options), preprocessing=digits.preprocessing, manifest={"timesteps": T})


def test_the_file_runs_the_same_integers_as_the_images(digits: DataSplits, tmp_path: Path) -> None:
    plain, batch = unrounded(digits), digits.calibration.batch(limit=64)
    plain.prepare(batch).save(tmp_path / "snn.safetensors")
    found, pixels = load(tmp_path / "snn.safetensors"), digits.preprocessing
    test = digits.test.images(limit=40)
    chosen = choose_rounding(plain.network, batch, timesteps=T, preprocessing=pixels)
    assert chosen is not None
    section = found.sections["int8"]
    rounding = Rounding.from_section(section, found.network)
    assert {"mix"} <= set(rounding.clips) <= {"conv", "mix", "head"}

    def scores(given: Rounding | None) -> torch.Tensor:
        sections = {} if given is None else {"int8": given.to_section()}
        engine = make_engine("int8", plain.network, timesteps=T, preprocessing=pixels, sections=sections)
        assert ("rounded by the largest of each channel" in engine.note) is (given is None)
        return run(engine, test, None, T, slots=8).logits_sum

    assert torch.equal(scores(rounding), scores(chosen))
    assert not torch.equal(scores(rounding), scores(None))
    streamed = found.stream(test, timesteps=T, engine="int8")
    assert torch.equal(torch.stack([p.logits_sum for p in streamed]), scores(rounding))
    exact = make_engine("float32", plain.network, timesteps=T)
    wanted = run(exact, test, None, T, slots=40).logits_sum.double()
    cases: tuple[tuple[SNN, Rounding | None], ...] = ((found, rounding), (replace(found, sections={}), None))
    for given, same in cases:
        loss = layer_losses(given, test, digits.test.labels[:40], T)[-1]
        error = (scores(same).double() - wanted).norm() / wanted.norm()
        assert loss.score_error == pytest.approx(float(error))
    bits = {each.layer: each.bits for each in lower(plain.network, timesteps=T, rounding=rounding).report}
    fine = lower(plain.network, timesteps=T, rounding=rounding, float_sites=("mix",))
    assert {each.layer for each in fine.report if each.bits > bits[each.layer]} == {"mix"}


def test_a_channel_that_is_multiplied_by_nothing_has_a_rounding() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    norm.weight.data[1] = 0.0  # pruned
    norm.bias.data[1] = 0.5
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), norm, nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
    )
    images = torch.rand(48, 1, 8, 8)
    snn = convert(model.eval(), images)
    exact = snn.predict(images, engine="float32").logits_sum
    found = snn.predict(images, engine="int8").logits_sum
    assert float((found - exact).norm() / exact.norm()) < 0.02


def test_what_is_not_lowered_has_no_rounding(digits: DataSplits, tmp_path: Path) -> None:
    made = unrounded(digits, leaks=True).prepare(digits.calibration.batch(limit=64))
    assert "int8" not in made.sections
    made.save(tmp_path / "snn.safetensors")
    assert "int8" not in load(tmp_path / "snn.safetensors").sections


def test_rounding_of_another_network_is_refused(digits: DataSplits, tmp_path: Path) -> None:
    made = unrounded(digits).prepare(digits.calibration.batch(limit=64))
    other = replace(made, network=network(seed=1))
    with pytest.raises(CheckpointError, match="int8 rounding was made for another network"):
        other.save(tmp_path / "snn.safetensors")
    section = made.sections["int8"]
    rounding = Rounding.from_section(section, made.network)
    with pytest.raises(ValueError, match="rounding was made for another network"):
        lower(other.network, timesteps=T, rounding=rounding)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("fingerprint", "the int8 rounding was made for another network"),
        ("layer", "the tensor int8:clips:nowhere belongs to no layer's rounding"),
        ("kind", "the tensor int8:more:mix belongs to no layer's rounding"),
        ("range", r"weights are cut off at a part in \(0, 1\] of the largest"),
        ("type", "expected finite float64"),
        ("missing", "the metadata has no 'int8'"),
    ],
)
def test_a_damaged_rounding_is_refused(digits: DataSplits, tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "snn.safetensors"
    unrounded(digits).prepare(digits.calibration.batch(limit=64)).save(path)
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if change == "fingerprint":
        metadata["int8"] = '"0"'
    elif change == "missing":
        del metadata["int8"]
    elif change == "type":
        tensors["int8:clips:mix"] = tensors["int8:clips:mix"].float()
    elif change == "range":
        tensors["int8:clips:mix"] = tensors["int8:clips:mix"] + 1
    else:
        tensors["int8:clips:nowhere" if change == "layer" else "int8:more:mix"] = tensors.pop("int8:clips:mix")
    save_file(tensors, path, metadata)
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_rounding_of_other_channels_is_refused_when_it_is_used(digits: DataSplits) -> None:
    own = network()
    found = choose_rounding(own, Batch(digits.calibration.images(limit=8)), timesteps=T)
    assert found is not None
    short = replace(found, clips={**found.clips, "mix": found.clips["mix"][:3]})
    with pytest.raises(ValueError, match="rounding of layer mix is for 3 output channels, and it has 8"):
        lower(own, timesteps=T, rounding=short)
