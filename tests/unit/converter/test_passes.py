"""Graph passes: what they remove, what they leave alone, and that the function stays the same."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from converter.passes import fold_batch_norm, move_max_pool, normalise, verify_equivalent
from converter.trace import trace_model
from seenn.core.graph import OpGraph
from seenn.errors import ConversionError, UnsupportedError

Enliven = Callable[[nn.Module], nn.Module]


def traced(model: nn.Module, *shape: int) -> tuple[nn.Module, OpGraph, Tensor]:
    """The model and its graph in float64, with images."""
    x = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    model = model.double().eval()
    return model, trace_model(model, x), x


def kinds(graph: OpGraph) -> list[str]:
    return [node.op.kind for node in graph]


class AfterAdd(nn.Module):
    """Batch norms after a sum, and after a convolution that two calls read."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(3, 6, 1)
        self.joined, self.shared = nn.BatchNorm2d(6), nn.BatchNorm2d(6)

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        both = self.joined(left + self.right(x))
        return (both + self.shared(left)).relu().mean((2, 3))


class Tokens(nn.Module):
    """A batch norm over the tokens of a linear layer's output: as many tokens as channels, to be mean."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x.flatten(2))).relu().mean(2)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)), (4, 6, 6)),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=2, bias=False), nn.BatchNorm2d(8)), (4, 6, 6)),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4, affine=False)), (4, 6, 6)),
        (nn.Sequential(nn.Flatten(), nn.Linear(16, 6, bias=False), nn.BatchNorm1d(6)), (1, 4, 4)),
    ],
    ids=["convolution", "grouped", "depthwise, norm without weights", "linear"],
)
def test_batch_norm_folds_into_the_synapse_before(
    model: nn.Sequential, shape: tuple[int, ...], enliven: Enliven
) -> None:
    if model[-1].affine:
        enliven(model)
    source, graph, x = traced(model, *shape)
    folded = fold_batch_norm(graph, shape)
    assert kinds(folded) == kinds(graph)[:-1]
    assert verify_equivalent(source, folded, x) < 1e-12


def test_batch_norm_after_a_sum_or_a_shared_convolution_becomes_a_channel_affine(enliven: Enliven) -> None:
    source, graph, x = traced(enliven(AfterAdd()), 3, 5, 5)
    folded = fold_batch_norm(graph, (3, 5, 5))
    assert kinds(folded).count("channel_affine") == 2
    assert "batch_norm" not in kinds(folded)
    assert verify_equivalent(source, folded, x) < 1e-12


def test_batch_norm_over_tokens_is_not_folded_into_the_channels(enliven: Enliven) -> None:
    source, graph, x = traced(enliven(Tokens()), 6, 2, 2)
    folded = fold_batch_norm(graph, (6, 2, 2))
    assert "channel_affine" in kinds(folded)
    assert verify_equivalent(source, folded, x) < 1e-12


def test_max_pools_move_before_their_activation(enliven: Enliven) -> None:
    stack = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU6(), nn.MaxPool2d(2), nn.AdaptiveMaxPool2d(2), nn.Flatten())
    enliven(stack)
    stack[0].weight.data *= 10  # so that the ceiling of 6 is felt
    source, graph, x = traced(stack, 3, 10, 10)
    assert int((graph.evaluate(x, {"1"})["1"] == 6).sum()) > 0
    moved = move_max_pool(graph)
    assert kinds(moved) == ["conv2d", "max_pool2d", "adaptive_max_pool2d", "relu", "flatten"]
    assert verify_equivalent(source, moved, x) == 0


class PoolAndMean(nn.Module):
    """An activation that a max-pool and somebody else read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).relu()
        return self.pool(y).flatten(1) + y.mean((2, 3))


def test_max_pool_stays_when_others_read_the_activation(enliven: Enliven) -> None:
    _, graph, _ = traced(enliven(PoolAndMean()), 3, 6, 6)
    assert move_max_pool(graph) is graph


def test_normalising_is_idempotent_and_exact(net: nn.Module) -> None:
    source, graph, x = traced(net, 3, 8, 8)
    once = normalise(graph, (3, 8, 8))
    twice = normalise(once, (3, 8, 8))
    assert [(n.name, n.op.kind, n.inputs) for n in twice] == [(n.name, n.op.kind, n.inputs) for n in once]
    assert torch.equal(twice(x), once(x))
    assert verify_equivalent(source, once, x) < 1e-12


class Noisy(nn.Module):
    """Draws a number in every call; tracing sees only the first."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv(x) * float(torch.rand(()))).relu().mean((2, 3))


def test_model_with_randomness_is_not_proven_equal(enliven: Enliven) -> None:
    with pytest.raises(UnsupportedError, match=r"Noisy draws at random in its forward, so that an image"):
        traced(enliven(Noisy()), 3, 6, 6)


def test_a_graph_that_computes_something_else_is_not_proven_equal(enliven: Enliven) -> None:
    source, graph, x = traced(enliven(nn.Sequential(nn.Flatten(), nn.Linear(12, 3))), 3, 2, 2)
    with pytest.raises(ConversionError, match=r"differs from the source by .* because it has randomness or state"):
        verify_equivalent(source, lambda images: graph(images) + 1e-3, x)
