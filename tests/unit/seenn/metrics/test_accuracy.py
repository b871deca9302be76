from __future__ import annotations

import pytest
import torch

from seenn.metrics import accuracy_per_timestep, correct_per_timestep

LOGITS = torch.tensor(
    [
        [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]],
        [[1.0, 2.0], [2.0, 0.0], [1.0, 3.0]],
    ]
)  # [T=2, N=3, K=2]
LABELS = torch.tensor([1, 0, 1])


def test_correct_follows_the_argmax_of_the_sum_at_each_timestep() -> None:
    expected = torch.tensor([[False, True, False], [True, True, True]])
    assert torch.equal(correct_per_timestep(LOGITS, LABELS), expected)


def test_accuracy_is_the_float64_mean_over_samples() -> None:
    accuracy = accuracy_per_timestep(LOGITS, LABELS)
    assert torch.equal(accuracy, torch.tensor([1 / 3, 1.0], dtype=torch.float64))


def test_negative_infinity_may_mask_a_class() -> None:
    masked = LOGITS.clone()
    masked[..., 0] = -torch.inf
    assert accuracy_per_timestep(masked, LABELS).tolist() == [2 / 3, 2 / 3]


def test_a_single_nan_logit_is_refused() -> None:
    logits = LOGITS.clone()
    logits[0, 2, 1] = torch.nan
    with pytest.raises(ValueError, match=r"logits_sum is NaN for 1 of 3 samples"):
        accuracy_per_timestep(logits, LABELS)


@pytest.mark.parametrize("labels", [[0, 1, 2], [-1, 0, 1]])
def test_labels_outside_the_classes_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match=r"labels range from -?\d to \d; expected 0 to 1 for 2 classes"):
        accuracy_per_timestep(LOGITS, torch.tensor(labels))


@pytest.mark.parametrize("logits", [LOGITS[0], LOGITS[:, :2], LOGITS[:0], LOGITS[:, :, :0]])
def test_logits_of_another_shape_are_refused(logits: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"logits_sum is \[.*\]; expected \[T, N, K\] .* N = 3"):
        accuracy_per_timestep(logits, LABELS)


@pytest.mark.parametrize("labels", [LABELS.float(), LABELS.bool(), LABELS[None], LABELS[:0]])
def test_labels_that_are_not_an_integer_vector_are_refused(labels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"labels is torch\.\w+ \[.*\]; expected integers \[N\]"):
        accuracy_per_timestep(LOGITS, labels)
