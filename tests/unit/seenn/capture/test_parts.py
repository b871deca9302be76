"""Windows and heads folded into the batch, and layers of one or no spatial axis: through ops on images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seenn.capture import trace, trace_exported

Same = Callable[..., Any]


def parts(m: Any, x: Tensor) -> Tensor:
    return m.parts[0](x.view(-1, 2, 6, 6)).reshape(x.shape[0], -1)


def rows(m: Any, x: Tensor) -> Tensor:
    return m.parts[0](x.flatten(2)).flatten(1)


#: On [B, 4, 6, 6], or two images of two channels for each of these.
FOLDED: dict[str, nn.Module] = {
    "grouped": nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
    "plain": nn.Conv2d(2, 3, (1, 3), bias=False),
    "average": nn.AvgPool2d(3, 2, 1),
    "maximum": nn.MaxPool2d(2),
    "adaptive": nn.AdaptiveAvgPool2d((2, 3)),
    "normalised": nn.BatchNorm2d(2),
    "windows": nn.Unfold((2, 3), stride=2),
}
ROWS: dict[str, nn.Module] = {
    "conv1d": nn.Conv1d(4, 6, 5, stride=3, padding=1, dilation=2, groups=2),
    "same": nn.Conv1d(4, 2, 4, padding="same", bias=False),
    "average": nn.AvgPool1d(4, 3, 1, ceil_mode=True, count_include_pad=False),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("by", [trace, trace_exported])
def test_parts_of_an_image_go_through_layers_all_at_once(by: Any, same: Same) -> None:
    for module in FOLDED.values():
        with torch.no_grad():
            for tensor in (*module.parameters(), *(b for b in module.buffers() if b.is_floating_point())):
                tensor.uniform_(0.5, 1.5)
        same(parts, module, by=by)
    for module in ROWS.values():
        same(rows, module, by=by)


def test_borders_of_parts_of_an_image_are_their_own(same: Same) -> None:
    same(parts, nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"))


def test_tokens_are_normalised_by_channel(same: Same) -> None:
    norm = nn.BatchNorm1d(4)
    norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    same(lambda m, x: m.parts[0](x.flatten(2).transpose(1, 2).flatten(0, 1)).view(x.shape[0], -1), norm)


BODIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "windows and back": lambda m, x: F.fold(F.unfold(x, 3, 1, 1, 2), (6, 6), 3, 1, 1, 2),
    "transposed": lambda m, x: F.conv_transpose2d(x, torch.ones(4, 3, 3, 2).double(), None, 2, 1, 1, 2, 1),
    "padded by a value": lambda m, x: F.pad(x, (1, 0, 2, -1), value=0.5),
    "nothing joined": lambda m, x: torch.cat([x[:, :0], x[:, 3:], x[:, 4:]], 1),
    "one axis of a grid": lambda m, x: x + torch.meshgrid(torch.arange(6.0), torch.ones(6), indexing="ij")[0],
    "once more an image": lambda m, x: (
        x.view(-1, 36).repeat_interleave(2, 0).view(x.shape[0], -1)
        + x.flatten(1).repeat_interleave(2, 0).view(x.shape[0], -1)
    ),
    "windows of one": lambda m, x: 2 * x.repeat_interleave(1, 0),
}


@pytest.mark.parametrize("case", BODIES)
def test_calls_that_rearrange_and_add_up(case: str, same: Same) -> None:
    same(BODIES[case])


ISLANDS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "largest": lambda m, x: x.amax(1) + x.max(1)[0] + torch.max(x, 2, keepdim=True).values.mean(2, keepdim=True)[:, 0],
    "largest of two": lambda m, x: torch.max(x, x.mean(1, keepdim=True)),
    "variance": lambda m, x: x.var((2, 3)) + x.var(dim=(2, 3), unbiased=False) + torch.var(x, (2, 3), correction=0),
    "deviation": lambda m, x: torch.std(x, 1, keepdim=True) + x.std(dim=1, keepdim=True),
    "attention with a computed bias": lambda m, x: F.scaled_dot_product_attention(x, x, x, attn_mask=x.cos()),
    "local responses": lambda m, x: F.local_response_norm(x, 3, 0.5, beta=0.5, k=2.0) + F.local_response_norm(x, 2),
    "local responses by hand": lambda m, x: (
        x / F.avg_pool3d(x.pow(2).unsqueeze(1), (3, 1, 1), 1, (1, 0, 0)).squeeze(1).mul(0.5).add(2).pow(0.75)
    ),
    "contracted with a table": lambda m, x: torch.einsum("bchw,hk->bckw", x, torch.ones(6, 2).double()),
}


@pytest.mark.parametrize("by", [trace, trace_exported], ids=["fx", "export"])
@pytest.mark.parametrize("case", ISLANDS)
def test_reductions_and_products_that_stay_analog(case: str, by: Any, same: Same) -> None:
    same(ISLANDS[case], by=by, islands=True)


def test_transposed_convolutions_are_weighted_windows_that_add_up(same: Same) -> None:
    layer = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2)
    kinds = [node.op.kind for node in same(lambda m, x: m.parts[0](x), layer)]
    assert kinds == ["conv2d", "reshape", "fold", "elementwise_affine"]


def test_regions_that_only_set_a_mode_are_seen_through(same: Same) -> None:
    def body(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return m.parts[0](x).relu()

    kinds = [node.op.kind for node in same(body, nn.Conv2d(4, 3, 3), by=trace_exported)]
    assert kinds == ["conv2d", "relu"]
