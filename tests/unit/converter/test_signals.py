"""Signals ``[B, C, L]`` and vectors ``[B, F]`` from a model to answers with exits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import seenn
from converter import convert
from seenn import Batch


def signals(*shape: int) -> tuple[Tensor, Tensor]:
    """Two classes that differ in their mean along the first channel or column."""
    labels = torch.arange(200) % 2
    x = torch.rand(200, *shape, generator=torch.Generator().manual_seed(0))
    x[:, 0] += labels.view(-1, *[1] * (len(shape) - 1))
    return x, labels


MODELS = {
    "signals": (lambda: nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
                                      nn.Conv1d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(),
                                      nn.Linear(8, 2)), (2, 16)),
    "vectors": (lambda: nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(),
                                      nn.Linear(16, 16), nn.LeakyReLU(), nn.Linear(16, 2)), (10,)),
}  # fmt: skip


@pytest.mark.parametrize("kind", MODELS)
def test_as_many_samples_as_a_label_has_axes_are_all_answered(kind: str) -> None:
    make, shape = MODELS[kind]
    torch.manual_seed(0)
    x = signals(*shape)[0]
    snn = convert(make().eval(), x[:64], timesteps=2, force=True, task="values")
    expected = snn.predict(x[:2]).outputs
    for two in ((x[0], x[1]), [x[0], x[1]], (x[0].numpy(), x[1].numpy())):
        torch.testing.assert_close(snn.predict(two).outputs, expected)
    torch.testing.assert_close(torch.stack([found.outputs for found in snn.stream((x[0], x[1]))]), expected)
    with pytest.raises(ValueError, match="shape"):
        snn.predict([x[0], x[1][..., :-2]])


@pytest.mark.parametrize("kind", MODELS)
def test_a_trained_model_keeps_its_answers_on_every_engine_and_with_exits(kind: str) -> None:
    torch.manual_seed(0)
    make, shape = MODELS[kind]
    model, (x, labels) = make(), signals(*shape)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x[:100]), labels[:100]).backward()
        optimiser.step()
    snn = convert(model.eval(), Batch(x[:160], labels[:160]))
    assert snn.manifest["check"]["agreement"] >= 0.95
    right = labels[160:]
    for engine in ("reference", "float32"):
        assert float((snn.predict(x[160:], engine=engine).labels == right).double().mean()) >= 0.9
    early = snn.predict(x[160:], policy=seenn.ConfidenceExit(threshold=0.8))
    assert float(early.exit_timestep.double().mean()) < snn.timesteps
    assert float((early.labels == right).double().mean()) >= 0.9
