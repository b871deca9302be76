"""Models that fx cannot follow, through torch.export: the same handlers, the same graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from converter.trace import capture_graph
from seenn.capture import to_graph, trace, trace_exported
from seenn.errors import UnsupportedError

Same = Callable[..., Any]


def sized(m: Any, x: Tensor) -> Tensor:
    """Branches and arithmetic on sizes, which an fx trace refuses."""
    for _ in range(x.shape[1] // 2):
        x = F.relu(m.parts[0](x))
    if x.shape[-1] > 4:
        x = F.pad(x, (0, max(7 - x.shape[-1], 0), 0, 0))
    return x[:, : max(x.shape[1] // 2, 1)].chunk(2, dim=2)[0][:, 0].mean(-1)


def layers(m: Any, x: Tensor) -> Tensor:
    x = m.parts[1](m.parts[0](x)).relu_()
    x = F.hardtanh(F.avg_pool2d(x, 2, 2, 0, True), 0.0, 6.0) + m.parts[2](F.max_pool2d(x, 2))
    x = F.dropout(F.interpolate(x, scale_factor=2, mode="bilinear"), 0.5, m.training)
    return m.parts[3](F.leaky_relu(F.adaptive_avg_pool2d(x, 1).flatten(1) - 0.5, 0.1)).view(-1, 5)


def test_control_flow_on_sizes_is_followed(same: Same) -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    with pytest.raises(UnsupportedError, match="cannot be traced"):
        same(sized, conv)
    graph = same(sized, conv, by=trace_exported)
    assert [node.op.kind for node in graph].count("relu") == 2


def test_calls_of_either_trace_become_the_same_ops_under_the_same_names(same: Same) -> None:
    def parts() -> tuple[nn.Module, ...]:
        torch.manual_seed(0)
        return nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Linear(4, 5)

    followed, exported = same(layers, *parts()), same(layers, *parts(), by=trace_exported)
    assert [node.op.kind for node in exported] == [node.op.kind for node in followed]
    assert {"parts.0", "parts.1", "parts.2", "parts.3"} <= {node.name for node in exported}


def _rows(m: Any, x: Tensor) -> Tensor:
    """Pixels as tokens ``[B, 36, 4]``, in code that an fx trace does not follow."""
    assert len(x) > 0
    return x.flatten(2).transpose(1, 2)


FUTURE = torch.ones(36, 36, dtype=torch.float64).triu(1)
ATTENDING: dict[str, tuple[Callable[[], nn.Module], Callable[..., Tensor]]] = {
    "attention": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x)[0]),
    "without weights": (
        lambda: nn.MultiheadAttention(4, 2, bias=False, batch_first=True),
        lambda m, x: m(x, x, x, need_weights=False)[0],
    ),
    "weights": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x)[1] @ x),
    "weights of each head": (
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        lambda m, x: (m(x, x, x, average_attn_weights=False)[1] @ x[:, None]).sum(1),
    ),
    "tokens first": (
        lambda: nn.MultiheadAttention(4, 2),
        lambda m, x: m(*[x.transpose(0, 1)] * 3)[0].transpose(0, 1),
    ),
    "other keys and values": (
        lambda: nn.MultiheadAttention(4, 2, kdim=3, vdim=1, batch_first=True),
        lambda m, x: m(x, x[..., :3], x[..., 3:])[0],
    ),
    "masked": (
        lambda: nn.MultiheadAttention(4, 2, batch_first=True),
        lambda m, x: m(x, x, x, attn_mask=FUTURE.bool())[0],
    ),
    "biased": (lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, x: m(x, x, x, attn_mask=FUTURE)[0]),
    "as a function": (
        lambda: nn.MultiheadAttention(4, 2),
        lambda m, x: F.multi_head_attention_forward(
            *[x.transpose(0, 1)] * 3,
            4,
            2,
            m.in_proj_weight,
            m.in_proj_bias,
            None,
            None,
            False,
            0.0,
            m.out_proj.weight,
            m.out_proj.bias,
            training=False,
            need_weights=False,
        )[0].transpose(0, 1),
    ),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2),
        lambda m, x: m(x),
    ),
    "encoder, normalised first": (
        lambda: nn.TransformerEncoderLayer(4, 2, 8, norm_first=True, activation="gelu"),
        lambda m, x: m(x.transpose(0, 1)).transpose(0, 1),
    ),
}


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_of_torch_keeps_images_apart(name: str, same: Same) -> None:
    make, call = ATTENDING[name]
    torch.manual_seed(0)
    graph = same(lambda m, x: call(m.parts[0], _rows(m, x)).flatten(1), make(), by=trace_exported, islands=True)
    assert "softmax" in [node.op.kind for node in graph]


def test_attention_to_more_than_the_image_is_refused() -> None:
    class More(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, add_zero_attn=True, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0] if len(x) else x

    with pytest.raises(UnsupportedError, match=r"attention \("):
        capture_graph(More().eval(), torch.randn(2, 5, 4)).checked(strict=False)


def test_weights_computed_from_weights_are_folded(same: Same) -> None:
    class Standardised(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            weight = F.batch_norm(self.weight.reshape(1, self.out_channels, -1), None, None, training=True)
            return F.conv2d(input, weight.reshape_as(self.weight), self.bias)

    normalised = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 3))
    for by in (trace, trace_exported):
        for conv in (Standardised(4, 3, 3), normalised):
            graph = same(lambda m, x: m.parts[0](x).relu(), conv, by=by)
            assert [node.op.kind for node in graph] == ["conv2d", "relu"]


def test_branches_on_values_are_refused() -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() if x.sum() > 0 else -x

    with pytest.raises(UnsupportedError, match=r"Branching cannot be traced .* must not branch on the values in it"):
        to_graph(trace_exported(Branching(), torch.zeros(1, 4, 6, 6)))


def test_nothing_is_printed_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else x.relu()

    with pytest.raises(UnsupportedError, match="cannot be traced"):
        trace_exported(Branching(), torch.zeros(2, 3))
    assert capfd.readouterr() == ("", "")


def test_a_helper_that_copies_before_it_reshapes_is_followed() -> None:
    torch.manual_seed(0)
    block = torchvision.models.swin_transformer.ShiftedWindowAttention(8, [2, 2], [1, 1], 2)
    model = nn.Sequential(
        torchvision.ops.Permute([0, 2, 3, 1]), block, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 3)
    ).eval()
    images = torch.randn(2, 8, 4, 4)
    graph = capture_graph(model.requires_grad_(False), images).checked(strict=False)
    torch.testing.assert_close(graph(images), model(images))
