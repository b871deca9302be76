"""What stands in place of modules that have no equivalent, as the user says."""

from __future__ import annotations

import re
from typing import Any

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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"Squared": lambda m: nn.ReLU()}, "'Squared': function} is not {a class of modules: a function of such a mod"),
        ({Squared: nn.ReLU()}, "Squared'>: ReLU} is not {a class of modules: a function of such a module}, as in"),
        ({int: lambda m: nn.ReLU()}, "int'>: function} is not {a class of modules"),
    ],
)
def test_what_is_not_by_classes_is_told_so(given: Any, said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        convert_module(model(), X, activations=given)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda m: None, "1 (Squared): what should make a module in its place returns NoneType: return a module"),
        (
            lambda m: 1 / 0,
            "1 (Squared): what should make a module in its place fails (ZeroDivisionError: divis",
        ),
    ],
)
def test_what_makes_no_module_is_named(function: Any, said: str) -> None:
    with pytest.raises(UnsupportedError, match=re.escape(said)):
        convert_module(model(), X, activations={Squared: function})
