"""What inspection says of a model before any data is there."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from converter.inspect import inspect_model
from seenn.errors import ModelError, UnsupportedError
from seenn.ops import IFNeuron


def test_every_node_has_its_fate(net: nn.Module) -> None:
    net.train()
    found = inspect_model(net, (3, 8, 8))
    assert [(node.op, node.fate) for node in found.nodes] == [
        ("conv2d", "synapse"),
        ("batch_norm", "folded"),
        ("relu", "spiking"),
        ("max_pool2d", "cumulative"),
        ("conv2d", "synapse"),
        ("batch_norm", "folded"),
        ("relu", "spiking"),
        ("adaptive_avg_pool2d", "linear"),
        ("flatten", "linear"),
        ("linear", "synapse"),
    ]
    assert (found.neurons, found.nodes[0].shape) == (2, (8, 8, 8))
    assert found.macs == 8 * 64 * 27 + 12 * 16 * 72 + 5 * 12
    assert found.parameters == sum(p.numel() for p in net.parameters())
    assert json.loads(json.dumps(found.to_json()))["convertible"] is True
    assert net.training  # as it came


def test_models_that_conversion_refuses_are_refused(net: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="the model has no ReLU activation"):
        inspect_model(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), (3, 8, 8))
    with pytest.raises(UnsupportedError, match="1 call is outside"):
        inspect_model(nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU()), (3, 8, 8))
    with pytest.raises(ModelError, match="already holds neurons"):
        inspect_model(nn.Sequential(nn.Conv2d(3, 4, 3), IFNeuron(torch.tensor(1.0))), (3, 8, 8))
