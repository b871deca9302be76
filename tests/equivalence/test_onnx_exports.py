"""What torch itself exports, both ways, comes back equal; benchmarks/onnx_exports.py does ten whole families."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from converter import canonical_graph
from converter.onnx_import import import_onnx


class Net(nn.Module):
    """What classifiers are made of: uneven strides, a channel shuffle, residuals, ReLU6, concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.left, self.right = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.act, self.pool = nn.ReLU6(), nn.MaxPool2d(3, 2, 1, ceil_mode=True)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))
        a, b = x.chunk(2, dim=1)
        y = self.act(torch.cat([self.left(a), self.right(b)], 1))
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        y = torch.cat([x + y, nn.functional.avg_pool2d(x, 3, 1, 1)], 1)
        return self.head(self.drop(y.mean((2, 3))))


@pytest.mark.parametrize("dynamo", [False, True])
def test_exported_network_is_imported_and_understood(dynamo: bool, tmp_path: Path) -> None:
    if dynamo:
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net, images = Net().eval(), torch.randn(3, 3, 21, 21)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters announce their own deprecations
        if dynamo:
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(net, (images,), path, dynamo=True, dynamic_shapes=shapes, verbose=False)
        else:
            names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}}
            torch.onnx.export(net, (images,), path, dynamo=False, **names)
    imported = import_onnx(path)
    with torch.no_grad():
        expected, found = net(images), imported.module(images)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    difference = canonical_graph(imported.module, images).difference
    assert difference < 1e-9


def test_export_for_one_image_takes_any_number(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, images = Net().eval(), torch.randn(3, 3, 21, 21)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (images[:1],), path, dynamo=False)
    imported = import_onnx(path)
    assert imported.notes == ("the batch size 1 was baked in; any will do now",)
    with torch.no_grad():
        assert torch.allclose(imported.module(images), net(images), atol=1e-5)
