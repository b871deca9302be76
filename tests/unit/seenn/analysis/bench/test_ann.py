"""The ANN beside the SNN, in every way that can run it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from seenn.analysis.bench.ann import ann_contenders


class Turned(nn.Module):
    """Something that torch runs and ONNX has no operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.linalg.matrix_exp(x[:, 0]).flatten(1)


def test_an_ann_without_an_onnx_form_is_run_by_torch_alone(caplog: pytest.LogCaptureFixture) -> None:
    images = torch.rand(4, 1, 3, 3)
    found = ann_contenders(Turned(), images)
    assert {contender.name.split()[0] for contender in found} == {"torch"}
    assert "left out: this ANN has no ONNX form" in caplog.text
    torch.testing.assert_close(found[0].run(images), Turned()(images))


def test_an_ann_of_signals_is_run_in_every_way() -> None:
    model, signals = nn.Sequential(nn.Conv1d(2, 3, 3), nn.Flatten(), nn.Linear(18, 2)).eval(), torch.randn(40, 2, 8)
    found = ann_contenders(model, signals)
    assert {"torch", "onnxruntime"} <= {contender.name.split()[0] for contender in found}
    with torch.no_grad():
        expected = model(signals)
    for contender in found:
        torch.testing.assert_close(contender.run(signals), expected, rtol=0.1, atol=0.1)
