from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from torch import Tensor

from seenn.errors import CalibrationError
from seenn.metrics import ExitCurve, exit_curve

# Values drawn from a short list make ties within a sample, between samples and between timesteps.
TIED = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.9, 1.0])
ANY = st.floats(-(2.0**99), 2.0**99, width=32)


@st.composite
def runs(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    shape = draw(array_shapes(min_dims=2, max_dims=2, max_side=6))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = draw(arrays(dtype, shape, elements=st.one_of(TIED, ANY).map(dtype)))
    return torch.from_numpy(scores), torch.from_numpy(draw(arrays(bool, shape)))


def apply_rule(scores: Tensor, correct: Tensor, threshold: float) -> tuple[float, float]:
    """(mean timesteps, accuracy) of 'stop at the first t with score > threshold', sample by sample."""
    stops = scores > threshold  # in the scores' own type, as an engine compares
    exits = []
    for n in range(scores.shape[1]):
        early = [t for t in range(len(scores) - 1) if stops[t, n]]
        exits.append(early[0] if early else len(scores) - 1)
    right = sum(bool(correct[t, n]) for n, t in enumerate(exits))
    return (sum(exits) + len(exits)) / len(exits), right / len(exits)


@given(runs())
def test_every_threshold_gives_exactly_its_point(run: tuple[Tensor, Tensor]) -> None:
    curve = exit_curve(*run)
    for c, mean, accuracy in zip(
        curve.threshold.tolist(), curve.mean_timesteps.tolist(), curve.accuracy.tolist(), strict=True
    ):
        assert apply_rule(*run, c) == (mean, accuracy)


@given(runs())
def test_every_threshold_has_the_energy_of_its_exits(run: tuple[Tensor, Tensor]) -> None:
    scores, correct = run
    spent = torch.arange(1.0, scores.numel() + 1).view(scores.shape).double().sqrt().cumsum(0)
    curve = exit_curve(scores, correct, spent)
    assert curve.mean_energy_pj is not None
    for index, threshold in enumerate(curve.threshold.tolist()):
        stops = (scores > threshold).to(torch.uint8)
        stops[-1] = 1
        expected = spent.gather(0, stops.argmax(0)[None]).mean().item()
        assert curve.mean_energy_pj[index].item() == pytest.approx(expected)
        assert curve.mean_energy_pj[curve.best_within(expected + 1e-6, curve.mean_energy_pj)].item() <= expected + 1e-6
    with pytest.raises(ValueError, match=r"best_within: got 0.0; expected at least [\d.]+"):
        curve.best_within(0.0, curve.mean_energy_pj)
    with pytest.raises(ValueError, match=r"energies are \[1, 1\]; expected"):
        exit_curve(torch.cat([scores, scores]), torch.cat([correct, correct]), torch.ones(1, 1))


@given(runs(), st.one_of(TIED, ANY))
def test_no_other_threshold_gives_another_point(run: tuple[Tensor, Tensor], extra: float) -> None:
    curve = exit_curve(*run)
    points = set(zip(curve.mean_timesteps.tolist(), curve.accuracy.tolist(), strict=True))
    assert {apply_rule(*run, c) for c in (extra, *run[0].flatten().tolist())} <= points


@given(runs())
def test_curve_rises_from_one_step_to_all_of_them(run: tuple[Tensor, Tensor]) -> None:
    scores, correct = run
    curve = exit_curve(scores, correct)
    assert (curve.mean_timesteps.diff() > 0).all()
    assert (curve.threshold.diff() > 0).all()
    assert (curve.mean_timesteps[0], curve.mean_timesteps[-1]) == (1, len(scores))
    assert curve.accuracy[0] == correct[0].double().mean()
    assert curve.accuracy[-1] == correct[-1].double().mean()


@given(runs(), st.floats(0, 1), st.floats(1, 6))
def test_cheapest_and_best_within_search_the_whole_curve(
    run: tuple[Tensor, Tensor], min_accuracy: float, max_steps: float
) -> None:
    curve = exit_curve(*run)
    points = list(zip(curve.mean_timesteps.tolist(), curve.accuracy.tolist(), strict=True))
    index = curve.best_within(max_steps)
    assert points[index] == max((p for p in points if p[0] <= max_steps), key=lambda p: (p[1], -p[0]))
    reached = [p for p in points if p[1] >= min_accuracy]
    if reached:
        assert points[curve.cheapest(min_accuracy)] == min(reached)
    else:
        with pytest.raises(CalibrationError, match="no exit threshold reaches"):
            curve.cheapest(min_accuracy)


@given(runs())
def test_pareto_keeps_exactly_the_points_that_no_cheaper_one_matches(run: tuple[Tensor, Tensor]) -> None:
    curve = exit_curve(*run)
    kept = curve.pareto().threshold.tolist()
    accuracy = curve.accuracy.tolist()
    better = [c for i, c in enumerate(curve.threshold.tolist()) if all(accuracy[i] > a for a in accuracy[:i])]
    assert kept == better


def test_softmax_scores_of_many_samples_meet_the_rule_at_sampled_thresholds() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_sum = torch.randn(16, 2000, 10, generator=generator).cumsum(dim=0)
    scores = logits_sum.softmax(dim=-1).amax(dim=-1)
    correct = torch.rand(16, 2000, generator=generator) < 0.8
    curve = exit_curve(scores, correct)
    for index in range(0, len(curve), len(curve) // 7):
        point = (float(curve.mean_timesteps[index]), float(curve.accuracy[index]))
        assert apply_rule(scores, correct, float(curve.threshold[index])) == point


def test_unreachable_accuracy_names_the_best_there_is() -> None:
    curve = exit_curve(torch.tensor([[0.5, 0.6]]), torch.tensor([[True, False]]))
    with pytest.raises(CalibrationError, match=r"accuracy of 0\.9000: the best is 0\.5000 at 1\.00 mean timesteps"):
        curve.cheapest(0.9)


def test_less_than_one_step_is_refused() -> None:
    curve = exit_curve(torch.tensor([[0.5]]), torch.tensor([[True]]))
    with pytest.raises(ValueError, match=r"got 0\.5; expected at least 1"):
        curve.best_within(0.5)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="exit_curve: 1 of 2 scores are NaN or infinite"):
        exit_curve(torch.tensor([[0.5], [bad]]), torch.ones(2, 1).bool())


@pytest.mark.parametrize("scores", [torch.rand(2, 3), torch.rand(2, 2).half(), torch.ones(2, 2).long()])
def test_scores_of_another_shape_or_type_are_refused(scores: Tensor) -> None:
    with pytest.raises(ValueError, match=r"scores are .*; expected float32 or float64 \[2, 2\]"):
        exit_curve(scores, torch.ones(2, 2).bool())


def test_a_curve_needs_points_of_one_length_and_finite_thresholds() -> None:
    one, two = torch.ones(1).double(), torch.ones(2).double()
    with pytest.raises(ValueError, match=r"shapes are \[\[1\], \[2\], \[1\]\]; expected \[M\] each"):
        ExitCurve(one, two, one)
    with pytest.raises(ValueError, match="ExitCurve: 1 of 1 thresholds are NaN or infinite"):
        ExitCurve(-torch.inf * one, one, one)
