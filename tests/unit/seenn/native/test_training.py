"""What training compiles against torch: membranes over all steps with their gradients, and normalisation."""

from __future__ import annotations

import pytest
import torch
from compiled import compiled_for
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.ops import BatchNorm
from seenn.core.ops.membrane import Membrane
from seenn.native import norm
from seenn.native.library import Library
from seenn.surrogate import SURROGATES, Dspike, Surrogate, Triangle


@pytest.fixture(scope="module")
def training() -> Library:
    return compiled_for("training")


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn


RULES = [
    Membrane(),
    Membrane(decay=0.25),
    Membrane(decay=0.9, v_reset=0.0),
    Membrane(decay=0.5, v_reset=-0.25),
    Membrane(decay=0.5, detach_reset=True),
    Membrane(decay=0.5, v_reset=0.0, detach_reset=True),
]


@pytest.mark.parametrize("rules", RULES, ids=str)
@pytest.mark.parametrize("surrogate", [make() for make in SURROGATES.values()] + [Triangle(gamma=0.5)], ids=str)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
@pytest.mark.parametrize("theta", [torch.tensor(1.0), torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)], ids=["one", "each"])
def test_membranes_unroll_as_torch_computes_it(
    training: Library,
    rules: Membrane,
    surrogate: Surrogate,
    layout: torch.memory_format,
    theta: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = torch.Generator().manual_seed(0)
    currents = torch.randn(4 * 7, 3, 5, 6, generator=generator).contiguous(memory_format=layout).unflatten(0, (4, 7))
    first = torch.randn(7, 3, 5, 6, generator=generator).contiguous(memory_format=layout)
    at_outputs, at_last = torch.randn(4, 7, 3, 5, 6, generator=generator), torch.randn(7, 3, 5, 6, generator=generator)
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        assert (rules.compiled(first, currents, theta) is not None) == compiled
        x, v = currents.clone().requires_grad_(), first.clone().requires_grad_()
        outputs, last = rules.unroll(v, x, theta, surrogate)
        torch.autograd.backward((outputs, last), (at_outputs, at_last))
        found.append((outputs, last, x.grad, v.grad))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert 0 < int((found[0][0] > 0).sum()) < found[0][0].numel()


def test_membranes_round_once_a_step_as_torch_does(training: Library) -> None:
    currents, theta = torch.randn(4, 7, 300, generator=torch.Generator().manual_seed(0)), torch.tensor(1e9)
    rules, first = Membrane(decay=0.9), torch.zeros(7, 300)
    assert rules.compiled(first, currents, theta) is not None
    v = first
    for current in currents:
        v = torch.add(current, v, alpha=0.9)
    assert torch.equal(rules.unroll(first, currents, theta, Triangle())[1], v)


def unrolled(
    monkeypatch: pytest.MonkeyPatch, x: Tensor, theta: Tensor, surrogate: Surrogate, at_outputs: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Outputs and gradients at the currents, compiled and by torch; ``x`` and ``at_outputs`` lie as they are given."""
    found = []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        first = torch.zeros(x.shape[1:])
        assert (Membrane().compiled(first, x, theta) is not None) == compiled
        currents = x.detach().requires_grad_()
        outputs, _ = Membrane().unroll(first, currents, theta, surrogate)
        (gradient,) = torch.autograd.grad(outputs, currents, at_outputs)
        found.append((outputs.detach(), gradient))
    return found


def test_thresholds_and_steps_that_lie_apart_are_found(training: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(0)
    every_second, theta = torch.randn(8, 7, 600, generator=random)[::2], torch.rand(600, generator=random) + 0.5
    at_outputs = torch.randn(8, 7, 600, generator=random)[::2]
    (outputs, gradient), (expected, torchs) = unrolled(monkeypatch, every_second, theta, Triangle(), at_outputs)
    assert torch.equal(outputs, expected)
    torch.testing.assert_close(gradient, torchs, rtol=1e-4, atol=1e-5)


def test_a_region_ends_where_torch_ends_it(training: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    x, theta = torch.tensor([[[-1.5, -1.0, 0.0, 1.0, 3.0, 3.5]]]), torch.tensor(1.0)  # distances from 2.5 to 2.5
    found = unrolled(monkeypatch, x, theta, Dspike(k=0.5, region=2.0), torch.ones(1, 1, 6))
    torch.testing.assert_close(*(gradient for _, gradient in found))
    assert (found[0][1] > 0.1).tolist() == [[[False, True, True, True, True, False]]]


def test_a_surrogate_of_ones_own_is_left_to_torch(training: Library) -> None:
    class Steep:
        def derivative_(self, x: Tensor) -> Tensor:
            return x.square_().neg_().exp_()

    x = torch.randn(3, 5, 4, requires_grad=True)
    outputs, _ = Membrane().unroll(torch.zeros(5, 4), x, torch.tensor(1.0), Steep())
    outputs.sum().backward()
    expected = x.detach().clone().requires_grad_()
    v = torch.zeros(5, 4)
    total = x.new_zeros(())
    for current in expected:
        count, v = Membrane().step(v, current, torch.tensor(1.0), Steep())
        total = total + count.sum()
    total.backward()
    torch.testing.assert_close(x.grad, expected.grad)


@pytest.mark.parametrize("v_reset", [None, 0.0])
def test_currents_of_bfloat16_charge_membranes_of_float32(training: Library, v_reset: float | None) -> None:
    generator = torch.Generator().manual_seed(0)
    currents = torch.randn(4, 7, 300, generator=generator).bfloat16()
    at_outputs = torch.randn(4, 7, 300, generator=generator).bfloat16()
    theta, rules = torch.rand(300, generator=generator) + 0.5, Membrane(decay=0.5, v_reset=v_reset)
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        x = currents.to(dtype, copy=True).requires_grad_()
        outputs, last = rules.unroll(torch.zeros(7, 300, dtype=dtype), x, theta, Triangle())
        outputs.backward(at_outputs.to(dtype))
        assert last.dtype == torch.float32
        assert outputs.dtype == x.grad.dtype == dtype
        found.append((outputs.detach(), last.detach(), x.grad))
    (narrow, last, grad), (wide, same_last, wide_grad) = found
    assert torch.equal(narrow, wide.bfloat16())
    assert torch.equal(last, same_last)
    assert torch.equal(grad, wide_grad.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_currents_of_other_types_are_left_to_torch_both_ways(training: Library, dtype: torch.dtype) -> None:
    x = torch.rand(3, 5, 4, dtype=dtype, requires_grad=True)
    assert Membrane().compiled(torch.zeros(5, 4), x, torch.tensor(1.0)) is None
    outputs, _ = Membrane().unroll(torch.zeros(5, 4), x, torch.tensor(1.0), Triangle())
    outputs.sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    assert bool(x.grad.abs().sum() > 0)


@pytest.mark.parametrize("shape", [(6, 3), (4, 8, 6, 6), (5, 3, 7, 3), (2, 300, 2, 2), (1, 1, 1, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("affine", [True, False])
def test_batch_normalisation_learns_as_torch_does(
    training: Library, shape: tuple[int, ...], dtype: torch.dtype, affine: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x, dy = (torch.randn(shape, generator=generator).mul(2).add(0.5).to(dtype) for _ in range(2))
    if len(shape) == 4:
        x, dy = (values.contiguous(memory_format=torch.channels_last) for values in (x, dy))
    channels, numbers = shape[1], []
    vectors = [torch.rand(channels, generator=generator) + 0.5 for _ in range(4)]
    own = BatchNorm(vectors[0].clone(), vectors[1].clone(), *(v.clone() for v in vectors[2:] if affine), momentum=0.3)
    assert norm.plan(training, x, own.running_mean) is not None
    theirs = torch.nn.BatchNorm2d(channels, affine=affine, momentum=0.3)
    theirs.load_state_dict({**own.state_dict(), "num_batches_tracked": torch.tensor(0)})
    for module, own_type in ((own.train(), dtype), (theirs.train(), torch.float32)):
        inputs = x.to(own_type, copy=True).requires_grad_()
        place = inputs if len(shape) == 4 or module is own else inputs[:, :, None, None]
        y = module.requires_grad_()(place).view(shape) if len(shape) == 2 else module.requires_grad_()(place)
        y.backward(dy.to(own_type))
        gradients = [p.grad for p in (module.weight, module.bias)] if affine else []
        numbers.append((y.detach(), inputs.grad, module.running_mean, module.running_var, *gradients))
        assert y.dtype == own_type
    near = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 2e-2, "atol": 6e-2}
    for found, expected in zip(*numbers, strict=True):
        torch.testing.assert_close(found.float(), expected, **near)


def test_normalisation_gives_the_same_on_any_number_of_threads(training: Library) -> None:
    x = whole(-9, 9, 16, 12, 20, 20).div(7)
    threads, found = torch.get_num_threads(), []
    made = norm.plan(training, x)
    assert made is not None
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        y, mean, _, root = made.forward(x, torch.zeros(12), None, None, 1e-5)
        found.append((y, mean, root, *made.backward(x, y, mean, root, None)))
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@pytest.mark.parametrize(
    "x",
    [
        torch.zeros(2, 3, 4, 4),
        torch.zeros(1, 3),
        torch.zeros(2, 3, 4),
        torch.zeros(4, 3, dtype=torch.float64),
        torch.zeros(0, 3),
    ],
    ids=["channels first", "one number", "three axes", "float64", "empty"],
)
def test_what_compiled_normalisation_leaves_to_torch(training: Library, x: Tensor) -> None:
    assert norm.plan(training, x) is None
    assert norm.plan(training, torch.zeros(4, 3), torch.zeros(3, dtype=torch.float64)) is None


def test_shapes_are_found_in_training_mode_as_well(training: Library) -> None:
    own = BatchNorm(torch.zeros(3), torch.ones(3)).train()
    assert OpGraph([Node("norm", own, (INPUT,))], "norm").shapes((3, 4, 4))["norm"] == (3, 4, 4)


@pytest.mark.parametrize("rules", [Membrane(decay=0.5), Membrane(decay=0.5, v_reset=0.0)], ids=str)
@pytest.mark.parametrize("name", ["rectangle", "dspike", "triangle"])
def test_membranes_at_a_threshold_or_at_a_surrogates_edge_are_on_the_side_that_torch_says(
    training: Library, rules: Membrane, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = torch.arange(-16, 17).float().div(8).repeat(3, 2, 1)  # multiples of an eighth; thresholds are among them
    theta, first, found = torch.tensor(1.0), torch.zeros(2, 33), []
    for compiled in (True, False):
        if not compiled:
            monkeypatch.setattr(native, "load", lambda part: None)
        x = grid.clone().requires_grad_()
        outputs, last = rules.unroll(first, x, theta, SURROGATES[name]())
        torch.autograd.backward((outputs, last), (torch.ones_like(outputs), torch.ones_like(last)))
        assert x.grad is not None
        found.append((outputs.detach(), last.detach(), x.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert float(found[0][0][0, 0, 24]) == 1.0  # a current of 1 reaches the threshold
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_no_number_stays_one_in_bfloat16(training: Library) -> None:
    x = torch.zeros(2, 3, 64, dtype=torch.bfloat16, requires_grad=True)
    outputs, last = Membrane(decay=0.5).unroll(torch.zeros(3, 64), x, torch.tensor(1.0), Triangle())
    arriving = torch.full_like(last, 1)
    arriving[0] = torch.tensor(0x7FFFFFFF, dtype=torch.int32).view(torch.float32)  # the largest of all NaN
    torch.autograd.backward((outputs, last), (torch.ones_like(outputs), arriving))
    assert x.grad is not None
    assert bool(x.grad[:, 0].isnan().all())
    assert bool(x.grad[:, 1:].isfinite().all())


def test_normalisation_of_what_is_no_number_or_does_not_vary_says_so(training: Library) -> None:
    x = torch.full((7, 3), 3.3)
    x[2, 1] = torch.nan
    x[:, 2] = torch.arange(7.0)
    made = norm.plan(training, x)
    assert made is not None
    y, mean, variance, _ = made.forward(x, torch.zeros(3), None, None, 1e-5)
    assert bool(y[:, 1].isnan().all())
    assert bool(variance[1].isnan())
    assert 0.0 <= float(variance[0]) < 1e-12
    assert mean[[0, 2]].tolist() == pytest.approx([3.3, 3.0])
    assert float(variance[2]) == pytest.approx(4.0)


def test_what_lies_between_two_of_bfloat16_is_rounded_to_the_even_one(training: Library) -> None:
    theta = 1 + torch.tensor([1.0, 3.0, 5.0, 7.0, 2.0, 0.5, 1.5]) * 2**-8
    x = torch.full((1, 2, 7), 2.0, dtype=torch.bfloat16)
    outputs, _ = Membrane().unroll(torch.zeros(2, 7), x, theta, Triangle())
    assert torch.equal(outputs[0], theta.bfloat16().expand(2, 7))
    assert outputs[0, 0].float().sub(1).mul(2**7).tolist() == [0, 2, 2, 4, 1, 0, 1]
