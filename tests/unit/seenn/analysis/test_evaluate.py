from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from runs import run as session_run
from small_snn import deep_network

from seenn import SNN
from seenn.analysis.report.summary import verdict
from seenn.analysis.synops import SpikeMeter, dense_cost
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data import DataSplits, Preprocessing, load_data
from seenn.data.provenance import load_recorded_data
from seenn.errors import DataError
from seenn.exits import ConfidenceExit, FixedExit, PatienceExit
from seenn.metrics.energy import snn_energy_pj

PREPROCESSING = Preprocessing(channels=2, height=6, width=6, mean=(0.5, 0.5), std=(0.3, 0.3))


def write(path: Path, seed: int = 0) -> str:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (120, 1, 6, 6), dtype=np.uint8)
    np.savez(path, images=images, labels=np.arange(120) % 5)
    return f"npz:{path}"


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return write(tmp_path / "data.npz")


@pytest.fixture
def splits(spec: str) -> DataSplits:
    return load_data(spec, preprocessing=replace(PREPROCESSING, channels=1, mean=(0.5,), std=(0.3,)))


@pytest.fixture
def snn(network: SpikingNetwork, splits: DataSplits) -> SNN:
    """Takes one channel: the two of the little network see the same."""
    from seenn.core.graph import Node, OpGraph
    from seenn.core.ops import Concat

    wired = [Node(n.name, n.op, ("both",) if n.name == "conv1" else n.inputs) for n in network.graph]
    graph = OpGraph([Node("both", Concat(axis=1), ("input", "input")), *wired], "head")
    manifest = {"timesteps": 5, "source": {"name": "tiny"}, "data": splits.manifest()}
    policy = ConfidenceExit(threshold=0.6, accumulation="sum")
    return SNN(network=SpikingNetwork(graph, (1, 6, 6)).float(), manifest=manifest, policy=policy)


Evaluate = Callable[..., Any]


def run(snn: SNN, splits: DataSplits, **options: Any) -> Any:
    return snn.evaluate(options.pop("split", splits.test), name="snn", **{"engine": "reference", **options})


def test_the_figures_are_those_of_prediction(snn: SNN, splits: DataSplits) -> None:
    progress: list[tuple[int, int]] = []
    found = run(snn, splits, progress=lambda done, total: progress.append((done, total)), batch_size=7)
    images, labels = splits.test.images(), splits.test.labels
    network, n = snn.network, len(labels)
    meter = SpikeMeter(network, 5, n)
    early = snn.session("reference").run(Batch(images), observers=[meter])
    full = session_run(network, images, None, 5).logits_sum_per_step
    assert (found.samples, found.timesteps, found.split, found.source) == (n, 5, "test", "tiny")
    assert found.accuracy == (early.labels == labels).sum().item() / n
    assert found.exit.mean == pytest.approx(early.exit_timestep.double().mean().item())
    assert 1 < found.exit.mean < 5
    right = (full.argmax(-1) == labels).double().mean(1)
    assert found.accuracy_per_timestep == pytest.approx(right.tolist())
    ann = (network.analog()(images).argmax(-1) == labels).double().mean().item()
    assert found.ann_accuracy == pytest.approx(ann)
    assert found.synops == pytest.approx(float(meter.synops.sum()) / n)
    assert found.synops < found.synops_full
    assert found.energy_pj == pytest.approx(
        snn_energy_pj(dense_cost(network), float(meter.synops.sum()) / n, found.exit.mean)
    )
    assert found.spike_rate_per_site == pytest.approx(dict(meter.rates))
    assert found.curve is not None
    assert progress[-1] == (3 * n, 3 * n)
    assert found.policy == {"policy": "confidence", "threshold": 0.6, "temperature": 1.0, "accumulation": "sum"}


def test_exits_in_depth_are_counted_by_place_and_the_oracle_is_the_comparisons(splits: DataSplits) -> None:
    prepared = splits.with_preprocessing(replace(PREPROCESSING, channels=1, height=8, width=8, mean=(0,), std=(1,)))
    deep = SNN(network=deep_network(), manifest={"timesteps": 3}, policy=ConfidenceExit(threshold=0.5))
    three = [split._with(labels=split.labels % 3) for split in (prepared.exit, prepared.test)]
    prepared = replace(prepared, class_names=("a", "b", "c"), exit=three[0], test=three[1])
    found = run(deep, prepared)
    assert list(found.depth.by_place) == ["a", "b", "the end of a step"]
    assert sum(found.depth.by_place.values()) == found.samples
    said = ", ".join(f"{place} {count}" for place, count in found.depth.by_place.items())
    assert f"Images leave at {said}." in verdict(found)
    compared = deep.compare_exits(prepared, {"confidence": ConfidenceExit()}, engine="reference")
    assert compared.oracle_aet == found.oracle_aet <= found.aet


def test_arguments_come_before_the_checkpoint(snn: SNN, splits: DataSplits) -> None:
    found = run(snn, splits, policy=FixedExit(timesteps=2), timesteps=3, limit=9)
    assert (found.samples, found.timesteps, found.exit.mean, found.curve) == (9, 3, 2.0, None)
    without = run(replace(snn, policy=None), splits, limit=9)
    assert (without.exit.mean, without.policy) == (5.0, {"policy": "fixed", "timesteps": None, "segment": None})
    assert run(snn, splits, limit=10_000).samples == len(splits.test)


def test_every_rule_with_a_score_has_a_curve(snn: SNN, splits: DataSplits) -> None:
    found = run(snn, splits, policy=PatienceExit(patience=2))
    assert found.curve is not None
    at_two = found.curve.threshold == 1  # a run longer than 1 is one of at least 2
    assert found.curve.mean_timesteps[at_two].item() == pytest.approx(found.exit.mean)
    assert found.curve.accuracy[at_two].item() == pytest.approx(found.accuracy)


def test_the_networks_mode_is_left_as_it_was(snn: SNN, splits: DataSplits) -> None:
    snn.network.train()
    run(snn, splits, limit=4)
    assert snn.network.training


@pytest.mark.parametrize("name", ["calibration", "exit"])
def test_data_that_calibrated_the_network_is_refused(snn: SNN, splits: DataSplits, name: str) -> None:
    split = getattr(splits, name)
    with pytest.raises(DataError, match=f"the {name} split has another use: take the test split here"):
        run(snn, splits, split=split)
    split.name = "test"  # the same images under another name
    message = f"the test split of {len(split)} images shares .*{len(split)} with the "
    with pytest.raises(DataError, match=message):
        run(snn, splits, split=split)


def test_labels_beyond_the_classes_and_empty_limits_are_refused(snn: SNN, splits: DataSplits) -> None:
    label = int(splits.test.labels[0])
    splits.test.labels[0] = 5
    with pytest.raises(DataError, match="the same images with other labels in test"):
        run(snn, splits)
    with pytest.raises(DataError, match="has 6 classes, and the network knows 5: name data of its own classes"):
        run(replace(snn, manifest={"timesteps": 5}), splits)
    splits.test.labels[0] = label
    for limit in (0, -3):
        with pytest.raises(ValueError, match=f"limit must be at least 1, got {limit}"):
            run(snn, splits, limit=limit)


def test_a_manifest_of_other_forms_does_no_harm(snn: SNN, splits: DataSplits) -> None:
    strange = {"source": [], "data": {"fingerprints": "none"}, "timesteps": "many"}
    found = run(replace(snn, manifest=strange), splits, limit=3)
    assert (found.source, found.timesteps) == ("a spiking network", 8)
    assert replace(snn, manifest={"timesteps": 10**6}).timesteps == 8


def test_recorded_data_is_found_again_and_compared(spec: str, splits: DataSplits, tmp_path: Path) -> None:
    manifest = {"data": splits.manifest()}
    again = load_recorded_data(manifest, splits.preprocessing)
    assert again.test.fingerprint == splits.test.fingerprint
    assert again.preprocessing == splits.preprocessing
    other = write(tmp_path / "other.npz", seed=1)
    assert load_recorded_data(manifest, None, spec=other).spec == other
    assert load_recorded_data(manifest, None, split_seed=3).split_seed == 3
    write(tmp_path / "data.npz", seed=2)
    with pytest.raises(
        DataError, match=r"npz:.* is not the data that was recorded, its files have changed: other images in"
    ):
        load_recorded_data(manifest, None)


def test_without_a_record_the_digits_are_taken() -> None:
    assert load_recorded_data({}, None).spec == "digits"
    assert torch.is_tensor(load_recorded_data({"data": None}, None).test.labels)


def test_an_engine_finds_the_same_figures(snn: SNN, splits: DataSplits) -> None:
    expected = run(snn, splits)
    found = run(snn, splits, engine="float32", batch_size=7)
    assert found.accuracy == expected.accuracy
    assert found.exit == expected.exit
    assert found.synops == pytest.approx(expected.synops)
    assert found.spike_rate_per_site == pytest.approx(expected.spike_rate_per_site)


def test_says_whether_the_images_are_like_those_of_the_calibration(snn: SNN, splits: DataSplits) -> None:
    assert run(snn, splits).drift is None
    known = snn.calibrate_exit(splits.exit, threshold=0.6, engine="reference")
    found = run(known, splits)
    assert found.to_json()["drift"] == {
        "alarm": False,
        "p_value": found.drift["p_value"],
        "false_alarm_rate": 0.01,
        "images": found.samples,
    }
    like, unlike = (
        "They are not shown to be unlike those that exits were calibrated on (p = ",
        "They are unlike those that",
    )
    assert any(sentence.startswith(like) for sentence in verdict(found))
    alarmed = replace(found, drift={**found.drift, "alarm": True, "p_value": 1e-9})
    assert f"{unlike} exits were calibrated on (p = 1e-09): no guarantee of the exits holds here." in verdict(alarmed)
    assert run(known, splits, alarm=0).drift is None
