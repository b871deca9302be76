from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from seenn.metrics import average_exit_time, oracle_exit_time

CORRECT = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=7)).map(torch.from_numpy)


def published_aet(correct: torch.Tensor) -> float:
    timesteps, samples = correct.shape
    sizes = [0, *correct.sum(dim=1).tolist()]
    gained = sum(t * (sizes[t] - sizes[t - 1]) for t in range(1, timesteps + 1))
    return float((gained + timesteps * (samples - sizes[-1])) / samples)


@given(CORRECT)
def test_aet_is_the_published_equation(correct: torch.Tensor) -> None:
    assert average_exit_time(correct) == pytest.approx(published_aet(correct), abs=1e-12)


@given(CORRECT)
def test_oracle_is_the_mean_first_right_step(correct: torch.Tensor) -> None:
    columns = correct.T.tolist()
    first = [column.index(True) + 1 if any(column) else len(column) for column in columns]
    assert oracle_exit_time(correct) == pytest.approx(sum(first) / len(first), abs=1e-12)


@given(CORRECT)
def test_oracle_never_exceeds_aet_and_equals_it_where_no_answer_turns_wrong(correct: torch.Tensor) -> None:
    assert 1 <= oracle_exit_time(correct) <= average_exit_time(correct) <= len(correct)
    settled = correct.long().cummax(dim=0).values.bool()
    assert oracle_exit_time(settled) == average_exit_time(settled) == oracle_exit_time(correct)


def test_the_two_differ_where_a_right_answer_turns_wrong() -> None:
    correct = torch.tensor([[True], [False], [True]])
    assert oracle_exit_time(correct) == 1.0
    assert average_exit_time(correct) == 2.0


@pytest.mark.parametrize("metric", [average_exit_time, oracle_exit_time])
@pytest.mark.parametrize("correct", [torch.ones(2, 3), torch.ones(3).bool(), torch.ones(2, 0).bool()])
def test_anything_but_a_boolean_matrix_is_refused(metric: type, correct: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=rf"{metric.__name__}: correct is .*; expected torch.bool \[T, N\]"):
        metric(correct)


@given(st.integers(1, 9))
def test_never_right_costs_every_step(timesteps: int) -> None:
    never = torch.zeros(timesteps, 3, dtype=torch.bool)
    assert oracle_exit_time(never) == average_exit_time(never) == timesteps
