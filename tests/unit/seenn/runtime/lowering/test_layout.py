"""How values lie in memory, and that engines compute the same wherever matrices meet images."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import ConvertConfig, convert_module
from seenn.core.ops import Flatten, Permute, Reshape, Slice
from seenn.runtime import make_engine
from seenn.runtime.lowering import fold
from seenn.runtime.lowering.layout import images


class Mixed(nn.Module):
    """A convolution, layers along the last of three axes, and attention between places."""

    def __init__(self, along_rows: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 8, 3, padding=1)
        self.rows = nn.Linear(6, 6) if along_rows else None
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        if self.rows is not None:
            x = F.relu(self.rows(x))
        x = x.permute(0, 2, 3, 1)
        x = x + self.narrow(F.gelu(self.wide(self.norm(x))))
        heads = x.flatten(1, 2).unflatten(2, (2, 4)).transpose(1, 2)
        x = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).flatten(2)
        return self.head(x.mean(1))


@pytest.mark.parametrize("along_rows", [False, True])
@pytest.mark.parametrize("native", [True, False])
def test_float32_computes_layers_along_any_axis_as_the_reference_does(
    along_rows: bool, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 2, 6, 6)
    network = convert_module(Mixed(along_rows).eval(), x, ConvertConfig(timesteps=4, correction="none")).network
    if not native:
        monkeypatch.setattr("seenn.native.load", lambda part: None)
    slots, rows = make_engine("float32", network, timesteps=4).open(3), torch.arange(3)
    slots.load(rows, x[:3])
    with torch.no_grad():
        expected = torch.stack([network(x[:3], t) * t for t in (1, 2, 3, 4)])
    found = torch.stack([slots.step(rows) for _ in range(4)])
    assert float((found - expected).norm() / expected.norm()) < 1e-4


def test_images_lie_with_their_channels_last_and_matrices_in_the_order_of_their_axes() -> None:
    torch.manual_seed(0)
    found = convert_module(Mixed(False).eval(), torch.randn(20, 2, 6, 6), ConvertConfig(timesteps=4))
    program = fold(found.network)
    last = images(program)
    shapes = {name: buffer.shape for name, buffer in program.buffers.items() if len(buffer.shape) == 3}
    assert last
    assert all(shapes[name][1:] == (6, 6) for name in last)
    assert {shapes[name] for name in shapes.keys() - last} >= {(6, 6, 8), (6, 6, 12), (2, 36, 36)}


def test_what_is_rearranged_is_read_where_it_is_and_written_only_where_a_reader_needs_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 2, 6, 6)
    network = convert_module(Mixed(False).eval(), x, ConvertConfig(timesteps=4, correction="none")).network
    slots = make_engine("float32", network, timesteps=4).open(4)
    slots.load(torch.arange(4), x[:4])
    moves = {node.name for node in network.graph.nodes if isinstance(node.op, Permute | Reshape | Flatten | Slice)}
    written = {thunk.label for thunk in slots._bound(0, 0, 4) if thunk.actions}  # type: ignore[attr-defined]
    assert len(moves & written) < len(moves) / 2
    apart = torch.tensor([0, 2])
    with torch.no_grad():
        expected = torch.stack([network(x[apart], t) * t for t in (1, 2, 3)])
    found = torch.stack([slots.step(rows) for rows in (apart, apart, apart)])
    assert float((found - expected).norm() / expected.norm()) < 1e-4
