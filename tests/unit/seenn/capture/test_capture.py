from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import converter
import seenn
from seenn.capture import capture, to_graph, trace, trace_exported
from seenn.core.ops import ReLU, reset
from seenn.core.serialisation import graph_from_json, graph_to_json
from seenn.errors import UnsupportedError

Body = Callable[["Parts", Tensor], Tensor]


class Parts(nn.Module):
    """Layers that a forward pass, given as a function, puts together; input ``[B, 4, 6, 6]``."""

    def __init__(self, body: Body) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(4, 4, 3, padding="same", groups=2)
        self.depthwise = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=4, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.pool = nn.MaxPool2d(2)
        self.weight = nn.Parameter(torch.randn(5, 4, 1, 1))
        self.fc = nn.Linear(4, 5)
        self.body = body
        self.double().eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


BODIES: dict[str, Body] = {
    "modules": lambda m, x: m.drop(m.relu(m.norm(m.conv(x)))),
    "functions": lambda m, x: F.relu(F.conv2d(x, m.weight, stride=2), inplace=True),
    "functional batch norm": lambda m, x: F.batch_norm(
        x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias
    ),
    "methods": lambda m, x: m.depthwise(x).relu().clamp(min=0).mean([2, 3]).contiguous(),
    "keywords": lambda m, x: F.relu(input=m.conv(input=x).transpose(dim0=2, dim1=3).permute(dims=(0, 3, 2, 1))),
    "positional keepdim": lambda m, x: m.fc(torch.mean(x, (2, 3), True).flatten(1)),
    "negative mean axes": lambda m, x: x.mean((-2, -1)),
    "residual": lambda m, x: torch.add(m.relu(m.conv(x)), x) + x,
    "in-place sum": lambda m, x: m.conv(x).add_(x).mul_(0.5).div_(3) / 2 * 2,
    "sum of a list": lambda m, x: sum([m.conv(x), x, m.norm(x)]),  # type: ignore[dict-item]
    "concat": lambda m, x: torch.cat((m.conv(x), x), dim=-3),
    "chunk": lambda m, x: (parts := x.chunk(2, 1), torch.cat([parts[-1] * 2, parts[0]], 1))[1],
    "split": lambda m, x: torch.cat([torch.split(x, [1, 3], dim=1)[1], x.split(1, -3)[0]], 1),
    "slices": lambda m, x: x[:, 1:3] + x[:, :-2, :][:],
    "view": lambda m, x: m.fc(x.view(x.size(0), 4, -1).mean(2).unsqueeze(1).squeeze(1)),
    "channel shuffle": lambda m, x: x.view(x.shape[0], 2, 2, 6, 6).transpose(1, 2).contiguous().reshape(-1, 4, 6, 6),
    "pad": lambda m, x: F.pad(x, (1, 0, -1, 2)),
    "pools": lambda m, x: F.adaptive_avg_pool2d(F.max_pool2d(m.pool(x), 2), (1, None)),
    "average pool": lambda m, x: F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False, ceil_mode=True),
    "clips": lambda m, x: F.relu6(x * 9) + F.hardtanh(x, 0, 2) + torch.clamp(x, 0, 1),
    "dropout": lambda m, x: F.dropout(x, 0.3, m.training) + F.alpha_dropout(x, 0.3),
}


@pytest.mark.parametrize("spelling", BODIES)
def test_a_captured_graph_computes_what_the_module_does(spelling: str) -> None:
    model = Parts(BODIES[spelling])
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    graph = to_graph(trace(model, x))
    with torch.no_grad():
        torch.testing.assert_close(graph(x), model(x.clone()), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(graph(x[1:2]), model(x[1:2].clone()), rtol=1e-12, atol=1e-12)


def test_calls_are_named_where_they_are_made_and_identities_are_gone() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 1)
            self.act = nn.ReLU()
            self.drop = nn.Dropout()

        def forward(self, x: Tensor) -> Tensor:
            x = self.act(self.drop(self.conv(x)))
            return F.relu(self.act(x) + x)

    graph = to_graph(trace(nn.Sequential(Block(), nn.Identity(), nn.Flatten()).eval(), torch.zeros(1, 4, 2, 2)))
    assert [node.name for node in graph] == ["0.conv", "0.act", "0.act#2", "0.add", "0.relu", "2"]
    assert [node.inputs for node in graph][2:4] == [("0.act",), ("0.act#2", "0.act")]
    assert sum(isinstance(node.op, ReLU) for node in graph) == 3


class Spiking(nn.Module):
    """Two neurons of a hand-written model, run eagerly by their own membranes; the second may be shared."""

    def __init__(self, shared: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.first = seenn.IFNeuron(torch.tensor([0.5, 0.6, 0.7, 0.8]), signed=True)
        self.middle = nn.Conv2d(4, 4, 3, padding=1)
        self.second = self.first if shared else seenn.IFNeuron(self.first.v_threshold.detach().clone(), signed=True)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.middle(self.first(self.conv(x)))).mean((2, 3)))


def outputs(step: Callable[[Tensor], Tensor], x: Tensor, timesteps: int = 6) -> Tensor:
    with torch.no_grad():
        return torch.stack([step(x) for _ in range(timesteps)])


def unroll(network: seenn.SpikingNetwork, x: Tensor, timesteps: int = 6) -> Tensor:
    found, state = [], None
    with torch.no_grad():
        for _ in range(timesteps):
            y, state = network.step(x, state)
            found.append(y)
    return torch.stack(found)


def test_explicit_state_equals_the_stateful_modules_step_by_step() -> None:
    model, x = Spiking(), torch.randn(4, 1, 5, 5)
    network = capture(model, x)
    assert torch.equal(unroll(network, x), outputs(model, x))


def test_a_neuron_called_twice_is_two_sites_with_membranes_of_their_own() -> None:
    x = torch.randn(4, 1, 5, 5)
    network = capture(Spiking(shared=True), x)
    assert network.sites == ("first", "first#2")
    captured = unroll(network, x)
    assert torch.equal(captured, outputs(Spiking(shared=False), x))
    assert not torch.equal(captured, outputs(Spiking(shared=True), x))  # eagerly they share one membrane


def test_a_neuron_may_be_called_on_two_resolutions() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron = seenn.IFNeuron()

        def forward(self, x: Tensor) -> Tensor:
            return self.neuron(F.avg_pool2d(self.neuron(x), 2)).flatten(1)

    network = capture(Model(), torch.zeros(1, 1, 4, 4))
    assert network.graph.shapes((1, 4, 4))[network.sites[1]] == (1, 2, 2)


def test_capturing_changes_neither_membranes_nor_statistics_and_shares_the_parameters() -> None:
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), norm, seenn.IFNeuron(), nn.Flatten(), nn.Linear(36, 3)).train()
    x = torch.randn(2, 1, 5, 5)
    model(x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    network = capture(model, torch.randn(4, 1, 5, 5))
    network.describe()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert {id(p) for p in network.parameters()} == {id(p) for p in model.parameters()}
    model(x)  # its own membrane, of two images, is still there
    reset(model)


#: The probe's own numbers of images, and a multiple of one.
LIKE_A_BATCH = (1009, 1013, 2018)


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("size", LIKE_A_BATCH)
def test_no_number_of_classes_channels_or_pixels_is_taken_for_the_batch(size: int, by: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    act, flat = nn.ReLU(), nn.Flatten()
    bodies: list[tuple[nn.Module, Tensor]] = [
        (nn.Sequential(nn.Conv2d(2, 3, 3), act, flat, nn.Linear(12, size)), torch.randn(2, 2, 4, 4)),
        (
            nn.Sequential(nn.Conv2d(2, size, 3), act, flat, nn.Linear(4 * size, 3)),
            torch.randn(2, 2, 4, 4),
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1), act, flat, nn.Linear(2 * size, 3)),
            torch.randn(2, 1, 1, size),
        ),
        (Tokens(size), torch.randn(2, 3, 1, size)),
    ]
    for model, x in bodies:
        graph = to_graph(by(model.eval(), x))
        assert graph.shapes(x.shape[1:])[graph.output] == model(x).shape[1:]
        with torch.no_grad():
            torch.testing.assert_close(graph(x), model(x), rtol=1e-4, atol=1e-4)


class Tokens(nn.Module):
    """Pixels moved, folded into the batch and back, and met by a table with one entry a pixel."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(size, 3))
        self.fc = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2) + self.table
        folded = self.fc(tokens.reshape(-1, 3))
        return folded.view(x.shape[0], -1, 4).mean(1)


def test_a_thousand_and_nine_classes_are_captured_converted_saved_and_loaded() -> None:
    images = torch.rand(32, 2, 4, 4)
    ann = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1009)).eval()
    network = capture(nn.Sequential(ann[0], seenn.IFNeuron(), *ann[2:]), images[:2])
    for made in (network, converter.convert(ann, images).network):
        tensors: dict[str, Tensor] = {}
        description = graph_to_json(made.graph, made.input_shape, tensors)
        loaded, _ = graph_from_json(description, tensors)
        assert loaded.shapes((2, 4, 4))[loaded.output] == (1009,)


def test_a_model_whose_calls_depend_on_the_number_of_images_is_refused() -> None:
    class Counting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() if x.shape[0] == 1009 else x.relu().relu()

    with pytest.raises(UnsupportedError, match="its calls depend on how many images there are"):
        trace_exported(Counting(), torch.zeros(1, 2, 4, 4))


def test_a_single_neuron_is_a_network_too() -> None:
    current = torch.tensor([[0.3, 0.6, 1.0]])
    network = capture(seenn.IFNeuron(v_threshold=1.0), current)
    assert network.unroll(current, 4).sum(0).tolist() == [[1.0, 2.0, 4.0]]


@pytest.mark.parametrize("by", [trace, trace_exported])
@pytest.mark.parametrize("affine", [True, False])
def test_instance_normalisation_with_stored_statistics_is_a_scale_and_a_shift(affine: bool, by: Any) -> None:
    norm = nn.InstanceNorm2d(4, affine=affine, track_running_stats=True)
    norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    model = nn.Sequential(nn.Conv2d(4, 4, 3), norm, nn.ReLU()).double().eval().requires_grad_(False)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    graph = to_graph(by(model, x))
    assert [node.op.kind for node in graph] == ["conv2d", "batch_norm", "relu"]
    torch.testing.assert_close(graph(x), model(x), rtol=1e-12, atol=1e-12)


def test_instance_normalisation_that_still_learns_its_statistics_is_refused() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.InstanceNorm2d(4, track_running_stats=True)).train()
    with pytest.raises(UnsupportedError, match=r"Sequential\.1\.running_mean, .* are updated in forward"):
        to_graph(trace(model, torch.rand(2, 4, 6, 6)))
