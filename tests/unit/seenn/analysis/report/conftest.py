from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from seenn.analysis.report.evaluation import Evaluation
from seenn.analysis.report.samples import SampleExit
from seenn.metrics import exit_curve, exit_statistics
from seenn.metrics.energy import QuantisedANN

MakeEvaluation = Callable[..., Evaluation]


@pytest.fixture
def make_evaluation() -> MakeEvaluation:
    """Four images, T=3: a small evaluation whose parts fit together; keywords replace fields."""

    def make(**changes: Any) -> Evaluation:
        scores = torch.tensor([[0.9, 0.4, 0.5, 0.2], [0.9, 0.8, 0.6, 0.3], [0.9, 0.9, 0.9, 0.4]])
        correct = torch.tensor([[1, 0, 1, 0], [1, 1, 1, 0], [1, 1, 0, 1]]).bool()
        easy = SampleExit(index=0, label=1, prediction=1, exit_timestep=1, confidence=0.9)
        hard = SampleExit(index=3, label=0, prediction=1, exit_timestep=3, confidence=0.4)
        fields: dict[str, Any] = {
            "network": "snn.safetensors",
            "source": "resnet18",
            "data": "digits",
            "split": "test",
            "samples": 4,
            "timesteps": 3,
            "policy": {"policy": "confidence", "threshold": 0.55},
            "ann_accuracy": 1.0,
            "accuracy": 0.75,
            "accuracy_interval": (0.3, 0.95),
            "accuracy_per_timestep": (0.5, 0.75, 0.75),
            "exit": exit_statistics(torch.tensor([1, 2, 2, 3]), 3),
            "aet": 1.75,
            "oracle_aet": 1.5,
            "curve": exit_curve(scores, correct),
            "spike_rate_per_site": {"relu_1": 0.25, "a|b`c": 0.5},
            "synops": 2e6,
            "synops_full": 3e6,
            "energy_pj": 2e6,
            "energy_full_pj": 3e6,
            "ann_energy_pj": 4e6,
            "quantised": QuantisedANN(levels=33, bits=6, energy_pj=2e5),
            "integer_energy_pj": 3e5,
            "events": 1e5,
            "popcount": 2e5,
            "spikes": 3e5,
            "ann_macs": 1e6,
            "analog_macs": 1e4,
            "easiest": (easy,),
            "hardest": (hard,),
            "class_names": ("zero", "one"),
            "manifest": {"recipe": "mmse", "seed": 0},
            "seed": 0,
            "versions": {"seenn": "0.1.0"},
            "command": "seenn evaluate",
        }
        return Evaluation(**(fields | changes))

    return make


@pytest.fixture
def images() -> dict[int, torch.Tensor]:
    return {0: torch.zeros(1, 8, 8, dtype=torch.uint8), 3: torch.full((3, 8, 8), 255, dtype=torch.uint8)}
