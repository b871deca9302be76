"""Rules in the engine and replayed on cached logits: the same exits, whatever the rule remembers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import run

from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear
from seenn.exits import (
    ConfidenceExit,
    ConformalExit,
    EntropyExit,
    FailurePredictionExit,
    FixedExit,
    GapExit,
    PatienceExit,
    ScaledConfidenceExit,
    ScoredExit,
    TwoSidedExit,
    exit_scores,
    replay,
)
from seenn.metrics import correct_per_timestep, exit_curve

T = 6
RULES = [
    ConfidenceExit(threshold=0.5),
    EntropyExit(threshold=0.2, accumulation="sum"),
    GapExit(threshold=(0.9, 0.7, 0.5, 0.3, 0.1)),
    PatienceExit(patience=2),
    ScaledConfidenceExit(threshold=0.5, temperatures=(1.5, 1.0, 0.8, 0.6, 0.5, 0.4)),
    ConformalExit(max_size=2, quantiles=(1.2, 1.1, 1.0, 0.9, 0.8, 0.7)),
    FailurePredictionExit(threshold=0.8, coefficients=(1.0, -2.0, -1.0, 0.5, -3.0, -1.0, 2.0, 0.3)),
    TwoSidedExit(inner=FailurePredictionExit(threshold=0.9), give_up=0.86),
    TwoSidedExit(inner=PatienceExit(patience=3), give_up=2.0),
]


def network(seed: int) -> SpikingNetwork:
    random = torch.Generator().manual_seed(seed)
    weight = [torch.randn(*shape, generator=random, dtype=torch.float64) for shape in ((8, 4), (4, 8))]
    neuron = IFNeuron(torch.tensor([1.0], dtype=torch.float64), signed=False, max_spikes=1).double()
    nodes = [
        Node("flatten", Flatten(), (INPUT,)),
        Node("hidden", Linear(weight[0], torch.zeros(8, dtype=torch.float64)), ("flatten",)),
        Node("spikes", neuron, ("hidden",)),
        Node("head", Linear(weight[1], torch.zeros(4, dtype=torch.float64)), ("spikes",)),
    ]
    return SpikingNetwork(OpGraph(nodes, "head"), (1, 2, 2)).requires_grad_(False)


@pytest.mark.parametrize("policy", RULES, ids=lambda policy: policy.kind)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_engine_and_replay_stop_alike(policy: ScoredExit, seed: int) -> None:
    snn = network(seed)
    images = torch.randn(16, 1, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    full = run(snn, images, FixedExit(), T)
    early = run(snn, images, policy, T)
    assert torch.equal(early.exit_timestep, replay(policy, full.logits_sum_per_step))
    alone = run(snn, images[3:4], policy, T)
    assert alone.exit_timestep[0] == early.exit_timestep[3]


@pytest.mark.parametrize("policy", RULES, ids=lambda policy: policy.kind)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000))
def test_every_point_of_the_curve_is_what_its_threshold_does(policy: ScoredExit, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(T, 20, 4, generator=random).cumsum(0)
    labels = torch.randint(0, 4, (20,), generator=random)
    curve = exit_curve(exit_scores(policy, logits), correct_per_timestep(logits, labels))
    for index in range(len(curve)):
        threshold = float(curve.threshold[index])
        exits = replay(policy.at(min(max(threshold, policy.least), policy.never)), logits)
        assert exits.double().mean().item() == pytest.approx(float(curve.mean_timesteps[index]))
    assert replay(policy.at(policy.never), logits).eq(T).all()
