from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import run
from torch import Tensor

from seenn.analysis.bench.ann import Contender
from seenn.analysis.bench.figures import run_bench
from seenn.analysis.bench.layers import layer_losses
from seenn.analysis.bench.machine import this_machine
from seenn.analysis.bench.plots import growth_chart, speed_chart
from seenn.analysis.bench.profile import profile_sites
from seenn.analysis.bench.timing import Growth, Timing, alternate, grow
from seenn.analysis.report.base import plain
from seenn.core.network import SpikingNetwork
from seenn.errors import UnsupportedError
from seenn.exits import ConfidenceExit
from seenn.runtime import make_engine
from seenn.snn import SNN

MakeNetwork = Callable[..., SpikingNetwork]


def test_contenders_take_turns_and_run_once_untimed_in_each() -> None:
    seen: list[str] = []
    timed = alternate({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, 3)
    assert seen == ["a", "a", "b", "b"] * 3
    assert all(len(timing.seconds) == 3 for timing in timed.values())
    assert timed["a"].to_json()["runs"] == 3


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_slope_of_a_power_is_its_exponent(power: float) -> None:
    growth = Growth(of="n", times={n: Timing((3 * n**power,)) for n in (1, 2, 4, 8)})
    assert growth.slope == pytest.approx(power)


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
    assert list(found.to_json()["growth"]["times"]) == ["1", "2", "4", "8"]
    assert list(found.speed_and_accuracy)[:3] == ["SNN, int8", "SNN, float32", "ANN, torch float32"]
    assert found.speed_and_accuracy["SNN, int8"] == (
        found.images_per_second["int8"][4],
        found.accuracy["int8 with exits"],
    )


def test_the_profile_accounts_for_all_of_a_step(make_network: MakeNetwork, images: Tensor) -> None:
    network = make_network().float()
    engine = make_engine("int8", network, timesteps=8)
    sites = profile_sites(engine, images.float(), repeats=1)
    assert sum(site.share for site in sites) == pytest.approx(1)
    by_name = {site.name: site for site in sites}
    assert by_name["relu1"].spike_rate is not None
    assert by_name["relu2.v"].macs == 4 * 2 * 9 * 36
    assert by_name["relu1.v"].macs == 0  # its current is computed once an image
    assert set(plain(by_name["relu1"])) == {"name", "milliseconds", "share", "macs", "spike_rate"}


def test_an_engine_whose_steps_are_not_divided_has_no_profile(make_network: MakeNetwork, images: Tensor) -> None:
    engine = make_engine("reference", make_network().float(), timesteps=8)
    with pytest.raises(UnsupportedError, match="reference engine does not divide its steps into parts"):
        profile_sites(engine, images.float(), repeats=1)


def test_growth_is_timed_size_by_size() -> None:
    seen: list[int] = []
    found = grow("images", {size: (lambda size=size: seen.append(size)) for size in (1, 8)}, 2)
    assert seen == [1, 1, 8, 8] * 2
    assert list(found.times) == [1, 8]
    assert found.to_json()["of"] == "images"
    assert Growth(of="width", times={1: Timing((1.0,)), 2: Timing((4.0,))}).slope == pytest.approx(2.0)


def test_each_layer_is_charged_for_its_own_rounding(make_network: MakeNetwork, images: Tensor) -> None:
    network = make_network().float()
    inputs = images.float()
    labels = network(inputs, 4).argmax(-1)
    losses = layer_losses(SNN(network=network), inputs, labels, 4)
    assert [loss.layer for loss in losses] == ["(none)", "conv1", "conv2", "head", "(all)"]
    by_layer = {loss.layer: loss for loss in losses}
    none, conv2 = by_layer["(none)"], by_layer["conv2"]
    assert (none.bits, none.weight_error) == (None, None)
    assert conv2.bits == 8
    assert conv2.weight_error is not None
    assert conv2.weight_error > 1e-3
    assert conv2.score_error > 1.5 * none.score_error
    assert by_layer["head"].score_error == pytest.approx(none.score_error, rel=1e-6)  # stays finer than int8
    answers = run(make_engine("int8", network, timesteps=4), inputs, None, 4, slots=4).labels
    wrong = 100 * float((answers != labels).double().mean())  # the labels are the float network's own answers
    assert losses[-1].points_lost == pytest.approx(wrong)
    assert set(plain(conv2)) == {"layer", "bits", "weight_error", "score_error", "points_lost"}


def test_pictures_of_a_benchmark_are_files(tmp_path: Path) -> None:
    times = {size: Timing((0.9 * size, 1.0 * size, 1.2 * size)) for size in (1, 2, 4)}
    growth = growth_chart([Growth(of="timesteps", times=times), Growth(of="width", times=times)], "a $ b")
    speed = speed_chart({"SNN, int8": (30.0, 0.9), "ANN, torch float32": (20.0, 0.91)}, "a $ b")
    for chart in (growth, speed):
        chart.draw(tmp_path / chart.file)
        assert (tmp_path / chart.file).read_bytes().startswith(b"\x89PNG")


def test_the_machine_says_what_decides_its_speed() -> None:
    machine = this_machine()
    assert machine.threads == torch.get_num_threads()
    assert all(value > 0 for value in machine.gmacs.values())
    assert machine.cpu in str(machine)
    assert set(plain(machine)) == {"cpu", "capability", "int8", "threads", "gmacs"}
