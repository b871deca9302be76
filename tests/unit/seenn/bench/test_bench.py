from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seenn.bench import Contender, alternate, profile_sites, run_bench, slope
from seenn.engines import make_engine
from seenn.engines.fused import FusedEngine
from seenn.exits import ConfidenceExit
from seenn.network import SpikingNetwork

MakeNetwork = Callable[..., SpikingNetwork]


def test_contenders_take_turns_after_a_warm_up() -> None:
    seen: list[str] = []
    timed = alternate({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert seen == ["a", "b"] * 4
    assert all(len(timing.seconds) == 3 for timing in timed.values())
    assert timed["a"].to_json()["runs"] == 3


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power: float) -> None:
    assert slope([1, 2, 4, 8], [3 * n**power for n in (1, 2, 4, 8)]) == pytest.approx(power)


def test_every_ratio_is_measured_and_named(make_network: MakeNetwork, images: Tensor) -> None:
    network = make_network().float()
    engines = {name: make_engine(name, network, timesteps=8) for name in ("int8", "float32")}
    twin = network.analog()
    ann = [
        Contender(name="torch float32", precision="float32", run=twin),
        Contender(name="onnxruntime float32", precision="float32", run=twin),
        Contender(name="onnxruntime int8", precision="int8", run=twin),
    ]
    policy = ConfidenceExit(threshold=0.9)
    inputs = images.float().repeat(3, 1, 1, 1)
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    found = run_bench(engines, ann, policy, 4, inputs, labels, slots=4, batches=(1, 4), repeats=1, single=2)
    assert set(found.ratios) == {
        "step / torch float32 ANN forward, batch 1",
        "step / torch float32 ANN forward, batch 4",
        "early-exit efficiency",
        "images/s with exits / fastest float32 ANN",
        "images/s with exits / fastest int8 ANN",
        "p50 latency with exits / onnxruntime float32 ANN",
        "accuracy points lost against float32, with exits",
        "accuracy points lost against float32, at T",
        "log-log slope of time over timesteps",
    }
    assert 1 <= found.mean_timesteps <= 4
    assert set(found.accuracy) >= {"int8 at T", "int8 with exits", "onnxruntime int8"}
    assert set(found.to_json()["step"]["int8"]) == {"1", "4"}


def test_the_profile_accounts_for_all_of_a_step(make_network: MakeNetwork, images: Tensor) -> None:
    network = make_network().float()
    engine = make_engine("int8", network, timesteps=8)
    assert isinstance(engine, FusedEngine)
    sites = profile_sites(engine, network, images.float(), repeats=1)
    assert sum(site.share for site in sites) == pytest.approx(1)
    by_name = {site.name: site for site in sites}
    assert by_name["relu1"].spike_rate is not None
    assert by_name["relu2.v"].macs == 4 * 2 * 9 * 36
    assert by_name["relu1.v"].macs == 0  # its current is computed once an image
    assert set(by_name["relu1"].to_json()) == {"name", "milliseconds", "share", "macs", "spike_rate"}
