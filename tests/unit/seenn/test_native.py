"""Compiled neurons against torch: every kind, layout and source; and what happens without a compiler."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from ctypes import CDLL
from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor

from seenn import native
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import BatchNorm
from seenn.core.ops.membrane import Membrane
from seenn.native import Firing, Joined, RowWriter, norm
from seenn.native.library import FOLDER
from seenn.runtime import make_engine
from seenn.surrogate import SURROGATES, Surrogate, Triangle


def compiled_for(part: Literal["engine", "training"]) -> CDLL:
    found = native.load(part)
    if found is None:
        pytest.skip("there is no C compiler here")
    return found


@pytest.fixture(scope="module")
def library() -> CDLL:
    return compiled_for("engine")


@pytest.fixture(scope="module")
def training() -> CDLL:
    return compiled_for("training")


def whole(low: int, high: int, *shape: int, seed: int = 0) -> Tensor:
    drawn = torch.randint(low, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    return drawn.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else drawn


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 17), (3, 4, 6), (1, 1, 1, 1), (2, 40, 30, 31)], ids=str)
@pytest.mark.parametrize("pattern", ["one", "per channel", "each"])
@pytest.mark.parametrize("fewest", [0, -3])
@pytest.mark.parametrize("divides", [False, True])
def test_neurons_fire_as_torch_computes_it(
    library: CDLL, shape: tuple[int, ...], pattern: str, fewest: int, divides: bool
) -> None:
    sample = shape[1:]
    wide = {"one": (1,), "per channel": (sample[0], *[1] * (len(sample) - 1)), "each": sample}[pattern]
    theta, gain = whole(1, 9, *wide, seed=1), whole(-9, 9, *wide, seed=2)
    v, net, source = whole(-99, 99, *shape), whole(fewest, 0, *shape, seed=3), whole(0, 3, *shape, seed=4)
    total = v + gain * source
    count = (total / theta).floor().clamp(fewest, 3)
    if fewest:
        count = torch.maximum(count, net)
    membrane, taken_back, counts = v.clone(), net.clone(), torch.full_like(v, 7)
    Firing(
        library,
        membrane,
        theta,
        None if divides else 1 / theta,
        fewest,
        3,
        taken_back=taken_back if fewest else None,
        counts=counts,
        joined=(Joined(gain=gain, source=source),),
    )()
    assert torch.equal(counts, count)
    assert torch.equal(membrane, total - count * theta)
    assert torch.equal(taken_back, net - count if fewest else net)
    assert count.numel() < 9 or len(count.unique()) > 2


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (3, 17)], ids=str)
@pytest.mark.parametrize("pattern", ["one", "per channel", "each"])
@pytest.mark.parametrize("fewest", [0, -3])
def test_fresh_samples_begin_and_currents_are_taken(
    library: CDLL, shape: tuple[int, ...], pattern: str, fewest: int
) -> None:
    sample = shape[1:]
    wide = {"one": (1,), "per channel": (sample[0], *[1] * (len(sample) - 1)), "each": sample}[pattern]
    theta, start, start_back = whole(1, 9, *wide, seed=1), whole(-9, 9, *wide, seed=2), whole(-5, 0, *wide, seed=3)
    v, net, fresh = whole(-99, 99, *shape), whole(fewest, 0, *shape, seed=4), torch.zeros(shape[0], dtype=torch.bool)
    currents, back = [whole(-99, 99, *shape, seed=seed) for seed in (5, 6)], {}
    membrane, taken_back, counts = v.clone(), net.clone(), torch.full_like(v, 7)
    if fewest:
        back = {"taken_back": taken_back, "start_back": start_back}
    current = torch.empty_like(v)
    firing = Firing(
        library, membrane, theta, None, fewest, 3, counts=counts, current=current, fresh=fresh, start=start, **back
    )
    for step, arriving in enumerate(currents):
        fresh.copy_(torch.arange(shape[0]) == step)  # one sample after the other is a new one
        new = fresh.view(-1, *[1] * len(sample))
        membrane[fresh], taken_back[fresh] = torch.nan, torch.nan
        current.copy_(arriving)
        firing()
        total, least = torch.where(new, start, v) + arriving, torch.where(new, start_back, net)
        count = (total / theta).floor().clamp(fewest, 3)
        count = torch.maximum(count, least) if fewest else count
        v, net = total - count * theta, least - count
        assert torch.equal(counts, count)
        assert torch.equal(membrane, v)
        assert not fewest or torch.equal(taken_back, net)
        assert not bool(current.any())


@pytest.mark.parametrize("pattern", [(5, 1, 1), (5, 4, 6)], ids=["per channel", "each"])
def test_bytes_have_margins_which_stay_as_they_are(library: CDLL, pattern: tuple[int, ...]) -> None:
    v, theta, gain = whole(-99, 99, 2, 5, 4, 6), whole(1, 9, *pattern, seed=1), whole(1, 3, *pattern, seed=2)
    shape = (2, 5, 6, 10)
    source, target = (
        torch.full(shape, fill, dtype=torch.uint8).contiguous(memory_format=torch.channels_last) for fill in (4, 9)
    )
    inside = source[:, :, 1:-1, 2:-2]
    inside.copy_(whole(0, 8, 2, 5, 4, 6, seed=3))
    total = v + gain * (inside.float() - 4)
    count = (total / theta).floor().clamp(-4, 4)
    joined = (Joined(gain=gain, source=inside, low=-4),)
    Firing(library, v, theta, None, -4, 4, whole=target[:, :, 1:-1, 2:-2], low=-4, joined=joined)()
    expected = torch.nn.functional.pad(count + 4, (2, 2, 1, 1), value=9)
    assert torch.equal(target.float(), expected)
    assert torch.equal(v, total - count * theta)


def test_memory_that_lies_otherwise_is_refused(library: CDLL) -> None:
    theta = torch.ones(5, 1, 1)
    for membrane in (torch.zeros(2, 5, 4, 6), whole(0, 1, 2, 5, 4, 6).double(), whole(0, 1, 2, 5, 4, 12)[..., ::2]):
        with pytest.raises(ValueError, match="memory of another layout"):
            Firing(library, membrane, theta, None, 0, 1)
    dense = whole(0, 1, 2, 5, 4, 6)
    with pytest.raises(ValueError, match="memory of another layout"):
        Firing(library, dense, theta, None, 0, 1, whole=torch.zeros(2, 5, 4, 6, dtype=torch.uint8))
    with pytest.raises(ValueError, match="memory of another layout"):
        RowWriter(library, [(dense, dense.contiguous())])
    with pytest.raises(ValueError, match="rows of"):
        RowWriter(library, [(dense, whole(0, 1, 1, 5, 6, 4))])


def test_rows_are_written_where_they_belong(library: CDLL) -> None:
    images, flat = whole(0, 9, 6, 5, 4, 3), whole(0, 9, 6, 7)
    news, one = whole(10, 19, 4, 5, 4, 3), whole(10, 19, 1, 7)
    expected = images.clone(), flat.clone()
    rows = torch.tensor([4, 0, 3])
    expected[0][rows], expected[1][rows] = news[:3], one
    write = RowWriter(library, [(images, news), (flat, one)])
    write(rows)
    assert torch.equal(images, expected[0])
    assert torch.equal(flat, expected[1])
    for bad in ([6], [-1], [0, 1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"rows .* of 6"):
            write(torch.tensor(bad))


def test_without_a_compiler_torch_does_the_same(
    library: CDLL, make_network: Callable[..., SpikingNetwork], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, inputs = make_network().float(), images.float()
    compiled = make_engine("int8", small, timesteps=4)
    monkeypatch.setattr(native, "load", lambda part: None)
    plain = make_engine("int8", small, timesteps=4)
    assert "neurons in one pass" in compiled.note
    assert "neurons in one pass" not in plain.note
    found = []
    for engine in (compiled, plain):
        slots = engine.open(len(inputs))
        slots.load(torch.arange(len(inputs)), inputs)
        found.append(torch.stack([slots.step(len(inputs)) for _ in range(4)]))
    assert torch.equal(*found)


@pytest.mark.parametrize("compiler", ["/nowhere/cc", "false"])
def test_a_compiler_that_is_missing_or_fails_is_done_without(compiler: str, tmp_path: Path) -> None:
    program = "from seenn.native import load; print(load('engine') or load('training'))"
    environment = os.environ | {"CC": compiler, "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "None"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("firing.c", "v[c] -= n", "v[c] += n"),
        ("unroll.c", "carried[c] = decay", "carried[c] = 1"),
        ("rows.c", "rows[k] *", "k *"),
    ],
)
def test_a_library_that_computes_something_else_is_not_used(
    file: str, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, library: CDLL
) -> None:
    for path in FOLDER.glob("*.c"):
        (tmp_path / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    text = (tmp_path / file).read_text(encoding="utf-8")
    assert right in text
    (tmp_path / file).write_text(text.replace(right, wrong), encoding="utf-8")
    monkeypatch.setattr("seenn.native.library.FOLDER", tmp_path)
    assert native.load.__wrapped__("training" if file == "unroll.c" else "engine") is None


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
    training: CDLL,
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


def test_a_surrogate_of_ones_own_is_left_to_torch(training: CDLL) -> None:
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
def test_currents_of_bfloat16_charge_membranes_of_float32(training: CDLL, v_reset: float | None) -> None:
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
def test_currents_of_other_types_are_left_to_torch_both_ways(training: CDLL, dtype: torch.dtype) -> None:
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
    training: CDLL, shape: tuple[int, ...], dtype: torch.dtype, affine: bool
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


def test_normalisation_gives_the_same_on_any_number_of_threads(training: CDLL) -> None:
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
def test_what_compiled_normalisation_leaves_to_torch(training: CDLL, x: Tensor) -> None:
    assert norm.plan(training, x) is None
    assert norm.plan(training, torch.zeros(4, 3), torch.zeros(3, dtype=torch.float64)) is None


def test_shapes_are_found_in_training_mode_as_well(training: CDLL) -> None:
    own = BatchNorm(torch.zeros(3), torch.ones(3)).train()
    assert OpGraph([Node("norm", own, (INPUT,))], "norm").shapes((3, 4, 4))["norm"] == (3, 4, 4)
