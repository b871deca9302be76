"""Whether images are still like those that an exit policy was calibrated on: a test that may be read at any time.

What is looked at is a sample's *margin*: the largest summed output minus the second largest, at the first exit point.
Every sample passes that point, so that rules, thresholds, deadlines and the order of answers do not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from seenn.core.ops.arguments import integer, number
from seenn.errors import CheckpointError
from seenn.exits.scores import top_two_gap

CELLS = 16  # into which the calibration samples' margins divide the line
MOST_CELLS = 256  # in a file
SPREADS = torch.tensor([4.0, 16.0, 64.0, 256.0], dtype=torch.float64)  # small: far from the calibration samples
FIRST_RESTART = 64  # samples; then after twice as many each time
_TIES = 1e-4  # breaks ties at random, and is more than sums of floats differ by from batch to batch


@dataclass(frozen=True, kw_only=True)
class MarginRecord:
    """How N calibration samples' margins lie.

    Attributes:
        samples: N.
        cuts: K - 1 margins, rising: the ``⌊j·(N+1)/K⌋``-th smallest for j = 1 … K-1.

    Raises:
        ValueError: numbers out of range, or cuts that do not rise.
    """

    samples: int
    cuts: tuple[float, ...]

    def __post_init__(self) -> None:
        integer("samples", self.samples, low=1, high=2**53)
        if not isinstance(self.cuts, tuple) or not 1 <= len(self.cuts) <= min(self.samples, MOST_CELLS - 1):
            raise ValueError(f"cuts must be at least 1 number, at most {MOST_CELLS - 1} and one a sample")
        cuts = [number("a cut", cut) for cut in self.cuts]
        if cuts != sorted(cuts):
            raise ValueError("cuts must rise")

    @classmethod
    def of(cls, logits_sum: Tensor) -> MarginRecord:
        """Of outputs at the first exit point, ``[N, K]``."""
        margins = _margins(logits_sum, torch.Generator().manual_seed(0)).sort().values
        ranks = _ranks(len(margins), min(CELLS, len(margins) + 1))
        return cls(samples=len(margins), cuts=tuple(margins[ranks[1:-1] - 1].tolist()))

    @classmethod
    def from_json(cls, description: Any) -> Self:
        """What ``to_json`` described.

        Raises:
            CheckpointError: it is something else.
        """
        try:
            if not isinstance(description, dict) or description.keys() != {"samples", "cuts"}:
                raise ValueError("expected samples and cuts")
            cuts = description["cuts"]
            return cls(samples=description["samples"], cuts=tuple(cuts) if isinstance(cuts, list | tuple) else cuts)
        except ValueError as error:
            raise CheckpointError(
                f"the record of calibration margins beside the exit policy is damaged ({error}): run `seenn "
                "calibrate-exit` again"
            ) from error

    def to_json(self) -> dict[str, Any]:
        """Numbers that JSON holds."""
        return {"samples": self.samples, "cuts": list(self.cuts)}

    @property
    def places(self) -> Tensor:
        """How many of the N + 1 places that a new sample can take between the others each cell has, float64 ``[K]``."""
        return _ranks(self.samples, len(self.cuts) + 1).diff().double()


class DriftTest:
    """Evidence that new samples are not from where the calibration samples are from.

    While they are (all are exchangeable, and no two margins are equal, which a small random number sees to), a new
    sample takes each of the N + 1 places between N others with equal probability. So its cell is k with probability
    ``(g_k + m_k) / (N + 1 + n)``, with g_k places in the cell and m_k of the n samples before it there: Pólya's urn,
    whatever the distribution is. The counts m of n samples are then held against urns that forget the calibration::

        E = mean_A D(m; a) / D(m; g)      a = A·g / (N+1), A in SPREADS
        D(m; a) = Γ(Σa)/Γ(Σa + n) · Π Γ(a_k + m_k)/Γ(a_k)

    Under the hypothesis E is a martingale that begins at 1, so that ``P(E ever reaches 1/α) <= α`` (Ville 1939; testing
    exchangeability by betting: Vovk, Nouretdinov and Gammerman, ICML 2003). The finite number of calibration samples is
    accounted for: few of them prove less. E does not depend on the samples' order.

    Samples that drift late would take long to outweigh those before them. ``in_order``, the test therefore begins anew
    after 64, 128, 256 … samples, with all before among the calibration samples; of these tests, the j-th (from 1) has
    the weight ``1 / (j·(j+1))``, and stands at E = 1 until it begins: a martingale again.

    Args:
        record: of the calibration samples.
        in_order: whether the order of the samples is that of time, in which they may drift.
    """

    def __init__(self, record: MarginRecord, *, in_order: bool) -> None:
        self._places, self._in_order = record.places, in_order
        self._cuts = torch.tensor(record.cuts, dtype=torch.float64)
        self._random = torch.Generator().manual_seed(1)
        self.counts = torch.zeros_like(self._places)
        self._begun = [self.counts.clone()]  # counts when each of the tests began

    @property
    def samples(self) -> int:
        """n."""
        return int(self.counts.sum())

    def see(self, logits_sum: Tensor) -> None:
        """More samples, by their outputs at the first exit point ``[B, K]``."""
        cells = torch.searchsorted(self._cuts, _margins(logits_sum, self._random))
        self.counts += torch.bincount(cells, minlength=len(self.counts))
        if self._in_order and self.samples >= FIRST_RESTART << (len(self._begun) - 1):
            self._begun.append(self.counts.clone())

    @property
    def log_evidence(self) -> float:
        """``log E``."""
        before = torch.stack(self._begun)
        places, counts = self._places + before, self.counts - before
        found = _log_evidence(places, counts)
        if not self._in_order:
            return float(found)
        number = torch.arange(1, len(found) + 1, dtype=torch.float64)
        to_come = found.new_tensor([-math.log(len(found) + 1)])
        return float(torch.cat([found - (number * (number + 1)).log(), to_come]).logsumexp(0))


def _log_evidence(places: Tensor, counts: Tensor) -> Tensor:
    """``log E`` for each of J tests, from places ``[J, K]`` and counts ``[J, K]``."""
    urns = SPREADS[:, None, None] * places / places.sum(-1, keepdim=True)
    moved = _log_urn(urns, counts).logsumexp(0) - math.log(len(SPREADS))
    return moved - _log_urn(places, counts)


def _log_urn(places: Tensor, counts: Tensor) -> Tensor:
    """``log D``: the probability of any one order of these counts, over the last axis."""
    whole = places.sum(-1)
    inside = (torch.lgamma(places + counts) - torch.lgamma(places)).sum(-1)
    return torch.lgamma(whole) - torch.lgamma(whole + counts.sum(-1)) + inside


def _margins(logits_sum: Tensor, random: torch.Generator) -> Tensor:
    """Float64 ``[B]``, no two of them equal."""
    gaps = top_two_gap(logits_sum.double())
    return gaps + _TIES * (1 + gaps) * torch.rand(len(gaps), generator=random, dtype=torch.float64)


def _ranks(samples: int, cells: int) -> Tensor:
    """The places at which cells begin, and the number of places: int64 ``[K+1]``."""
    return torch.arange(cells + 1) * (samples + 1) // cells
