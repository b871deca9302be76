from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from seenn.analysis.report import Evaluation
from seenn.metrics import exit_statistics

Make = Callable[..., Evaluation]


def test_json_holds_the_promised_keys_and_is_finite_json(make_evaluation: Make) -> None:
    report = json.loads(json.dumps(make_evaluation().to_json(), allow_nan=False))
    expected = {
        "ann_accuracy": 1.0,
        "accuracy": 0.75,
        "mean_timesteps": 2.0,
        "full_accuracy": 0.75,
        "accuracy_per_timestep": [0.5, 0.75, 0.75],
        "exit_histogram": [1, 2, 1],
        "exit_p95": 3,
        "synops": 2e6,
        "energy_pj": 2e6,
    }
    assert {key: report[key] for key in expected} == expected
    assert report["hardest"] == [{"index": 3, "label": 0, "prediction": 1, "exit_timestep": 3, "confidence": 0.4}]


def test_json_holds_the_pareto_front_of_the_curve(make_evaluation: Make) -> None:
    evaluation = make_evaluation()
    assert evaluation.curve is not None
    front = evaluation.curve.pareto()
    assert evaluation.to_json()["exit_curve_front"] == {
        "threshold": front.threshold.tolist(),
        "mean_timesteps": front.mean_timesteps.tolist(),
        "accuracy": front.accuracy.tolist(),
    }
    assert make_evaluation(curve=None).to_json()["exit_curve_front"] is None


def test_every_number_that_is_not_finite_is_named_at_once(make_evaluation: Make) -> None:
    with pytest.raises(ValueError, match=r"synops = inf, .*\.relu = nan|\.relu = nan, synops = inf"):
        make_evaluation(spike_rate_per_site={"relu": float("nan")}, synops=float("inf"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"energy_pj": -1.0, "synops": -2.0}, r"synops = -2.0, energy_pj = -1.0; expected 0 or more"),
        ({"ann_energy_pj": 0.0}, r"ann_energy_pj = 0.0; expected more than 0"),
        ({"accuracy": 93.0}, r"accuracy = 93.0; expected fractions from 0 to 1, not percent"),
        ({"accuracy_interval": (0.5, 1.1)}, r"accuracy_interval\[1\] = 1.1; expected fractions"),
        ({"ann_accuracy": -0.1}, r"ann_accuracy = -0.1; expected fractions"),
        ({"accuracy_per_timestep": (0.5,)}, r"timesteps is 3, accuracy_per_timestep has 1 entries"),
        ({"samples": 5}, r"samples is 5, exits are of 4; expected one N"),
        ({"exit": exit_statistics(torch.ones(4).long(), 2)}, r"the exit histogram 2; expected the same T"),
    ],
)
def test_figures_that_cannot_be_are_refused(make_evaluation: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_evaluation(**changes)
