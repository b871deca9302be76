"""Rules by name: what can be set, what is refused, and rules written for 0.1."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from seenn.core.ops import State
from seenn.errors import PluginError
from seenn.exits import (
    EXIT_RULES,
    ConfidenceExit,
    ConformalExit,
    EntropyExit,
    FixedExit,
    GapExit,
    PatienceExit,
    Progress,
    ScoredExit,
    ThresholdExit,
    TwoSidedExit,
    default_rules,
    exit_scores,
    make_rule,
    policy_from_json,
    policy_to_json,
    register_policy,
    replay,
)
from seenn.exits.registry import threshold_of

RULES = Path(__file__).parents[4] / "seenn" / "exits" / "rules"


@pytest.fixture
def own_names() -> Iterator[None]:
    """Forgets what a test registers."""
    known = dict(EXIT_RULES._found)
    yield
    EXIT_RULES._found.clear()
    EXIT_RULES._found.update(known)


def test_there_is_a_rule_for_every_file_and_each_says_what_it_does() -> None:
    files = {path.stem.replace("_", "-") for path in RULES.glob("*.py") if path.stem != "__init__"}
    assert set(EXIT_RULES.names()) >= files
    for name in files:
        assert EXIT_RULES.get(name).kind == name
        assert len(EXIT_RULES.get(name).summary.splitlines()) == 1
    assert set(default_rules()) >= files - {"seenn-ii"}
    assert "seenn-ii" not in default_rules()


@pytest.mark.parametrize(
    ("name", "options", "rule", "shown"),
    [
        ("confidence", {}, ConfidenceExit(), 0.9),
        ("confidence", {"threshold": 0.5, "temperature": 2.0}, ConfidenceExit(threshold=0.5, temperature=2.0), 0.5),
        ("gap", {"threshold": 3, "accumulation": "mean"}, GapExit(threshold=3.0, accumulation="mean"), 3.0),
        ("patience", {"threshold": 4.0, "temperature": None}, PatienceExit(patience=4), 4),
        ("conformal", {"threshold": 2.0, "alpha": 0.2}, ConformalExit(max_size=2, alpha=0.2), 2),
        ("fixed", {"threshold": 3.0}, FixedExit(timesteps=3), 3),
        ("fixed", {}, FixedExit(), None),
        ("two-sided", {}, TwoSidedExit(), 0.9),
        (
            "two-sided",
            {"inner": "entropy", "threshold": 0.7, "accumulation": "mean", "after": 3},
            TwoSidedExit(inner=EntropyExit(threshold=0.7, accumulation="mean"), after=3),
            0.7,
        ),
    ],
)
def test_a_rule_is_made_by_its_name_and_options(name: str, options: Any, rule: Any, shown: Any) -> None:
    made = make_rule(name, **options)
    assert (made, threshold_of(made)) == (rule, shown)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "entropy",
            {"temperature": 2.0},
            "the entropy rule does not take temperature: it takes accumulation; leave it out$",
        ),
        (
            "patience",
            {"alpha": 0.1},
            "the patience rule does not take alpha: it takes no options of its own; leave it out$",
        ),
        ("scaled", {"temperatures": (1.0,)}, "the scaled rule does not take temperatures: it takes no options"),
        (
            "two-sided",
            {"alpha": 0.1},
            "the confidence rule does not take alpha: it takes temperature, accumulation; leave it out$",
        ),
        ("two-sided", {"inner": "fixed"}, "two-sided rule needs an inner rule with one threshold .*; fixed has none$"),
        ("two-sided", {"inner": "cutoff"}, "needs an inner rule with one threshold to calibrate; cutoff has none$"),
        (
            "gap",
            {"inner": "entropy"},
            "inner goes with rules that hold another, as two-sided does; gap does not: leave it out$",
        ),
        ("patience", {"threshold": 2.5}, "patience must be an integer from 1 to 1048576, got 2.5$"),
        ("confidence", {"threshold": 2.0}, r"threshold is a probability in \(0, 1\], got 2"),
        ("seenn-ii", {}, "seenn-ii rule cannot be made by its name, it needs network: .* `seenn train-policy`$"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(name: str, options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_rule(name, **options)


def test_an_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(PluginError, match=r"unknown exit rule 'confidense'\. Did you mean 'confidence'"):
        make_rule("confidense")


def test_names_are_known_without_a_heavy_import() -> None:
    program = (
        "import sys, types; package = types.ModuleType('seenn'); package.__path__ = [sys.argv[1]]; "
        "sys.modules['seenn'] = package; from seenn.registry import Registry; "
        "package.__spec__ = types.SimpleNamespace(submodule_search_locations=[sys.argv[1]]); "
        "print(*Registry('exit rule', 'seenn.exits.rules').names(), 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(RULES.parents[1])], capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == "False"
    assert "two-sided" in done.stdout


@pytest.mark.usefixtures("own_names")
def test_a_rule_from_outside_is_made_stored_and_asked_like_any_other() -> None:
    @register_policy("biggest")
    @dataclass(frozen=True, kw_only=True)
    class Largest(ThresholdExit):
        scale: float = 1.0

        def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
            return self.scale * logits_sum.amax(-1), state

    rule = make_rule("biggest", threshold=2, scale=3.0)
    assert rule == Largest(threshold=2.0, scale=3.0)
    assert policy_from_json(policy_to_json(rule)) == rule
    assert "biggest" in default_rules()


@pytest.mark.usefixtures("own_names")
def test_a_policy_written_for_timesteps_still_works_and_says_so() -> None:
    with pytest.warns(DeprecationWarning, match=r"Late.stop: .* first parameter is now the Progress .* progress\.t"):

        @register_policy("written-for-t")
        class Late:
            def start(self, images: Tensor) -> State:
                return ()

            def stop(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
                return t >= 3, state

            def confidence(self, progress: Progress, logits_sum: Tensor) -> Tensor:
                return torch.ones(len(progress))

    assert replay(Late(), torch.zeros(5, 4, 2)).tolist() == [3, 3, 3, 3]


@pytest.mark.usefixtures("own_names")
def test_a_rule_written_for_timesteps_still_works_and_says_so_once() -> None:
    with pytest.warns(DeprecationWarning, match="Falling.score and limit: an exit rule's first parameter") as caught:

        @register_policy("falling-for-t")
        @dataclass(frozen=True, kw_only=True)
        class Falling(ThresholdExit):
            def score(self, t: Tensor, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
                return t * logits_sum.amax(-1), state

            def limit(self, t: Tensor) -> Tensor | float:
                return 2.0 / t

    assert len(caught) == 1
    logits = torch.full((4, 2, 3), 0.6)
    assert exit_scores(Falling(), logits)[:, 0].tolist() == pytest.approx([0.6, 1.2, 1.8, 1.8])
    assert replay(Falling(), logits).tolist() == [2, 2]


@pytest.mark.usefixtures("own_names")
def test_a_rule_sees_what_its_samples_have_cost() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Spent(ThresholdExit):
        def score(self, progress: Progress, logits_sum: Tensor, state: State) -> tuple[Tensor, State]:
            return progress.cost, state

    rule: ScoredExit = Spent(threshold=4.5)
    logits = torch.zeros(6, 2, 3)
    assert replay(rule, logits).tolist() == [5, 5]
    assert replay(rule, logits, cost=torch.arange(4.0, 10.0).double()).tolist() == [2, 2]
    assert exit_scores(rule, logits, cost=torch.arange(4.0, 10.0).double())[:, 0].tolist() == [4, 5, 6, 7, 8, 8]
