"""What inspection says of a model before any data is there."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from converter.inspect import inspect_model
from seenn.core.ops import IFNeuron
from seenn.errors import ModelError


def test_every_node_has_its_fate(net: nn.Module) -> None:
    net.train()
    found = inspect_model(net, (3, 8, 8))
    assert [(node.op, node.fate) for node in found.nodes] == [
        ("conv2d", "synapse"),
        ("batch_norm", "folded"),
        ("relu", "spiking"),
        ("max_pool2d", "running mean"),
        ("conv2d", "synapse"),
        ("batch_norm", "folded"),
        ("relu", "spiking"),
        ("adaptive_avg_pool2d", "linear"),
        ("flatten", "linear"),
        ("linear", "synapse"),
    ]
    assert (found.sites, found.neurons, found.nodes[0].shape) == (2, 8 * 16 + 12 * 16, (8, 8, 8))
    assert (found.macs_once, found.macs_per_step, found.problems) == (8 * 64 * 27, 0, ())
    assert found.macs == 8 * 64 * 27 + 12 * 16 * 72 + 5 * 12
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert json.loads(json.dumps(found.to_json()))["convertible"] is True
    assert net.training  # as it came


def problems(model: nn.Module, *, strict: bool = False) -> list[str]:
    found = inspect_model(model, (3, 8, 8), strict=strict)
    assert found.convertible is (not found.problems)
    return list(map(str, found.problems))


def test_what_stands_in_the_way_is_listed_with_reason_and_fix() -> None:
    (no_activation,) = problems(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)))
    assert no_activation.startswith("Sequential (model): the model has no activation, so that all of it is one linear")
    (images,) = problems(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    assert images.startswith("output (Sequential): returns [B, 4, 6, 6] — return one score per class, [B, K]")
    with pytest.raises(ModelError, match="already holds neurons"):
        inspect_model(nn.Sequential(nn.Conv2d(3, 4, 3), IFNeuron(torch.tensor(1.0))), (3, 8, 8))


def test_all_problems_are_listed_at_once_and_what_comes_after_them_is_still_looked_at() -> None:
    parts = (nn.Conv2d(3, 4, 3), nn.GELU(), nn.LPPool2d(2, 3, stride=1), nn.ReLU(), nn.Sigmoid(), nn.Flatten())
    model = nn.Sequential(*parts, nn.Linear(64, 2))
    first, second, third = problems(model, strict=True)
    assert first.startswith("1 (GELU): gelu: neither linear over time nor spikes — convert without --strict")
    assert second.startswith(
        "2 (LPPool2d): has no spiking equivalent — say what stands for it, activations={LPPool2d: "
    )
    assert third.startswith("4 (Sigmoid): sigmoid: neither linear")
    assert problems(model) == [second]
    found = inspect_model(model, (3, 8, 8))
    assert [node.fate for node in found.nodes] == [
        "synapse", "running mean", "unsupported", "spiking", "running mean", "linear", "synapse",
    ]  # fmt: skip
    assert (found.sites, found.encoders, found.neurons, found.macs_per_step) == (1, 1, 2 * 64, 0)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_modules_that_cannot_be_traced_are_listed_with_everything_else() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Branching(), nn.ReLU(), nn.LPPool2d(2, 3, stride=1), Branching(),
                          nn.Flatten(), nn.Linear(64, 2))  # fmt: skip
    first, second, third = problems(model)
    assert first.startswith("1 (Branching): cannot be traced: TraceError: symbolically traced variables cannot be used")
    assert "must not branch on the values in it, " in first
    assert "; else say what stands for it" in first
    assert second.startswith("3 (LPPool2d): has no spiking equivalent")
    assert third.startswith("4 (Branching): cannot be traced")
