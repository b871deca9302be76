from __future__ import annotations

import json
from collections.abc import Callable

from seenn.analysis.report.evaluation import Evaluation

Make = Callable[..., Evaluation]


def test_json_holds_the_expected_keys_and_is_finite_json(make_evaluation: Make) -> None:
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
