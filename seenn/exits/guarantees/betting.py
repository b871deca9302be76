"""A p-value for a mean of paired losses, valid in finite samples."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Bets to choose from, as fractions of the largest that cannot lose more than everything.
BETS = 2.0 ** torch.linspace(0, -8, 33, dtype=torch.float64)


def paired_loss_p_value(worse: Tensor, same: Tensor, better: Tensor, margin: float, bet: Tensor) -> Tensor:
    """p-value of 'the mean loss is at least ``margin``', float64 ``[...]``, from how often each loss occurred.

    Losses are 1 (``worse``), 0 and -1 (``better``). With λ = bet / (1 - margin), each sample multiplies a
    capital by ``1 + λ(margin - loss) >= 0``. Under the hypothesis the factor's mean is at most 1, and so is
    that of the product over independent samples; by Markov its inverse is a p-value, for any bet fixed
    without these samples (testing by betting, Waudby-Smith and Ramdas, JRSS-B 2024). No asymptotics, and no
    assumption on how often losses and gains cancel, on which an exact binomial test would depend.

    Args:
        worse, same, better: counts, ``[...]``.
        margin: in (0, 1).
        bet: in [0, 1], ``[...]``; the best is near the one that would have earned most on similar samples.
    """
    return (-_log_capital(worse, same, better, margin, bet.double())).exp().clamp(max=1.0)


def best_bet(worse: Tensor, same: Tensor, better: Tensor, margin: float) -> Tensor:
    """Of ``BETS``, the one that earns most on other samples with such counts, ``[...]``.

    One loss and one gain more are assumed: a bet that a single unseen loss would ruin is never the choice.
    """
    capital = _log_capital((worse + 1)[..., None], same[..., None], (better + 1)[..., None], margin, BETS)
    return BETS[capital.argmax(-1)]


def samples_needed(margin: float, delta: float) -> int:
    """The fewest samples for a p-value of at most ``delta``: no loss is seen, and the bet is the largest."""
    return math.ceil(math.log(delta) / math.log1p(-margin))


def _log_capital(worse: Tensor, same: Tensor, better: Tensor, margin: float, bet: Tensor) -> Tensor:
    stake = bet / (1 - margin)
    lost: Tensor = torch.special.xlogy(worse.double(), 1 - bet)
    return lost + same.double() * (stake * margin).log1p() + better.double() * (stake * (1 + margin)).log1p()
