from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from seenn.core.ops import BorderPad, Resize
from seenn.core.ops.base import StatelessOp


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(6, 10), (2, 3), (7, 4)])
def test_it_is_interpolate(mode: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 3, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Resize(size=size, mode=mode)(x), F.interpolate(x, size, mode=mode))  # type: ignore[arg-type]


def test_corners_are_aligned_on_request() -> None:
    x = torch.randn(1, 2, 3, 3)
    expected = F.interpolate(x, (5, 5), mode="bilinear", align_corners=True)
    assert torch.equal(Resize(size=5, mode="bilinear", align_corners=True)(x), expected)


@pytest.mark.parametrize(
    "op",
    [
        Resize(size=(6, 10)),
        Resize(size=(6, 7), mode="bilinear"),
        Resize(size=(2, 3), mode="bicubic"),
        Resize(size=(5, 3), mode="bilinear", align_corners=True),
        BorderPad(amounts=(1, 2, 2, 0), mode="reflect"),
        BorderPad(amounts=(1, 2, 0, 1), mode="circular"),
    ],
    ids=lambda op: f"{op.kind}-{op.mode}",
)
def test_events_are_routed_to_every_output_that_they_enter(op: StatelessOp) -> None:
    one = torch.zeros(1, 1, 3, 5, dtype=torch.float64)
    for place in range(15):
        event = one.clone()
        event.view(-1)[place] = 1.0
        assert torch.equal(op.route(event), (op(event) != 0).double())


def test_the_lowest_border_never_wins() -> None:
    x = -torch.rand(1, 1, 2, 2)
    padded = BorderPad(amounts=(1, 1, 1, 1), mode="lowest")(x)
    assert torch.equal(F.max_pool2d(padded, 3, 1).amax((2, 3)), x.amax((2, 3)))
