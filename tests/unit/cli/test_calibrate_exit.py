"""``seenn calibrate-exit``: which rule, which target, and combinations that mean nothing."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result

from cli.calibrate_exit import calibrate_exit
from seenn.checkpoint import load
from seenn.core.graph import INPUT, Node, OpGraph
from seenn.core.network import SpikingNetwork
from seenn.core.ops import Flatten, IFNeuron, Linear
from seenn.data import Preprocessing, load_data
from seenn.exits import (
    ConfidenceExit,
    ConformalExit,
    CutoffExit,
    EntropyExit,
    ExitPolicy,
    FailurePredictionExit,
    FixedExit,
    GapExit,
    PatienceExit,
    ScaledConfidenceExit,
    TwoSidedExit,
)
from seenn.snn import SNN

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def snn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that sees three classes in 4,000 noisy images of 4 × 4, and where its data is."""
    folder = tmp_path_factory.mktemp("snn")
    random = np.random.default_rng(0)
    labels = np.arange(4000) % 3
    images = random.integers(0, 200, (4000, 1, 4, 4), dtype=np.uint8)
    images[np.arange(4000), 0, labels] += 55
    np.savez(folder / "data.npz", images=images, labels=labels)
    preprocessing = Preprocessing(channels=1, height=4, width=4, mean=(0.45,), std=(0.25,))
    splits = load_data(f"npz:{folder / 'data.npz'}", preprocessing=preprocessing)
    rows = torch.zeros(3, 16)
    for k in range(3):
        rows[k, 4 * k : 4 * k + 4] = 1.0
    neuron = IFNeuron(torch.full((3,), 2.0), signed=False, max_spikes=1)
    nodes = [
        Node("flatten", Flatten(), (INPUT,)),
        Node("hidden", Linear(rows, torch.zeros(3)), ("flatten",)),
        Node("spikes", neuron, ("hidden",)),
        Node("head", Linear(torch.eye(3) + 0.01 * torch.arange(9).view(3, 3), torch.zeros(3)), ("spikes",)),
    ]
    network = SpikingNetwork(OpGraph(nodes, "head"), (1, 4, 4)).requires_grad_(False)
    manifest: dict[str, Any] = {"timesteps": 6, "data": splits.manifest()}
    SNN(network=network, preprocessing=preprocessing, manifest=manifest).save(folder / "snn.safetensors")
    return folder / "snn.safetensors"


def run(snn: Path, *arguments: str) -> Result:
    output = str(snn.with_name("out.safetensors"))
    return CliRunner().invoke(
        calibrate_exit, [str(snn), "-o", output, "--device", "cpu", "--json", *arguments], standalone_mode=True
    )


def answer(snn: Path, *arguments: str) -> tuple[dict[str, Any], ExitPolicy]:
    done = run(snn, *arguments)
    assert done.exit_code == 0, done.output
    policy = load(snn.with_name("out.safetensors")).policy
    assert policy is not None
    return json.loads(done.stdout), policy


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--threshold 0.8 --temperature 2", ConfidenceExit(threshold=0.8, temperature=2.0)),
        ("--policy entropy --threshold 0.3 --accumulation sum", EntropyExit(threshold=0.3, accumulation="sum")),
        ("--policy gap --threshold 1.5", GapExit(threshold=1.5)),
        ("--policy patience --threshold 2", PatienceExit(patience=2)),
        ("--policy fixed --threshold 3", FixedExit(timesteps=3)),
    ],
)
def test_a_threshold_is_stored_as_given(snn: Path, arguments: str, expected: ExitPolicy) -> None:
    result, policy = answer(snn, *arguments.split())
    assert policy == expected
    assert result["threshold"] == float(arguments.split("--threshold ")[1].split()[0])


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ("--policy scaled", ScaledConfidenceExit),
        ("--policy conformal --alpha 0.3", ConformalExit),
        ("--policy failure", FailurePredictionExit),
        ("--policy two-sided --inner gap --accumulation sum", TwoSidedExit),
    ],
)
def test_rules_that_learn_are_fitted_and_stored(snn: Path, arguments: str, kind: type[Any]) -> None:
    result, policy = answer(snn, *arguments.split(), "--target-timesteps", "3")
    assert type(policy) is kind
    assert result["mean_timesteps"] <= 3
    assert result["target_timesteps"] == 3
    lost, _ = answer(snn, *arguments.split(), "--max-accuracy-drop", "0.02")
    assert lost["accuracy"] >= lost["full_accuracy"] - 0.02
    assert result["samples"] == lost["samples"]


def test_a_guarantee_is_recorded(snn: Path) -> None:
    certain = ("--max-accuracy-drop", "0.1", "--confidence", "0.9")
    result, policy = answer(snn, *certain)
    assert isinstance(policy, ConfidenceExit)
    assert (result["confidence"], result["guarantee"]) == (0.9, "marginal")
    assert isinstance(result["threshold"], float)
    result, policy = answer(snn, *certain, "--guarantee", "conditional")
    assert isinstance(policy, ConfidenceExit)
    assert result["threshold"] == list(policy.threshold)  # type: ignore[arg-type]
    assert len(result["threshold"]) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give exactly one of --threshold 0.95 and --max-accuracy-drop 0.005, or --target-timesteps 2.5, or "),
        ("--target-energy 5 --target-timesteps 2", "give exactly one of --threshold 0.95"),
        ("--policy cutoff --threshold 1", "the cutoff rule finds its thresholds itself: give a target"),
        (
            "--policy cutoff --max-accuracy-drop 0.1 --confidence 0.95",
            "--confidence needs a rule with one score to bound, and cutoff has none",
        ),
        ("--threshold 0.9 --target-timesteps 2", "give exactly one of --threshold 0.95"),
        ("--policy hunch --threshold 0.9", "unknown exit rule 'hunch'. Choose one of confidence, conformal, "),
        ("--policy entropy --threshold 1.5", "threshold is a probability in (0, 1], got 1.5"),
        ("--policy patience --threshold 1.5", "patience must be an integer from 1"),
        ("--policy patience --threshold 0", "patience must be an integer from 1"),
        ("--policy gap --threshold nan", "nan is not a finite number"),
        (
            "--policy entropy --temperature 2 --threshold 0.9",
            "entropy rule does not take temperature: it takes accumulation",
        ),
        ("--policy patience --alpha 0.1 --threshold 2", "does not take alpha: it takes no options of its own"),
        (
            "--policy gap --inner gap --threshold 2",
            "inner goes with rules that hold another, as two-sided does; gap does not",
        ),
        ("--threshold 0.9 --guarantee marginal", "--guarantee needs --confidence 0.95"),
        ("--threshold 0.9 --confidence 0.95", "--confidence needs --max-accuracy-drop above 0"),
        ("--max-accuracy-drop 0 --confidence 0.95", "--confidence needs --max-accuracy-drop above 0"),
        (
            "--policy fixed --max-accuracy-drop 0.1 --confidence 0.95",
            "--confidence needs a rule with one score to bound, and fixed has none",
        ),
        (
            "--policy patience --max-accuracy-drop 0.1 --confidence 0.95 --guarantee conditional",
            "patience is one number for every timestep",
        ),
        ("--target-timesteps 0", "0.0 is not in the range x>0"),
    ],
)
def test_combinations_that_mean_nothing_are_wrong_usage(snn: Path, arguments: str, message: str) -> None:
    done = run(snn, *arguments.split())
    assert done.exit_code == 2
    assert message in done.output


def test_a_guarantee_is_for_new_groups(snn: Path) -> None:
    with np.load(snn.with_name("data.npz")) as data:
        views = {name: data[name].repeat(4, 0) for name in ("images", "labels")}
    np.savez(snn.with_name("views.npz"), **views, thing=np.arange(16_000) // 4)
    grouped = ("--data", f"npz:{snn.with_name('views.npz')}", "--group-by", "thing", "--max-accuracy-drop", "0.05")
    images = len(load_data(grouped[1], group_by="thing").exit)
    assert answer(snn, *grouped)[0]["samples"] == images
    assert answer(snn, *grouped, "--guarantee", "expected")[0]["samples"] == images
    assert answer(snn, *grouped, "--confidence", "0.9")[0]["samples"] == images // 4 - round(images / 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--target-energy 1e12", "no threshold of the confidence rule gives a mean of 1e+12 pJ per image: it can give"),
        ("--target-timesteps 0.5", "gives a mean of 0.5 timesteps: it can give 1 to 6 timesteps"),
        ("--target-timesteps 7", "gives a mean of 7 timesteps: it can give 1 to 6 timesteps"),
        ("--policy fixed --threshold 9", "a fixed exit after 9 timesteps is never reached"),
        ("--max-accuracy-drop 0.001 --confidence 0.99", "are too few to guarantee a drop of at most 0.001"),
    ],
)
def test_targets_out_of_reach_are_failures(snn: Path, arguments: str, message: str) -> None:
    done = run(snn, *arguments.split())
    assert done.exit_code == 1
    assert message in done.output


def test_a_mean_energy_is_a_target(snn: Path) -> None:
    cheap, _ = answer(snn, "--threshold", "0.4")
    full, _ = answer(snn, "--threshold", "1")
    target = (cheap["mean_energy_pj"] + full["mean_energy_pj"]) / 2
    found, policy = answer(snn, "--policy", "cutoff", "--target-energy", str(target))
    assert found["mean_energy_pj"] <= target
    assert isinstance(policy, CutoffExit)
    assert len(found["threshold"]) == 5


OWN = """
from dataclasses import dataclass
import seenn

@seenn.register_policy("{kind}")
@dataclass(frozen=True, kw_only=True)
class Largest(seenn.ThresholdExit):
    def score(self, progress, logits_sum, state):
        return logits_sum.amax(-1), state
"""


def test_a_rule_of_ones_own_is_named_by_its_path(snn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own_rule.py").write_text(OWN.format(kind="largest"), encoding="utf-8")
    done = run(snn, "--policy", "own_rule:Largest", "--target-timesteps", "3")
    assert "own_rule:Largest is deprecated here: write --plugin own_rule, and largest for the name" in done.stderr
    found, policy = answer(snn, "--plugin", "own_rule", "--policy", "largest", "--target-timesteps", "3")
    assert (policy.kind, found["mean_timesteps"] <= 3) == ("largest", True)
    assert found["policy"]["class"] == "own_rule:Largest"
    forgotten = "import sys, seenn; seenn.load(sys.argv[1])"
    done = forked.run("-c", forgotten, snn.with_name("out.safetensors"), cwd=ROOT)
    assert "it was stored as own_rule:Largest. Name its module with --plugin own_rule, which imports" in done.stderr


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:Rule", "the plugin no_such_module cannot be imported (ModuleNotFoundError"),
        ("json:JSONDecoder", "json:JSONDecoder is not a registered exit rule: see examples/custom_exit.py"),
    ],
)
def test_what_is_no_rule_is_refused(snn: Path, path: str, message: str) -> None:
    done = run(snn, "--policy", path, "--target-timesteps", "3")
    assert done.exit_code == 2
    assert message in done.output


def test_an_exit_split_that_was_seen_is_refused(snn: Path) -> None:
    done = run(snn, "--threshold", "0.9", "--split-seed", "1")
    assert done.exit_code == 1
    assert re.search(r"the exit split of \d+ images shares \d+ with the .* Leave --split-seed as recorded", done.output)
    checkpoint = load(snn)
    data = checkpoint.manifest["data"]
    stolen = {**data["fingerprints"], "train": data["fingerprints"]["exit"]}
    manifest = {**checkpoint.manifest, "data": {**data, "spec": "npz:gone", "fingerprints": stolen}}
    replace(checkpoint, manifest=manifest).save(snn.with_name("stolen.safetensors"))
    done = run(snn.with_name("stolen.safetensors"), "--threshold", "0.9", "--data", data["spec"])
    assert done.exit_code == 1
    assert "is the very data of this network's train split" in done.output
