"""SEENN-II's policy: a graph that travels in the checkpoint, runs first, and is paid for."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import run as run_network
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from seenn.analysis.collect import collect_run
from seenn.batch import Batch
from seenn.capture import to_graph, trace
from seenn.checkpoint import load, save
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, Linear
from seenn.errors import CalibrationError, CheckpointError
from seenn.exits import (
    BudgetExit,
    FixedExit,
    PolicyNetwork,
    Progress,
    find_exit,
    policy_macs,
    policy_to_json,
    replay,
)
from seenn.metrics.energy import MAC_PJ
from seenn.snn import SNN
from seenn.training import ResNet8

T = 3


@pytest.fixture
def policy() -> BudgetExit:
    """Sees 4 × 4 pixels of two channels; the first pixels decide."""
    weight = 4 * torch.randn(T, 32, generator=torch.Generator().manual_seed(0))
    nodes = [Node("flatten", Flatten(), (INPUT,)), Node("head", Linear(weight, torch.zeros(T)), ("flatten",))]
    return BudgetExit(network=PolicyNetwork(OpGraph(nodes, "head"), (2, 4, 4)))


def test_the_budget_is_fixed_before_the_network_runs(
    network: SpikingNetwork, images: Tensor, policy: BudgetExit
) -> None:
    budget = policy.network(images).argmax(-1) + 1
    assert set(budget.tolist()) == {1, 2, 3}
    run = run_network(network, images, policy, T)
    assert torch.equal(run.exit_timestep, budget)
    full = run_network(network, images, FixedExit(), T)
    assert full.logits_sum_per_step is not None
    assert torch.equal(replay(policy, full.logits_sum_per_step, policy.start(images)), budget)
    assert (policy.budgets, policy_macs(policy), policy_macs(FixedExit())) == (T, 3 * 32, 0)
    with pytest.raises(CalibrationError, match="seenn-ii policy decides by the images, and was given none"):
        replay(policy, full.logits_sum_per_step)


def test_its_threshold_moves_every_budget_and_is_calibrated_like_any(
    network: SpikingNetwork, images: Tensor, policy: BudgetExit
) -> None:
    run = collect_run(network, [Batch(images, torch.arange(len(images)) % 2)], T)
    state = policy.start(images)
    budgets = [replay(policy.at(threshold), run.logits_sum, state) for threshold in (-1e9, -1.0, 0.0, 1.0, 1e9)]
    assert all(bool((less <= more).all()) for less, more in pairwise(budgets))
    assert budgets[0].unique().tolist() == [1]
    assert budgets[-1].unique().tolist() == [T]
    assert not torch.equal(budgets[1], budgets[3])
    for target in (1.0, 1.5, 2.25):
        found = find_exit(run, policy, state=state, target_timesteps=target)
        assert 1.0 <= found.mean_timesteps <= target
        stopped = run_network(network, images, found.policy, T).exit_timestep
        assert float(stopped.double().mean()) == found.mean_timesteps
    assert find_exit(run, policy, state=state, max_accuracy_drop=0.0).accuracy >= found.full_accuracy
    own = MAC_PJ * policy.macs
    assert found.mean_energy_pj == pytest.approx(
        float(run.energy_pj[stopped - 1, torch.arange(len(images))].mean()) + own
    )
    with pytest.raises(CalibrationError, match="no threshold of the seenn-ii rule gives a mean of"):
        find_exit(run, policy, state=state, target_energy=own)


def test_of_equal_scores_the_most_steps_count(images: Tensor) -> None:
    nodes = [Node("flatten", Flatten(), (INPUT,)), Node("head", Linear(torch.zeros(T, 32)), ("flatten",))]
    policy = BudgetExit(network=PolicyNetwork(OpGraph(nodes, "head"), (2, 4, 4)))
    stop, _ = policy.stop(Progress.at(T - 1, len(images)), torch.zeros(len(images), 2), policy.start(images))
    assert not bool(stop.any())
    stop, _ = policy.stop(Progress.at(T + 5, len(images)), torch.zeros(len(images), 2), policy.start(images))
    assert bool(stop.all())


def test_it_travels_in_the_checkpoint_without_code(
    network: SpikingNetwork, images: Tensor, policy: BudgetExit, tmp_path: Path
) -> None:
    path = tmp_path / "snn.safetensors"
    save(path, SNN(network=network, policy=policy))
    found = load(path)
    assert isinstance(found.policy, BudgetExit)
    assert torch.equal(found.policy.start(images)[0], policy.start(images)[0])
    assert found.network.graph.fingerprint() == network.graph.fingerprint()
    assert found.policy.network.graph.fingerprint() == policy.network.graph.fingerprint()
    assert policy_to_json(policy)["network"]["graph"] == {"input_shape": [2, 4, 4], "parameters": 99, "macs": 96}
    assert load(path, with_policy=False).policy is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("missing", r"node 'head'"),
        ("extra", "1 tensors belong to no node \\(more\\): write the file again$"),
        ("stray", "1 tensors belong to no policy \\(other:x\\): write the file again$"),
        ("shape", "the graph's shapes do not fit together"),
        ("kind", "exit policy 'seenn-ii' cannot be built from its description"),
    ],
)
def test_a_damaged_policy_is_refused(
    network: SpikingNetwork, policy: BudgetExit, tmp_path: Path, damage: str, message: str
) -> None:
    path = tmp_path / "snn.safetensors"
    save(path, SNN(network=network, policy=policy))
    with safe_open(path, framework="pt") as file:
        metadata: dict[str, Any] = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    description = json.loads(metadata["policy"])
    if damage == "missing":
        del tensors["policy:network:head.weight"]
    elif damage == "extra":
        tensors["policy:network:more"] = torch.ones(1)
    elif damage == "stray":
        tensors["policy:other:x"] = torch.ones(1)
    elif damage == "shape":
        description["network"]["graph"]["input_shape"] = [2, 5, 4]
    else:
        description["steps"] = 3
    save_file(tensors, path, {**metadata, "policy": json.dumps(description)})
    with pytest.raises(CheckpointError, match=message):
        load(path)


def test_a_policy_network_has_neither_neurons_nor_another_input(network: SpikingNetwork, policy: BudgetExit) -> None:
    with pytest.raises(ValueError, match="a policy network has no state, but these nodes do: relu1, relu2"):
        PolicyNetwork(network.graph, network.input_shape)
    with pytest.raises(ValueError, match=r"takes images \(C, H, W\), got an input of \[4\]"):
        PolicyNetwork(policy.network.graph, (4,))


def test_images_are_shrunk_to_what_it_sees() -> None:
    torch.manual_seed(0)
    module = ResNet8(1, T, width=8).eval()
    network = PolicyNetwork(to_graph(trace(module, torch.zeros(2, 1, 8, 8))), (1, 8, 8))
    flat = torch.full((2, 1, 32, 32), 0.5)
    torch.testing.assert_close(network(flat), network(flat[..., :8, :8]))
    assert network.outputs == T
