"""Where the channels of a site are: a threshold belongs to each of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.random_weights import convergence
from converter import ConvertConfig, Max, convert_module
from seenn.capture import to_graph, trace
from seenn.core.ops import Encoder, IntegratingNeuron


class Tokens(nn.Module):
    """Patches as tokens ``[B, 16, 6]``, and an MLP for each of them."""

    def __init__(self, activation: nn.Module | None = None, stem: nn.Module | None = None) -> None:
        super().__init__()
        self.patches, self.inner = nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 10)
        self.stem = stem or nn.ReLU()
        self.activation, self.outer, self.head = activation or nn.ReLU(), nn.Linear(10, 6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(self.patches(x)).flatten(2).transpose(1, 2)
        return self.head((x + self.outer(self.activation(self.inner(x)))).mean(1))


#: A function of images [B, 6, 4, 4], and the axis that it leaves the channels along.
MOVES: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "images": (lambda x: x.relu(), 1),
    "channels last": (lambda x: x.permute(0, 2, 3, 1), 3),
    "tokens": (lambda x: x.flatten(2).transpose(1, 2), 2),
    "features": (lambda x: x.flatten(1), 1),
    "pooled": (lambda x: x.permute(0, 2, 3, 1).mean((1, 2)), 1),
    "pooled in part": (lambda x: x.permute(0, 2, 3, 1).mean(1), 2),
    "heads": (lambda x: x.flatten(2).transpose(1, 2).reshape(-1, 16, 2, 3).transpose(1, 2), 1),
    "heads and back": (
        lambda x: x.flatten(2).mT.reshape(-1, 16, 2, 3).transpose(1, 2).transpose(1, 2).reshape(-1, 16, 6), 2,
    ),
    "shuffled": (lambda x: x.view(-1, 2, 3, 4, 4).transpose(1, 2).reshape(-1, 6, 4, 4), 1),
    "one part": (lambda x: x.permute(0, 2, 3, 1)[..., 2:4] + 1, 3),
    "one row": (lambda x: x.permute(0, 2, 3, 1)[:, 1], 2),
}  # fmt: skip


@pytest.mark.parametrize("case", MOVES)
def test_the_axis_of_channels_is_followed(case: str) -> None:
    function, axis = MOVES[case]

    class Model(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return function(x * 2)

    graph = to_graph(trace(Model(), torch.zeros(1, 6, 4, 4)))
    assert graph.channel_axes(graph.shapes((6, 4, 4)))[graph.output] == axis


def test_a_class_token_has_no_channels_of_its_own() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.ones(1, 1, 6))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.token.expand(x.shape[0], -1, -1), x.flatten(2).mT], 1).relu()

    graph = to_graph(trace(Model().requires_grad_(False), torch.zeros(1, 6, 4, 4)))
    assert graph.channel_axes(graph.shapes((6, 4, 4)))[graph.output] == 2


def test_a_linear_layer_has_its_channels_last(enliven: Callable[[nn.Module], nn.Module]) -> None:
    torch.manual_seed(0)
    model, images = enliven(Tokens()), torch.randn(16, 3, 8, 8)
    found = convert_module(model, images, ConvertConfig(recipe=Max(), correction="none"))
    conv, mlp, encoder = (found.network.graph[site].op for site in found.network.sites)
    assert isinstance(conv, IntegratingNeuron)
    assert isinstance(mlp, IntegratingNeuron)
    assert isinstance(encoder, Encoder)
    assert (conv.axis, len(conv.v_threshold), mlp.axis, len(mlp.v_threshold)) == (1, 6, 2, 10)
    assert (encoder.axis, len(encoder.v_threshold)) == (1, 6)  # of the mean token, which meets the head
    assert [report.channels for report in found.calibration.reports] == [6, 10, 6]
    with torch.no_grad():
        largest = model.inner(model.patches(images).relu().flatten(2).mT).amax((0, 1))  # type: ignore[operator]
    torch.testing.assert_close(mlp.v_threshold * mlp.max_spikes, largest)
    few, _, many = convergence(found.network, images, (8, 32, 128))
    assert many < 0.1 * few


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(0.2), nn.PReLU(16)])
def test_corrections_are_per_channel_of_the_site(
    activation: nn.Module, enliven: Callable[[nn.Module], nn.Module]
) -> None:
    torch.manual_seed(0)
    model, images = enliven(Tokens(activation, nn.Identity())), torch.randn(32, 3, 8, 8)
    errors = {}
    for correction in ("bias", "joint"):
        config = ConvertConfig(recipe=Max(), correction=correction, timesteps=4)
        found = convert_module(model, images, config)
        (report,) = (each for each in found.calibration.reports if each.site == "activation")
        mlp = found.network.graph[report.site].op
        assert isinstance(mlp, IntegratingNeuron)
        assert mlp.bias is not None
        # The slopes of a PReLU are along axis 1, which holds the tokens here, whatever the channels are.
        assert (mlp.axis, len(mlp.bias)) == ((1, 16) if isinstance(activation, nn.PReLU) else (2, 10))
        assert report.relative_error is not None
        errors[correction] = report.relative_error
    # Its choices per channel include that of the bias alone; the encoder in front has its own.
    assert errors["joint"] <= 1.01 * errors["bias"]
