from __future__ import annotations

import pytest
import torch

from seenn.metrics import expected_calibration_error


def test_confidence_that_equals_accuracy_in_every_bin_has_no_error() -> None:
    confidence = torch.tensor([0.25] * 4 + [0.75] * 4)
    correct = torch.tensor([True, False, False, False, True, True, True, False])
    assert expected_calibration_error(confidence, correct) == 0.0


def test_sure_and_always_wrong_is_the_worst() -> None:
    assert expected_calibration_error(torch.ones(5), torch.zeros(5, dtype=torch.bool)) == 1.0


def test_bins_weigh_by_their_samples() -> None:
    confidence = torch.tensor([0.9, 0.9, 0.9, 0.3], dtype=torch.float64)
    correct = torch.tensor([True, True, False, True])
    expected = 3 / 4 * abs(2 / 3 - 0.9) + 1 / 4 * abs(1 - 0.3)
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(expected, abs=1e-12)


def test_errors_cancel_inside_a_bin_only() -> None:
    confidence, correct = torch.tensor([0.4, 0.6]), torch.tensor([True, False])
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0, abs=1e-7)
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.6, abs=1e-7)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    # 0.5 shares (0, 0.5] with 0.1, where the two errors cancel; in (0.5, 1] it would not.
    confidence = torch.tensor([0.5, 0.5, 0.25], dtype=torch.float64)
    correct = torch.tensor([True, False, False])
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.25 / 3, abs=1e-12)
    edge = torch.tensor([0.5, 0.25], dtype=torch.float64)
    assert expected_calibration_error(edge, torch.tensor([True, False]), bins=2) == pytest.approx(0.125, abs=1e-12)


@pytest.mark.parametrize("bad", [-0.1, 1.1, float("nan")])
def test_confidence_outside_zero_to_one_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"1 of 2 confidences are NaN or outside \[0, 1\]"):
        expected_calibration_error(torch.tensor([0.5, bad]), torch.tensor([True, False]))


@pytest.mark.parametrize(
    ("confidence", "correct"),
    [
        (torch.rand(3), torch.ones(2).bool()),
        (torch.rand(3), torch.ones(3)),
        (torch.rand(0), torch.ones(0).bool()),
        (torch.rand(2, 2), torch.ones(2, 2).bool()),
    ],
)
def test_shapes_that_do_not_fit_are_refused(confidence: torch.Tensor, correct: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"confidence is .*, correct is .*; expected \[N\] and torch.bool \[N\]"):
        expected_calibration_error(confidence, correct)


def test_no_bins_are_refused() -> None:
    with pytest.raises(ValueError, match="bins is 0; expected at least 1"):
        expected_calibration_error(torch.ones(1), torch.ones(1).bool(), bins=0)
