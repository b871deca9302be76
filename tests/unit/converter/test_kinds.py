"""Kinds of neurons by name: those that there are, and one from outside."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from converter import convert_module
from converter.config import ConvertConfig
from seenn.core.ops import Activation, FlooredNeuron, IFNeuron, IntegratingNeuron, LIFNeuron, Neuron, ReLU
from seenn.errors import UnsupportedError
from seenn.neurons import NEURONS, NeuronKind
from seenn.surrogate import Arctan, Dspike


class Toy(NeuronKind):
    """A binary neuron that starts full."""

    name = "toy"
    most_levels = default_levels = 1

    def convert(self, activation: Activation, v_threshold: Tensor, levels: int) -> IntegratingNeuron:
        return IFNeuron(v_threshold, 0.9, **activation.neuron_arguments())

    def make(self, levels: int, **rules: Any) -> Neuron:
        return IFNeuron(1.0, 0.9)


@pytest.fixture
def toy() -> Iterator[str]:
    NEURONS.register("toy")(Toy())
    yield "toy"
    del NEURONS._found["toy"]


def test_a_kind_from_outside_converts_and_trains(toy: str, net: nn.Module, images: Tensor) -> None:
    assert toy in NEURONS.names()
    found = convert_module(net, images, ConvertConfig(neuron=toy, correction="none"))
    for site in found.network.sites:
        neuron = found.network.graph[site].op
        assert isinstance(neuron, IFNeuron)
        assert neuron.v_init.item() == pytest.approx(0.9)
    assert ConvertConfig(neuron=toy).to_json()["neuron"] == {"kind": "toy", "signed": False, "max_spikes": 1}
    assert NEURONS.get(toy).train().v_init.item() == pytest.approx(0.9)


def test_kinds_are_trained_with_their_own_rules() -> None:
    for name, kind, start, most in (
        ("if", IFNeuron, 0.0, 1),
        ("burst", IFNeuron, 0.5, 4),
        ("signed", IFNeuron, 0.5, 4),
    ):
        neuron = NEURONS.get(name).train()
        assert isinstance(neuron, kind)
        assert (neuron.v_init.item(), neuron.max_spikes, neuron.signed) == (start, most, name == "signed")
    assert NEURONS.get("burst").train(2).max_spikes == 2  # type: ignore[attr-defined]
    floored = NEURONS.get("floored").train()
    assert isinstance(floored, FlooredNeuron)
    assert (floored.v_init.item(), floored.max_spikes) == (0.0, 127)
    assert NEURONS.get("if").train().surrogate == Dspike()
    assert NEURONS.get("if").train(surrogate="arctan").surrogate == Arctan()
    lif = NEURONS.get("lif").train(decay=0.25, v_reset=None, surrogate=Arctan())
    assert isinstance(lif, LIFNeuron)
    assert (lif.decay, lif.v_reset, lif.surrogate) == (0.25, None, Arctan())
    assert NEURONS.get("lif").train().v_reset == 0.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "levels", "rules", "message"),
    [
        ("if", None, {"decay": 0.5}, "if neurons have no decay: give surrogate alone"),
        ("burst", None, {"surrogate": "dspike"}, "burst neurons have no surrogate: give none"),
        ("lif", 4, {}, "lif neurons take levels of 1, got 4: use burst or signed for others"),
        ("lif", None, {"decay": 1.0}, r"decay must be in \[0, 1\)"),
        ("lif", None, {"surrogate": "dspikes"}, "unknown surrogate 'dspikes'. Did you mean 'dspike'"),
    ],
)
def test_rules_that_a_kind_does_not_have_are_refused(
    name: str, levels: int | None, rules: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        NEURONS.get(name).train(levels, **rules)


def test_a_leaky_neuron_stands_for_no_activation() -> None:
    with pytest.raises(UnsupportedError, match="lif neurons stand for no activation"):
        NEURONS.get("lif").convert(ReLU(), torch.ones(()), 1)


def test_names_are_listed_without_torch() -> None:
    program = "import sys; from seenn.neurons import NEURONS; print(NEURONS.names(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "('burst', 'floored', 'if', 'lif', 'signed') False"


def test_what_takes_long_to_import_waits_until_it_is_needed() -> None:
    slow = ["onnx", "timm", "torch._dynamo", "torch.distributed.checkpoint", "torchvision"]
    program = f"import converter, sys; print([name for name in {slow} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
