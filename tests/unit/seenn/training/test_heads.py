from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_snn import deep_network

import seenn
from seenn import SNN
from seenn.data import DataSplits, load_data
from seenn.data.encoding import PoissonEncoding
from seenn.errors import CalibrationError, DataError, TrainingError, UnsupportedError
from seenn.exits import ConfidenceExit
from seenn.runtime import Observer, ScoreTrace, Session, make_engine
from seenn.training import FinetuneConfig, TrainConfig
from seenn.training.direct import DirectConfig, OverTime, at_exits
from seenn.training.heads import HeadsConfig, add_heads
from seenn.training.optim import OptimConfig


@pytest.fixture(scope="module")
def data() -> DataSplits:
    return load_data("digits")


@pytest.fixture(scope="module")
def snn(data: DataSplits) -> SNN:
    """Random neurons, and an output that ten classes are read from."""
    from seenn.core.graph import OpGraph
    from seenn.core.network import SpikingNetwork
    from seenn.core.ops import Linear

    graph = deep_network(heads=0).graph
    random = torch.Generator().manual_seed(3)
    graph = graph.replace({"head": Linear(torch.randn(10, 8, generator=random))})
    network = SpikingNetwork(OpGraph(graph, "head"), (1, 8, 8)).requires_grad_(False).eval()
    return SNN(network=network, preprocessing=data.preprocessing, manifest={"timesteps": 3, "data": data.manifest()})


CONFIG = HeadsConfig(at=("a", "b"), limit=600)


@pytest.fixture(scope="module")
def made(snn: SNN, data: DataSplits) -> SNN:
    return snn.add_heads(data, CONFIG, engine="reference")


def test_heads_learn_in_one_pass_and_the_network_stays(made: SNN, snn: SNN, data: DataSplits) -> None:
    assert made.network.graph.heads == ("exit1.linear", "exit2.linear")
    assert made.network.without_heads().graph.fingerprint() == snn.network.graph.fingerprint()
    found = made.evaluate(data.test, engine="reference")
    assert found.depth is not None
    assert found.depth.accuracy[0] > 0.7  # a linear classifier of the digits; chance is 0.1
    assert found.depth.accuracy[1] > 0.5
    assert found.depth.heads == made.network.graph.heads
    assert found.mean_cost == 3.0


def test_its_record_says_where_and_on_what(made: SNN, data: DataSplits) -> None:
    record = made.manifest["heads"]
    assert [head["at"] for head in record["heads"]] == ["a", "b"]
    assert record["samples"] == 600
    assert record["data"]["fingerprints"]["train"] == data.train.content_hash()
    assert all(0.5 < head["accuracy"] <= 1 for head in record["heads"])


def test_the_file_holds_them(made: SNN, data: DataSplits, tmp_path: Path) -> None:
    policy = ConfidenceExit(threshold=0.8)
    with_policy = made.calibrate_exit(data.exit, policy, max_accuracy_drop=0.02, engine="reference")
    with_policy.save(tmp_path / "snn.safetensors")
    loaded = seenn.load(tmp_path / "snn.safetensors")
    images = next(iter(data.test.batches(50))).inputs
    here, there = with_policy.predict(images, engine="reference"), loaded.predict(images, engine="reference")
    assert torch.equal(here.logits_sum, there.logits_sum)
    assert torch.equal(here.exit_segment, there.exit_segment)
    assert float(here.cost.min()) < 1


def test_a_policy_for_other_heads_is_refused(made: SNN, snn: SNN, data: DataSplits) -> None:
    before = snn.calibrate_exit(data.exit, ConfidenceExit(threshold=0.8), engine="reference")
    mixed = replace(before, network=made.network)
    with pytest.raises(CalibrationError, match=r"made for a network with no heads, and this one has exit1\.linear"):
        mixed.predict(torch.zeros(1, 1, 8, 8))


class _Counter(Observer):
    def __init__(self) -> None:
        self.steps = 0

    def scores(self, progress: Any, samples: Any, logits_sum: Any) -> None:
        self.steps += len(samples)


def test_training_runs_each_image_once_for_two_steps(
    snn: SNN, data: DataSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter, run = _Counter(), Session.run

    def counted(self: Session, batches: Any, *, observers: Any = (), **options: Any) -> Any:
        return run(self, batches, observers=[*observers, counter], **options)

    monkeypatch.setattr(Session, "run", counted)
    engine = make_engine("reference", snn.network, timesteps=3)
    add_heads(snn.network, data.train, replace(CONFIG, limit=200), engine=engine, timesteps=3)
    assert counter.steps == 2 * 200


def test_what_cannot_have_heads_is_refused_in_a_line(made: SNN, snn: SNN, data: DataSplits) -> None:
    with pytest.raises(UnsupportedError, match=r"has heads already, at exit1\.linear, exit2\.linear: .*--replace"):
        made.add_heads(data, CONFIG, engine="reference")
    for engine in ("reference", "int8"):  # whose rounding was chosen with the heads
        again = made.add_heads(data, replace(CONFIG, at=("b",)), engine=engine, replace_heads=True)
        assert again.network.graph.heads == ("exit1.linear",)
    with pytest.raises(DataError, match="the exit split has another use: take the train split here"):
        snn.add_heads(replace(data, train=data.exit), CONFIG, engine="reference")
    frames = data.with_encoding(PoissonEncoding(timesteps=3)).train
    with pytest.raises(UnsupportedError, match="heads are for constant images, and these samples are frames"):
        add_heads(snn.network, frames, CONFIG, engine=make_engine("reference", snn.network, timesteps=3), timesteps=3)
    with pytest.raises(UnsupportedError, match="its heads were made for constant images, got a sequence"):
        made.predict(torch.rand(3, 2, 1, 8, 8), engine="reference")


def test_finetuning_trains_heads_with_the_network(made: SNN, snn: SNN, data: DataSplits) -> None:
    train = TrainConfig(epochs=0.05, optim=OptimConfig(lr=0.01), validation_images=64)
    config = FinetuneConfig(timesteps=2, heads=True, train=train)
    tuned = made.finetune(data, config)
    assert tuned.network.graph.heads == made.network.graph.heads
    for name in ("exit1.linear", "exit2.linear", "head", "b.conv1"):
        assert not torch.equal(tuned.network.graph[name].op.weight, made.network.graph[name].op.weight)
    with pytest.raises(TrainingError, match="heads are to be trained, and the network has none: add them first"):
        snn.finetune(data, config)
    with pytest.raises(TrainingError, match=r"heads are not to be trained, and the network has some, .* give --heads"):
        made.finetune(data, replace(config, heads=False))


def test_what_training_sums_up_is_what_a_session_answers(made: SNN, data: DataSplits) -> None:
    batch = next(iter(data.test.batches(20)))
    trained = at_exits(OverTime(made.network, DirectConfig(timesteps=2), heads=True).eval(), batch)  # [D, T, B, K]
    trace = ScoreTrace(6, 20)
    Session(make_engine("reference", made.network, timesteps=2), None, 2).run(batch, observers=[trace])
    torch.testing.assert_close(trained.transpose(0, 1).flatten(0, 1), trace.logits_sum, rtol=1e-4, atol=1e-4)
