"""Policies side by side: figures by hand, the oracle as the bound, and who is beaten by nobody."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.analysis.compare import compare_policies, measure_latency
from seenn.analysis.report.comparison import comparison_rows, write_comparison
from seenn.analysis.synops import SpikeMeter, dense_cost
from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.data.preprocessing import Preprocessing
from seenn.data.source import ArrayImages, Labelled
from seenn.data.split import Split
from seenn.exits import CachedRun, ConfidenceExit, FixedExit, PatienceExit, replay
from seenn.metrics.energy import snn_energy_pj
from seenn.runtime import Session
from seenn.runtime.engines.reference import ReferenceEngine

ORIGIN = {"network": "snn", "data": "noise", "split": "test", "latency": "not measured", "command": "seenn"}


@pytest.fixture
def run(network: SpikingNetwork, images: Tensor) -> CachedRun:
    labels = torch.arange(12) % 5
    return collect_run(network, [Batch(images[:7], labels[:7]), Batch(images[7:], labels[7:])], 4)


def test_energies_are_those_of_the_steps_that_would_be_run(
    network: SpikingNetwork, images: Tensor, run: CachedRun
) -> None:
    for t in (1, 3, 4):
        meter = SpikeMeter(network, t, 12)
        Session(ReferenceEngine(network), None, t).run(Batch(images), observers=[meter])
        expected = snn_energy_pj(dense_cost(network), float(meter.synops.sum()) / 12, t)
        assert run.energy_pj[t - 1].mean().item() == pytest.approx(expected)
    one = run[torch.tensor([3])]
    assert (one.logits_sum.shape, one.energy_pj.shape, len(one.labels)) == ((4, 1, 5), (4, 1), 1)


def test_figures_are_those_of_the_exits(run: CachedRun, tmp_path: Path) -> None:
    rules = {"confidence": ConfidenceExit(threshold=0.6), "patience": PatienceExit(patience=2), "full": FixedExit()}
    found = compare_policies(run, rules, left_out={"other": "too few"}, class_names=tuple("abcde"), **ORIGIN)
    correct = run.logits_sum.argmax(-1) == run.labels
    oracle = sum(next((t + 1 for t in range(4) if correct[t, n]), 4) for n in range(12)) / 12
    assert found.oracle_aet == pytest.approx(oracle)
    for f in found.policies:
        exits = replay(rules[f.name], run.logits_sum)
        right = correct[exits - 1, torch.arange(12)].double()
        assert f.timesteps.mean == pytest.approx(exits.double().mean().item())
        assert f.accuracy.mean == pytest.approx(right.mean().item())
        assert f.accuracy.low <= f.accuracy.mean <= f.accuracy.high
        assert f.oracle_share == pytest.approx((4 - f.timesteps.mean) / (4 - oracle))
        assert f.below_full == pytest.approx(correct[-1].double().mean().item() - f.accuracy.mean)
        assert f.exits_per_class["a"] == pytest.approx(exits[run.labels == 0].double().mean().item())
        assert set(f.exits_per_class) == set("abcde")
    beaten = {f.name for f in found.policies if "timesteps" not in f.pareto}
    for f in found.policies:
        better = any(
            g.timesteps.mean <= f.timesteps.mean
            and g.accuracy.mean >= f.accuracy.mean
            and g is not f
            and (g.timesteps.mean, g.accuracy.mean) != (f.timesteps.mean, f.accuracy.mean)
            for g in found.policies
        )
        assert better == (f.name in beaten)
    pixels = {s.index: torch.zeros(1, 6, 6, dtype=torch.uint8) for s in (*found.easiest, *found.hardest)}
    path = write_comparison(found, pixels.__getitem__, tmp_path / "report")
    assert path == tmp_path / "report" / "report.html"
    text = (path.parent / "exits.md").read_text(encoding="utf-8")
    assert all(row[0] in text for row in comparison_rows(found))
    assert "Left out: other: too few" in text
    written = json.loads((path.parent / "exits.json").read_text(encoding="utf-8"))
    assert [f["name"] for f in written["policies"]] == list(rules)
    assert len(written["ece_per_timestep"]) == 4
    assert (path.parent / "exits-compared.png").stat().st_size > 10_000
    assert (path.parent / "exit-images.png").exists()


def test_time_is_that_of_real_runs(network: SpikingNetwork) -> None:
    pixels = torch.randint(0, 256, (6, 2, 6, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    source = Labelled(ArrayImages(pixels), torch.arange(6) % 5)
    preparation = Preprocessing(channels=2, height=6, width=6, mean=(0.5, 0.5), std=(0.3, 0.3))
    split = Split("test", source, torch.arange(6), preparation)
    mean_ms, p95_ms = measure_latency(Session(ReferenceEngine(network.float()), None, 2, 2), split, 5)
    assert mean_ms > 0
    assert p95_ms > 0
