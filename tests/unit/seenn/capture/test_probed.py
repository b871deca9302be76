"""Calls that are linear in the image: in the graph they compute what torch does, and every engine runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import convert
from seenn import Batch
from seenn.capture import to_graph, trace, trace_exported

Call = Callable[[Any, Tensor], Tensor]


class Body(nn.Module):
    """A function of the module's tables and of images ``[B, 4, 6, 6]``."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        turn = F.affine_grid(torch.tensor([[[1.0, 0.2, 0.0], [-0.1, 0.9, 0.0]]]), [1, 4, 6, 6], align_corners=False)
        for name, table in {
            "bounds": torch.rand(4, 1, 1, generator=random) + 0.2,
            "places": torch.randint(0, 6, (1, 4, 6, 6), generator=random),
            "order": torch.tensor([2, 0, 1, 3]),
            "square": torch.randn(6, 6, generator=random),
            "stacked": torch.randn(4, 6, 6, generator=random),
            "kernel": torch.randn(4, 2, 3, 3, generator=random),
            "grid": turn,
        }.items():
            self.register_buffer(name, table)
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


def shifted(m: Any, x: Tensor) -> Tensor:
    """Channels moved between rows, as it is usually written."""
    out = torch.zeros_like(x)
    out[:, :2, :-1] = x[:, :2, 1:]
    out[:, 2:3, 1:] = x[:, 2:3, :-1]
    return F.batch_norm(out, m.bounds.flatten(), m.bounds.flatten())


def filled(m: Any, x: Tensor) -> Tensor:
    x = x.clone()
    x[:, 3] = 0.5
    x[:, 3, 0] += x[:, 2, 1]
    x[..., 1:] *= 2
    return x


CASES: dict[str, Call] = {
    "lerp to a constant, by constants": lambda m, x: torch.lerp(x, m.bounds, 0.3) + torch.lerp(m.bounds, x, m.bounds),
    "products and quotients by constants, added": lambda m, x: (
        torch.addcmul(x, m.bounds, m.bounds)
        + torch.addcmul(m.bounds, x, m.bounds, value=0.5)
        + x.addcdiv(x.flip(1), m.bounds + 1)
    ),
    "quarter turns": lambda m, x: torch.rot90(x, 1, (2, 3)) + x.rot90(3, [2, 3]),
    "triangles": lambda m, x: torch.tril(x) + x.triu(1),
    "running sums and differences": lambda m, x: (
        torch.diff(x.cumsum(1), dim=2) + x.flip(2).cumsum(2).diff(2, 3)[..., :1].mean(2, keepdim=True)
    ),
    "integrals": lambda m, x: torch.trapezoid(x, dim=3) + torch.cumulative_trapezoid(x)[..., -1],
    "places by a table": lambda m, x: x.gather(3, m.places.repeat(x.shape[0], 1, 1, 1)) + x.take_along_dim(m.places, 2),
    "several indices": lambda m, x: x[:, :, m.order, m.order] + x[:, m.order[:, None], 1, m.order[None]],
    "an index in two axes": lambda m, x: x[:, m.places[0, 0, :2, :2] % 4],
    "fixed masks": lambda m, x: (
        torch.where(m.bounds > 0.5, x, 2.0) + x.masked_fill(m.places > 2, 3.0) + torch.where(m.places > 2, x, -x)
    ),
    "scattered": lambda m, x: (
        torch.diagonal_scatter(x, x[:, :, 0], 0, 2, 3)
        + torch.slice_scatter(x, x[:, :2], 1, 2)
        + x.select_scatter(x[:, 1], 1, 0)
        + x.index_fill(1, m.order[:2], 0.5)
        + torch.diag_embed(x[:, :, 0])
    ),
    "halves": lambda m, x: torch.hsplit(x, 2)[1] + x.unsafe_chunk(2, 1)[0] + torch.column_stack([x[:, :1], x[:, 3:]]),
    "turned over": lambda m, x: x.mT + x.mH + torch.fliplr(x) + +x,
    "a matrix on either side": lambda m, x: m.square @ x @ m.square + (x @ m.square[0]).unsqueeze(-1),
    "contractions with a table": lambda m, x: (
        torch.einsum("bchw,wk->bkhc", x, m.square)[:, :4] + torch.einsum("ck,bkhw->bchw", m.square[:4, :4], x)[..., :4]
    ),
    "a table by channel": lambda m, x: torch.einsum("bchw,chk->bckw", x, m.stacked),
    "contractions without": lambda m, x: torch.einsum("bchw->bhwc", x) + torch.einsum("bchw->bc", x)[:, None, None],
    "weights by einsum": lambda m, x: (
        torch.einsum("bchw,ch->bchw", x, m.stacked[:, 0]) + torch.einsum("bchw,k->bckhw", x, m.square[0])[:, :, 0]
    ),
    "tensordot": lambda m, x: torch.tensordot(x, m.square, ([3], [0])) + torch.inner(x, m.square),
    "sizes that a scale does not give": lambda m, x: F.interpolate(x, scale_factor=1.3, mode="bilinear"),
    "the same along a row": lambda m, x: F.interpolate(x.flatten(2), scale_factor=1.3, mode="linear"),
    "averages of areas": lambda m, x: (
        F.interpolate(x, (4, 5), mode="area") + F.interpolate(x, (4, 5), mode="bicubic", antialias=True)
    ),
    "places of a grid": lambda m, x: F.grid_sample(x, m.grid.repeat(x.shape[0], 1, 1, 1), align_corners=False),
}


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("case", CASES)
def test_calls_that_are_linear_in_the_image_are_expressed(case: str, by: Any) -> None:
    same(CASES[case], by)


def test_values_written_into_parts_of_a_tensor_are_followed() -> None:
    same(shifted, trace_exported)
    same(filled, trace_exported)


def same(call: Call, by: Any) -> None:
    model = Body(call).double().eval()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_graph(by(model, x))(x), model(x), rtol=1e-12, atol=1e-12)


ANALOG: dict[str, Call] = {
    "a matrix for each channel": lambda m, x: x @ m.stacked + m.stacked @ x,
    "causal": lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "a mask": lambda m, x: F.scaled_dot_product_attention(x, x, x, m.square.abs() < 2),
    "added": lambda m, x: F.scaled_dot_product_attention(x, x, x, m.square.masked_fill(m.square > 1, -torch.inf)),
    "filled before a softmax": lambda m, x: (x @ x.mT).masked_fill(m.square > 1, -torch.inf).softmax(-1),
}


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("case", ANALOG)
def test_products_with_constants_and_masks_that_are_the_same_for_all_images(case: str, by: Any) -> None:
    model = Body(ANALOG[case]).double().eval()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(to_graph(by(model, x), strict=False)(x), model(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("first", "activation"), [(False, "relu"), (True, "gelu"), (False, nn.GELU(approximate="tanh"))], ids=str
)
def test_encoders_of_torch_are_attention_and_two_layers(first: bool, activation: Any) -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(6, 2, 8, activation=activation, norm_first=first)
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    for one in (layer, nn.TransformerEncoder(layer, 2, nn.LayerNorm(6), enable_nested_tensor=False)):
        model = Encoded(one).double().eval()
        torch.testing.assert_close(to_graph(trace(model, x), strict=False)(x), model(x), rtol=1e-9, atol=1e-9)


class Encoded(nn.Module):
    """Rows of all channels as tokens, which come first by default."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.encoder(x.flatten(1, 2).transpose(0, 1), is_causal=False)
        return tokens.transpose(0, 1)


class Classifier(nn.Module):
    """A call between two layers with activations."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.body = nn.Conv2d(2, 4, 3, padding=1), Body(call)
        with torch.no_grad():
            size = self.body(self.first(torch.zeros(1, 2, 6, 6))).numel()
        self.second, self.head = nn.Linear(size, 16), nn.Linear(16, 3)
        with torch.no_grad():
            self.second.weight.mul_(2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(self.first(x).relu()).relu()
        found: Tensor = self.head(self.second(x.flatten(1)).relu())
        return found


RUN: dict[str, Call] = {
    **{name: CASES[name] for name in ("quarter turns", "triangles", "running sums and differences", "fixed masks")},
    **{name: CASES[name] for name in ("places by a table", "several indices", "scattered", "places of a grid")},
    **{name: CASES[name] for name in ("a table by channel", "weights by einsum", "averages of areas")},
    "a factor and a summand each": lambda m, x: x * m.stacked.abs() + m.stacked.abs(),
    "values without room": lambda m, x: F.conv_transpose2d(x, m.kernel, None, 3, 1),
    "gaps": lambda m, x: F.fold(F.unfold(x, 2, stride=4), (7, 7), 2, stride=4),
    "written into parts": shifted,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", RUN)
def test_every_engine_runs_them(case: str) -> None:
    model, x = Classifier(RUN[case]).eval(), torch.rand(240, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(x).argmax(1)
    snn = convert(model, Batch(x[:200], labels[:200]), timesteps=16)
    reference = snn.predict(x[200:], engine="reference").logits_sum
    for engine, tolerance in (("float32", 1e-5), ("int8", 0.1)):
        found = snn.predict(x[200:], engine=engine).logits_sum
        assert float((found - reference).abs().max() / reference.abs().max()) <= tolerance, engine
