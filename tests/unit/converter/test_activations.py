"""What stands in place of modules that have no equivalent, as the user says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converter import convert, convert_module
from converter.inspect import inspect_model
from seenn.errors import UnsupportedError

X = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))


class Squared(nn.Module):
    """A ReLU that branches on what it sees."""

    def __init__(self, ceiling: float) -> None:
        super().__init__()
        self.ceiling = ceiling

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, self.ceiling) if x.sum() > 0 else x.relu()


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 8), Squared(6.0), nn.Linear(8, 8), nn.Softshrink(), nn.Linear(8, 3)).eval()


ACTIVATIONS = {Squared: lambda module: nn.Hardtanh(0.0, module.ceiling), nn.Softshrink: lambda module: nn.Identity()}


def test_modules_are_converted_as_what_stands_for_them_and_the_record_says_so() -> None:
    snn = convert(source := model(), X, activations=ACTIVATIONS)
    assert [node.op.kind for node in snn.network.graph if node.name == "1"] == ["if_neuron"]
    assert snn.manifest["activations"] == [f"{__name__}.Squared", "torch.nn.modules.activation.Softshrink"]
    assert isinstance(source[1], Squared)
    assert inspect_model(source, (8,), activations=ACTIVATIONS).convertible


def test_the_error_says_how() -> None:
    with pytest.raises(
        UnsupportedError, match=r"3 \(Softshrink\): .*activations=\{Softshrink: lambda m: …\}, or give it"
    ):
        convert_module(model(), X, activations={Squared: lambda module: nn.ReLU()})
    with pytest.raises(
        UnsupportedError, match=r"1 .Squared.: cannot be traced: .* — .*activations={Squared: lambda m: …}"
    ):
        convert_module(model(), X)
