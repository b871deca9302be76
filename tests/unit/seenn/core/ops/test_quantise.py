"""Quantised activations of both signs, and the neuron that settles on exactly their value."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from converter import ConvertConfig, convert_module
from seenn.batch import Batch
from seenn.core.ops import QCFS, IFNeuron, Quantise, QuantiserNeuron, quantiser
from seenn.errors import UnsupportedError
from seenn.neurons import NEURONS
from seenn.runtime import ScoreTrace, Session, make_engine

SIGNED = NEURONS.get("signed")


def test_values_are_multiples_of_the_scale_within_the_limits() -> None:
    x = torch.tensor([[-9.0, -0.8, -0.2, 0.2, 0.8, 9.0]])
    assert Quantise(0.5, -2, 1)(x).tolist() == [[-1.0, -1.0, 0.0, 0.0, 0.5, 0.5]]
    per_channel = Quantise(torch.tensor([0.5, 2.0]), -1, 1)(torch.tensor([[3.0, 3.0]]))
    assert per_channel.tolist() == [[0.5, 2.0]]


def test_without_values_below_zero_it_is_qcfs() -> None:
    op = quantiser(0.5, 0, 3)
    assert isinstance(op, QCFS)
    x = torch.linspace(-1, 3, 50).view(1, -1)
    assert torch.equal(op(x), (x / 0.5 + 0.5).floor().clamp(0, 3) * 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, -1, 1), "scale must be positive and finite everywhere, got values from 0 to 0"),
        ((-0.1, 0, 1), "scale must be positive and finite everywhere, got values from -0.1 to -0.1"),
        ((float("nan"), 0, 1), "scale must be positive and finite"),
        ((1.0, 1, 3), "low must be an integer from -65535 to 0, got 1"),
        ((1.0, 0, 65536), "levels must be an integer from 1 to 65535, got 65536"),
    ],
)
def test_scales_and_limits_that_make_no_sense_are_refused(arguments: tuple[float, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quantiser(*arguments)
    with pytest.raises(ValueError, match="more than one level"):
        Quantise(1.0, 0, 0)


@pytest.mark.parametrize(("low", "high"), [(0, 15), (-8, 7), (-3, 0)])
@pytest.mark.parametrize("timesteps", [4, 8, 15])
def test_the_neuron_settles_on_the_quantised_mean_in_whatever_order_currents_come(
    low: int, high: int, timesteps: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    op = quantiser(torch.tensor([0.5, 0.25], dtype=torch.float64), low, high)
    currents = 3 * torch.randn(timesteps, 64, 2, 5, generator=generator, dtype=torch.float64)
    currents += 4 * torch.randn(64, 2, 5, generator=generator, dtype=torch.float64)
    theta = op.own_threshold(timesteps, 127, signed=True)
    neuron = SIGNED.convert(op, theta, 127)
    assert isinstance(neuron, QuantiserNeuron)
    total = neuron.unroll((currents,), neuron.initial_state(currents[0]))[0].sum(0)
    torch.testing.assert_close(total / timesteps, op(currents.mean(0)))
    torch.testing.assert_close(neuron.activation()(currents.mean(0)), op(currents.mean(0)))


def test_a_current_beyond_the_limits_is_clipped_at_every_step_and_after_t() -> None:
    op = quantiser(0.5, -2, 6)
    neuron = SIGNED.convert(op, op.own_threshold(4, 4, signed=True), 4)
    state = neuron.initial_state(x := torch.tensor([[50.0, -50.0]]))
    total = torch.zeros_like(x)
    for t in range(1, 13):
        output, state = neuron.step((x,), state)
        total += output
        if t % 4 == 0:
            assert (total / t).tolist() == [[3.0, -1.0]]


def test_few_steps_keep_the_range_and_what_needs_no_limits_is_a_plain_neuron() -> None:
    op = quantiser(0.5, 0, 16)
    theta = op.own_threshold(2, 4, signed=True)
    assert theta.item() * 4 == 8.0
    assert isinstance(SIGNED.convert(op, theta, 4), IFNeuron)
    assert isinstance(NEURONS.get("if").convert(op, op.own_threshold(16, 1, signed=False), 1), IFNeuron)


class Quantised(nn.Module):
    """Three quantisers, of one sign, of both, and per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), quantiser(0.1, 0, 15), nn.Conv2d(8, 8, 3, padding=1),
            quantiser(0.08, -8, 7), nn.Conv2d(8, 8, 3, padding=1), quantiser(torch.full((8,), 0.05), 0, 7),
            nn.Flatten(), nn.Linear(8 * 36, 5),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["reference", "float32"])
def test_a_quantised_network_is_exact_at_t_on_its_engines(engine: str) -> None:
    torch.manual_seed(0)
    model, images = Quantised().eval(), torch.rand(64, 1, 6, 6)
    network = convert_module(model, images, ConvertConfig(timesteps=4)).network
    scores = ScoreTrace(4, len(images))
    Session(make_engine(engine, network, timesteps=4), None, 4).run(Batch(images), observers=(scores,))
    with torch.no_grad():
        expected = model(images)
    torch.testing.assert_close(scores.logits_sum[-1] / 4, expected, rtol=1e-4, atol=1e-5)


def test_engines_in_integers_refuse_its_limits_by_name() -> None:
    torch.manual_seed(0)
    network = convert_module(Quantised().eval(), torch.rand(64, 1, 6, 6), ConvertConfig(timesteps=4)).network
    with pytest.raises(UnsupportedError, match="the limits of its count grow with time"):
        make_engine("int8", network, timesteps=4)
