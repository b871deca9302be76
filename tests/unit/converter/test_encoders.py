"""Gates, smooth activations, normalisation and attention, end to end: spikes feed every multiplication."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.random_weights import convergence
from converter import ConvertConfig, Max, check, convert_module
from converter.inspect import inspect_model
from converter.qcfs import with_qcfs
from seenn import load
from seenn.analysis.synops import SpikeMeter, dense_cost, spiking_report
from seenn.batch import Batch
from seenn.core.graph import Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Encoder, IFNeuron, PrepassIFNeuron
from seenn.errors import UnsupportedError
from seenn.exits import ConfidenceExit
from seenn.metrics.energy import ann_energy_pj, snn_energy_pj
from seenn.snn import SNN
from tests.operands import check_operands
from tests.runs import run

Enliven = Callable[[nn.Module], nn.Module]


class SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate


def gated() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), SqueezeExcite(8), nn.Conv2d(8, 8, 3), nn.SiLU(),
        nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.down(F.relu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    """Class token, position embedding, attention; its MLPs have ReLUs, which spike."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 5, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        return self.head(self.blocks(x)[:, 0])


class Windows(nn.Module):
    """Shifted windows folded into the batch, a table of biases, and a gated linear unit."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.qkv, self.gate = nn.Conv2d(3, width, 1), nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.table = nn.Parameter(torch.randn(49, 2))
        self.register_buffer("index", torch.arange(256) % 49)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x)).permute(0, 2, 3, 1).roll((-1, -1), (1, 2))
        b, h, w, c = x.shape
        windows = x.view(b, 2, 4, 2, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(windows).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index].view(16, 16, 2).permute(2, 0, 1)
        y = ((q * 0.5) @ k.transpose(-2, -1) + bias.unsqueeze(0)).softmax(-1) @ v
        y = y.transpose(1, 2).reshape(-1, 16, c)
        y = y * torch.tanh(self.gate(windows))
        y = y.view(b, 2, 2, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c).roll((1, 1), (1, 2))
        return self.head(F.relu(y).mean((1, 2)))


SMOOTH: dict[str, Callable[[], nn.Module]] = {"gated": gated, "transformer": Transformer, "windows": Windows}


@pytest.fixture(params=SMOOTH)
def model(request: pytest.FixtureRequest, enliven: Enliven) -> nn.Module:
    torch.manual_seed(2)
    return enliven(SMOOTH[request.param]())


@torch.no_grad()
def test_the_error_shrinks_as_one_over_t(model: nn.Module, images: Tensor) -> None:
    config = ConvertConfig(correction="none", recipe=Max())  # which clips none of these images
    network, expected = convert_module(model, images, config).network, model(images[:8])
    errors = [float((network(images[:8], t) - expected).norm() / expected.norm()) for t in (8, 32, 128)]
    assert errors[0] < 0.2
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[0] / 6


def test_the_corrections_run_spikes_through_encoders_and_products(images: Tensor, enliven: Enliven) -> None:
    found = convert_module(enliven(gated()), images, ConvertConfig())
    report = check(found.network, [Batch(images)], 8)
    assert report.diverged is None
    assert set(report.relative_error) == set(found.network.sites)
    assert max(report.relative_error.values()) < 0.3


def test_a_network_survives_its_checkpoint_bit_for_bit(model: nn.Module, images: Tensor, tmp_path: Path) -> None:
    network = convert_module(model, images, ConvertConfig(correction="none")).network
    SNN(network=network).save(tmp_path / "snn.safetensors")
    copy = load(tmp_path / "snn.safetensors").network
    assert torch.equal(network(images[:4], 3), copy(images[:4], 3))
    torch.testing.assert_close(copy.analog()(images[:4]), model(images[:4]), rtol=1e-4, atol=1e-5)


def test_samples_that_leave_early_do_not_change_the_others(model: nn.Module, images: Tensor) -> None:
    network = convert_module(model, images, ConvertConfig(correction="none")).network
    never = ConfidenceExit(threshold=1.0, temperature=10)
    median = float(run(network, images, never, 3).confidence.median())
    policy = ConfidenceExit(threshold=median, temperature=10)
    some = run(network, images, policy, 8)
    assert len(some.exit_timestep.unique()) > 1
    for i in (0, 7, 20):
        alone = run(network, images[i : i + 1], policy, 8)
        torch.testing.assert_close(alone.logits_sum[0], some.logits_sum[i], rtol=1e-3, atol=1e-3)


def test_every_multiplication_but_the_first_layer_is_fed_by_spikes(model: nn.Module, images: Tensor) -> None:
    network = convert_module(model, images, ConvertConfig(correction="none")).network
    found, seen = spiking_report(network), inspect_model(model, (3, 8, 8))
    assert found["spiking_mac_share"] == seen.spiking_mac_share == 1.0
    assert found["macs_per_step"] == seen.macs_per_step == 0
    assert found["macs_once"] == seen.macs_once == next(node.macs for node in seen.nodes if node.macs)
    assert found["running_means"] == seen.running_means
    assert seen.sites + seen.encoders == len(network.sites)
    cost = dense_cost(network)
    assert cost.ann == cost.once + cost.spiking


def test_every_operand_is_what_spikes_decode_to(model: nn.Module, images: Tensor) -> None:
    network = convert_module(model, images, ConvertConfig(neuron="if", levels=1)).network  # whatever the kind
    assert check_operands(network, images[:4], 3) >= 3 * sum(
        cost.macs > 0 for cost in inspect_model(model, (3, 8, 8)).nodes[1:]
    )


def test_an_operand_that_is_not_spikes_is_found(images: Tensor) -> None:
    torch.manual_seed(0)
    network = convert_module(gated(), images, ConvertConfig(correction="none")).network
    nodes = [Node(n.name, n.op, tuple(name.removesuffix(".encoder") for name in n.inputs)) for n in network.graph]
    analog = SpikingNetwork(OpGraph(nodes, network.graph.output), (3, 8, 8))
    assert dense_cost(analog).spiking_mac_share < 1
    with pytest.raises(AssertionError, match="is analog"):
        check_operands(analog, images[:4], 1)


@torch.no_grad()
def test_unseen_images_come_as_one_over_t_nearer(model: nn.Module, images: Tensor) -> None:
    """Where ranges hold on them, which three times those of other images do."""
    network = convert_module(model, images[16:], ConvertConfig(correction="none", recipe=Max())).network
    for site in network.sites:
        network.graph[site].op.v_threshold.mul_(3)  # type: ignore[operator]
    few, _, many = convergence(network, images[:16], (8, 32, 128))
    assert many <= few / 6


def test_encoders_have_room_for_what_overshoots_while_means_settle() -> None:
    torch.manual_seed(0)
    layers = [nn.Sequential(nn.Linear(16 if not depth else 32, 32), nn.SiLU()) for depth in range(8)]
    for layer in layers:
        nn.init.kaiming_normal_(layer[0].weight)
    seen = torch.randn(8, 16).repeat(8, 1)  # nothing is clipped: calibration has seen all
    network = convert_module(
        nn.Sequential(*layers, nn.Linear(32, 4)).eval(), seen, ConvertConfig(recipe=Max(), correction="none")
    ).network
    early, late = convergence(network, seen, (8, 128))
    assert late < early / 10


def test_no_encoder_fires_more_than_a_bit_where_one_level_is_asked(images: Tensor, enliven: Enliven) -> None:
    config = ConvertConfig(encoder_levels=1)
    network = convert_module(enliven(gated()), images, config).network
    assert {op.max_spikes for op in network.graph.ops if isinstance(op, Encoder)} == {1}


def test_what_acts_on_running_means_is_named(images: Tensor) -> None:
    torch.manual_seed(0)
    network = convert_module(Transformer(), images, ConvertConfig(correction="none")).network
    assert sorted(set(spiking_report(network)["running_means"].values())) == ["layer_norm", "softmax"]
    assert not any(network.graph[name].op.tensors() for name in network.running_means)


def test_strict_refuses_everything_but_affine_ops_and_neurons_at_once(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="outside what a spiking network can express") as caught:
        convert_module(model, images, ConvertConfig(strict=True))
    lines = str(caught.value).splitlines()[1:]
    assert len(lines) > 1
    assert all("convert without --strict (strict=False)" in line for line in lines)
    found = inspect_model(model, (3, 8, 8), strict=True)
    assert len(found.problems) == len(lines)


def test_strict_refuses_a_maximum_that_no_activation_follows(images: Tensor) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )
    for strict in (False, True):
        assert inspect_model(model, (3, 8, 8), strict=strict).convertible is not strict
    refused = r"1 call is outside.*\n  3 \(max_pool2d\): a maximum acts on running means, which --strict"
    with pytest.raises(UnsupportedError, match=refused):
        convert_module(model.eval(), images, ConvertConfig(strict=True))
    model[1] = nn.GELU()
    with pytest.raises(
        UnsupportedError, match=r"2 calls are outside[^\n]*\n[^\n]*GELU[^\n]*\n  3 \(max_pool2d\): a maximum"
    ):
        convert_module(model.eval(), images, ConvertConfig(strict=True))


def test_where_nothing_is_multiplied_twice_nothing_spikes_and_that_is_said(
    images: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 3, 8), nn.GELU(), nn.Flatten()).eval()
    with caplog.at_level(logging.WARNING):
        found = convert_module(model, images, ConvertConfig())
    assert "the result has 0 neurons, and saves nothing" in caplog.text
    assert inspect_model(model, (3, 8, 8)).notes[0].startswith("0 neurons: nothing is multiplied after the first layer")
    assert found.network.sites == ()
    torch.testing.assert_close(found.network(images, 3), model(images))
    cost = dense_cost(found.network)
    assert snn_energy_pj(cost, float(SpikeMeter(found.network, 8, 1).synops.sum()), 8) == ann_energy_pj(cost)
    assert run(found.network, images, ConfidenceExit(threshold=0.1), 4).exit_timestep.tolist() == [1] * 48


def test_a_linear_model_is_refused(images: Tensor) -> None:
    with pytest.raises(UnsupportedError, match="the model has no activation, so that all of it is one linear map"):
        convert_module(nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.Linear(8, 3)), images)


def test_one_encoder_serves_all_readers_of_a_value_and_of_its_parts() -> None:
    seen = inspect_model(Transformer(), (3, 8, 8))
    encoded = {node.node: node.encoder for node in seen.nodes if node.encoder}
    assert encoded["blocks.0.norm1.layer_norm"] == 5 * 8  # for q, k and v at once
    assert len(encoded) == 2 * (2 + 3 + 1 + 1) + 1  # two norms; q, k and v; softmax; the attended values; the head
    seen = inspect_model(Windows(), (3, 8, 8))
    assert [node.node for node in seen.nodes if node.encoder] == ["qkv", "softmax", "matmul_1", "tanh"]
    seen = inspect_model(gated(), (3, 8, 8))
    assert [node.node for node in seen.nodes if node.encoder] == ["3.sigmoid", "3.mul", "5"]


class Pooled(nn.Module):
    """A query that no image changes attends to tokens (as in attention pooling)."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.query, self.head = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.randn(1, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.patches(x)).flatten(2)
        query = self.query.expand(len(x), 1, 8)
        return self.head((query @ x).softmax(-1) @ x.transpose(1, 2)).flatten(1)


def test_neurons_with_initial_steps_stand_beside_encoders(images: Tensor, enliven: Enliven) -> None:
    config = ConvertConfig(correction="cos", neuron="if", initial_steps=3, timesteps=8)
    network = convert_module(enliven(gated()), images, config).network
    assert {type(network.graph[site].op) for site in network.sites} == {PrepassIFNeuron, Encoder}
    assert network.initial_steps == 3
    assert network(images[:4], 2).isfinite().all()


def test_learned_thresholds_stay_and_encoders_find_their_own(images: Tensor, enliven: Enliven) -> None:
    bottleneck = (nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 3))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), *bottleneck, nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    quantised = with_qcfs(enliven(model), images[:2], levels=4)
    network = convert_module(quantised, images, ConvertConfig.suited(qcfs_levels=4)).network
    first, encoder, _ = (network.graph[site].op for site in network.sites)
    assert isinstance(encoder, Encoder)
    assert isinstance(first, IFNeuron)
    assert torch.equal(first.v_threshold, quantised.get_submodule("1").v_threshold)  # type: ignore[arg-type]


def test_encoders_and_products_are_trained_through(images: Tensor, enliven: Enliven) -> None:
    network = convert_module(enliven(Windows()), images, ConvertConfig()).network.requires_grad_(True)
    network.unroll(images[:4], 3).sum().backward()
    encoders = [op for op in network.graph.ops if isinstance(op, Encoder)]
    assert encoders
    assert all(op.v_threshold.grad is not None and bool(op.v_threshold.grad.any()) for op in encoders)


def test_a_product_with_a_constant_is_linear(images: Tensor, enliven: Enliven) -> None:
    torch.manual_seed(0)
    model = enliven(Pooled())
    network = convert_module(model, images, ConvertConfig(correction="none", recipe=Max())).network
    kinds = [(node.op.title, len(node.inputs)) for node in network.graph if "matmul" in node.op.title]
    assert ("incremental matmul", 2) in kinds
    assert len(kinds) == 1 or ("matmul", 2) in kinds
    assert dense_cost(network).spiking_mac_share == 1.0
    assert check_operands(network, images[:4], 2)
    few, _, many = convergence(network, images[:8], (8, 32, 128))
    assert many <= few / 6


def test_the_keyword_of_an_earlier_version_warns(images: Tensor) -> None:
    with pytest.warns(DeprecationWarning, match="analog_islands goes with seenn 0.3"):
        config = ConvertConfig(analog_islands=True, timesteps=4)
    assert config == ConvertConfig(timesteps=4)
    with pytest.warns(DeprecationWarning, match="not needed any more"):
        inspect_model(Transformer(), (3, 8, 8), analog_islands=True)
