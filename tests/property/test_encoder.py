"""Laws of the identity encoder and of products of spikes, over all inputs; sources in seenn.core.ops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seenn.core.ops import CumulativeDifference, Einsum, Encoder, IncrementalProduct, MatMul, Multiply, Product, ReLU

# Sixteenths: sums, thresholds and quotients near whole numbers are exact, so that equality can be asked for.
sixteenths = st.integers(-160, 160).map(lambda n: n / 16)
thresholds = st.integers(1, 64).map(lambda n: n / 16)
varying = st.integers(1, 12).flatmap(
    lambda c: st.lists(st.lists(sixteenths, min_size=c, max_size=c), min_size=1, max_size=24)
)


@given(x=varying, theta=thresholds, levels=st.integers(1, 127), in_place=st.booleans())
@torch.no_grad()
def test_an_encoder_keeps_all_charge_and_its_counts_in_range(
    x: list[list[float]], theta: float, levels: int, in_place: bool
) -> None:
    currents = torch.tensor(x, dtype=torch.float64)
    encoder = Encoder(theta, max_spikes=levels).double()
    state = encoder.initial_state(currents[:1])
    first, fired = state[0].clone(), torch.zeros_like(currents[:1])
    for current in currents:
        count, state = encoder.fire(current[None], state, in_place=in_place)
        assert torch.equal(count, count.round())
        assert float(count.abs().max()) <= levels
        fired += count
    assert torch.equal(currents.sum(0, keepdim=True), state[0] - first + theta * fired)
    if float(currents.abs().max()) <= theta * (levels - 1):  # what is left over fits into a step, too
        assert bool(((currents.sum(0) - theta * fired).abs() <= theta / 2).all())


@given(x=st.lists(sixteenths, min_size=1, max_size=8), theta=thresholds, steps=st.integers(1, 40))
@torch.no_grad()
def test_a_constant_of_either_sign_is_rounded_to_parts_of_the_threshold(
    x: list[float], theta: float, steps: int
) -> None:
    current = torch.tensor([x], dtype=torch.float64)
    encoder = Encoder(theta, max_spikes=127).double()
    state, fired = encoder.initial_state(current), torch.zeros_like(current)
    for _ in range(steps):
        count, state = encoder.fire(current, state)
        fired += count
    levels = (steps * current / theta + 0.5).floor().clamp(-127 * steps, 127 * steps)
    assert torch.equal(fired, levels)


PRODUCTS: dict[str, tuple[Product, tuple[int, ...], tuple[int, ...]]] = {
    "matmul": (MatMul(), (2, 3, 4), (2, 4, 5)),
    "heads": (MatMul(), (2, 2, 3, 4), (2, 2, 4, 3)),
    "einsum": (Einsum(equation="bnm,bkm->bnk"), (2, 3, 4), (2, 5, 4)),
    "gate": (Multiply(), (2, 4, 3, 3), (2, 4, 1, 1)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@given(seed=st.integers(0, 2**31), steps=st.integers(1, 9), in_place=st.booleans())
@torch.no_grad()
def test_products_of_spikes_add_up_to_the_product_of_the_means(
    name: str, seed: int, steps: int, in_place: bool
) -> None:
    op, *shapes = PRODUCTS[name]
    random = torch.Generator().manual_seed(seed)
    x, y = (torch.randint(-15, 16, (steps, *shape), generator=random).double() * 0.37 for shape in shapes)
    for product in (IncrementalProduct(op), CumulativeDifference(op)):  # and what float engines run in its place
        state, total = product.initial_state(x[0], y[0]), torch.zeros(())
        assert len(state) == len(product.state_names(2))
        assert all(len(part) == 2 for part in state)  # a sample is a row of every state tensor
        for t in range(steps):
            output, _, state = product.counted_step((x[t], y[t]), state, in_place=in_place)
            total = total + output
            expected = op(x[: t + 1].sum(0), y[: t + 1].sum(0)) / (t + 1)
            torch.testing.assert_close(total, expected, rtol=1e-12, atol=1e-10)


def test_only_products_are_incremental_and_their_operands_come_in_the_same_steps() -> None:
    with pytest.raises(ValueError, match="'relu' is no product of two values"):
        IncrementalProduct(ReLU())
    product = IncrementalProduct(MatMul())
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(4, 1, 2, 2)
    with pytest.raises(ValueError, match="the operands of a product have no common time: 3 and 4 steps"):
        product.unroll((x, y), product.initial_state(x[0], y[0]))
