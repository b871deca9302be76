"""What torch exports of models that compute with constants, norms and attention, in each of its ways."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from converter import convert
from converter.onnx_import import import_onnx


class Cosine(nn.Module):
    """Scores by the angle between features and the weights of each class."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        norms = x.norm(dim=1).mean((1, 2)).unsqueeze(1)
        return F.linear(F.normalize(x.mean((2, 3))), F.normalize(self.head)) + norms


class Masked(nn.Module):
    """Buffers say which values count, and which tokens attend to which."""

    mask: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 5)
        self.register_buffer("mask", torch.rand(8, 8) > 0.5)
        self.register_buffer("table", torch.rand(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x)).masked_fill(self.mask, 0.5)
        x = torch.where(self.mask, self.table, x).flatten(2)
        shut = torch.ones(8, 8, dtype=torch.bool).triu(1)
        attended = (x @ x.transpose(1, 2)).masked_fill(shut, float("-inf")).softmax(-1) @ x
        return self.head(attended.mean(2))


class Token(nn.Module):
    """A class token in front of the patches, as vision transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 2, 2), nn.Parameter(torch.randn(1, 1, 8))
        self.places, self.mix, self.head = nn.Parameter(torch.randn(1, 17, 8)), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.places
        return self.head(F.relu(self.mix(x)).mean(1) + x[:, 0])


class Attention(nn.Module):
    """Tokens along the first axis; torch's own modules bring them there, and the heads into the batch."""

    batch_first, weights = True, False

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.head = nn.Conv2d(3, 8, 2, 2), nn.Linear(8, 5)
        self.mix = self.mixing()

    def mixing(self) -> nn.Module:
        return nn.MultiheadAttention(8, 2, batch_first=self.batch_first)

    def mixed(self, x: Tensor) -> Tensor:
        return x + self.mix(x, x, x, need_weights=self.weights)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.patches(x)).flatten(2)
        x = self.mixed(x.transpose(1, 2) if self.batch_first else x.permute(2, 0, 1))
        return self.head(x.mean(1 if self.batch_first else 0))


class Weighted(Attention):
    """With the weights, which nobody reads: torch computes it otherwise then."""

    weights = True


class TokensFirst(Attention):
    """As torch's default is."""

    batch_first = False


class Encoder(Attention):
    """A layer of a transformer, tokens first, of which one is read."""

    batch_first = False

    def mixing(self) -> nn.Module:
        return nn.TransformerEncoderLayer(8, 2, 16)

    def mixed(self, x: Tensor) -> Tensor:
        x = self.mix(x)
        return x + x[:1]


EXPORTS = {
    "14": {"dynamo": False, "opset_version": 14, "input_names": ["x"], "dynamic_axes": {"x": {0: "batch"}}},
    "for two images": {"dynamo": False, "opset_version": 14},
    "for one image": {"dynamo": False, "opset_version": 17},
    "dynamo": {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("batch")},), "verbose": False},
}


@pytest.mark.parametrize("way", EXPORTS)
@pytest.mark.parametrize("kind", [Cosine, Masked, Token, Attention, Weighted, TokensFirst, Encoder])
def test_what_torch_exports_is_imported_and_spikes(kind: type[nn.Module], way: str, tmp_path: Path) -> None:
    if way == "dynamo":
        pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    net, images = kind().eval(), torch.randn(24, 3, 8, 8)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (images[: 1 if "one" in way else 2],), path, **EXPORTS[way])  # type: ignore[arg-type]
    imported = import_onnx(path)
    assert imported.difference <= 1e-5
    with torch.no_grad():
        expected, found = net(images), imported.module(images)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    snn = convert(str(path), images, timesteps=16)
    assert snn.predict(images[:2]).logits_sum.shape == (2, 5)
