from __future__ import annotations

import pytest
import torch
from torch import Tensor

from seenn.core.ops import IFNeuron, LIFNeuron, Neuron
from seenn.surrogate import SURROGATES, Dspike, Surrogate, Triangle

NEURONS = [
    lambda theta, surrogate: IFNeuron(theta, surrogate=surrogate),
    lambda theta, surrogate: IFNeuron(theta, bias=torch.tensor([0.1, -0.2, 0.3]).double(), surrogate=surrogate),
    *(
        lambda theta, surrogate, options=options: LIFNeuron(theta, 0.25, surrogate=surrogate, **options)
        for options in (
            {"v_reset": 0.0},
            {"v_reset": -0.5, "decay": 0.25},
            {"v_reset": None},
            {"v_reset": 0.0, "detach_reset": True},
            {"v_reset": None, "detach_reset": True, "decay": 0.0},
        )
    ),
]


def _run(neuron: Neuron, x: Tensor, *, at_once: bool) -> tuple[Tensor, Tensor]:
    state = neuron.initial_state(x[0])
    if at_once:
        outputs, (v,) = neuron.unroll((x,), state)
        return outputs, v
    steps = []
    for now in x:
        output, state = neuron.step((now,), state)
        steps.append(output)
    return torch.stack(steps), state[0]


@pytest.mark.parametrize("theta", [torch.tensor(1.0), torch.tensor(0.75), torch.tensor([0.5, 1.0, 1.5])])
@pytest.mark.parametrize("make", NEURONS)
@pytest.mark.parametrize("surrogate", [Triangle(), Dspike()])
def test_unrolled_equals_autograd_through_the_steps(theta: Tensor, make: object, surrogate: Surrogate) -> None:
    neuron = make(theta.double(), surrogate).double()  # type: ignore[operator]
    neuron.v_threshold.requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(5, 7, 3, 2, 2, generator=generator, dtype=torch.float64) + 0.5
    weights = torch.randn(5, 7, 3, 2, 2, generator=generator, dtype=torch.float64)
    found = []
    for at_once in (False, True):
        own = x.clone().requires_grad_()
        outputs, v = _run(neuron, own, at_once=at_once)
        ((outputs * weights).sum() + v.square().sum()).backward()
        found.append((outputs, v, own.grad))
    for expected, actual in zip(*found, strict=True):
        torch.testing.assert_close(actual, expected)
    assert 0 < float((found[0][0] > 0).double().mean()) < 1


def test_unrolling_without_gradients_keeps_nothing_and_says_the_same() -> None:
    x = torch.randn(4, 3, 8, generator=torch.Generator().manual_seed(1))
    neuron = LIFNeuron()
    with torch.no_grad():
        for expected, actual in zip(_run(neuron, x, at_once=False), _run(neuron, x, at_once=True), strict=True):
            assert torch.equal(actual, expected)


def test_thresholds_that_are_trained_get_their_gradient() -> None:
    neuron = LIFNeuron(torch.tensor([0.5, 1.0]))
    outputs, _ = neuron.unroll((torch.rand(4, 3, 2),), neuron.initial_state(torch.zeros(3, 2)))
    outputs.sum().backward()
    assert neuron.v_threshold.grad is not None
    assert bool((neuron.v_threshold.grad != 0).any())


def test_a_constant_current_need_not_be_copied_for_every_step() -> None:
    x = torch.rand(3, 2, requires_grad=True)
    neuron = LIFNeuron()
    neuron.v_threshold.requires_grad_(False)
    spread, _ = _run(neuron, x.unsqueeze(0).expand(4, 3, 2), at_once=True)
    copied, _ = _run(neuron, x.detach().repeat(4, 1, 1), at_once=True)
    assert torch.equal(spread, copied)


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("triangle", lambda x: (1 - x.abs()).clamp(min=0)),
        ("dspike", lambda x: torch.where(x.abs() <= 3, 3 * (1 - torch.tanh(3 * x) ** 2) / (2 * _tanh(9.0)), 0.0)),
        ("arctan", lambda x: 1 / (1 + (torch.pi * x) ** 2)),
        ("sigmoid", lambda x: 4 * torch.sigmoid(4 * x) * (1 - torch.sigmoid(4 * x))),
        ("rectangle", lambda x: (x.abs() <= 0.5).double()),
    ],
)
def test_gradients_of_the_surrogates_are_their_formulas(name: str, formula: object) -> None:
    v = torch.linspace(-8, 12, 997, dtype=torch.float64).view(1, -1, 1).requires_grad_()
    theta = 2.0
    neuron = LIFNeuron(theta, decay=0.0, surrogate=SURROGATES[name]())
    neuron.v_threshold.requires_grad_(False)
    v_start = torch.zeros(1, 997, 1, dtype=torch.float64)
    for outputs in (neuron.step((v,), (v_start,))[0], neuron.unroll((v[None],), (v_start,))[0][0]):
        v.grad = None
        outputs.sum().backward()
        expected = formula((v.detach() - theta) / theta)  # type: ignore[operator]
        torch.testing.assert_close(v.grad, expected, rtol=1e-9, atol=1e-12)  # dy/dv = θ·(ds/dx)/θ
        assert torch.equal(outputs > 0, v >= theta)


def _tanh(x: float) -> Tensor:
    return torch.tensor(x, dtype=torch.float64).tanh()


@pytest.mark.parametrize("name", sorted(SURROGATES))
def test_every_surrogate_is_a_bump_of_area_one_at_the_threshold(name: str) -> None:
    x = torch.linspace(-400, 400, 80_001, dtype=torch.float64)
    slope = SURROGATES[name]().derivative_(x.clone())
    assert float(slope.max()) == float(slope[x.abs().argmin()])
    assert float(torch.trapezoid(slope, x)) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("name", sorted(SURROGATES))
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_widths_and_slopes_are_positive(name: str, value: float) -> None:
    cls = SURROGATES[name]
    field = next(iter(vars(cls())))
    with pytest.raises(ValueError, match=rf"{field} of {cls.__name__} must be positive and finite, got"):
        cls(**{field: value})
