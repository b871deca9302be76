"""Runs for tests: a session in one call, with the sums after every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from seenn.batch import Batch
from seenn.core.network import SpikingNetwork
from seenn.exits import ExitPolicy
from seenn.runtime import Engine, Observer, Predictions, ScoreTrace, Session
from seenn.runtime.engines.reference import ReferenceEngine

Observe = Callable[[int, Tensor, str, Tensor], None]  # t, samples, site, counts


@dataclass(frozen=True, kw_only=True)
class Run(Predictions):
    """Answers, and ``logits_sum_per_step`` ``[T, N, K]``, NaN after a sample's exit."""

    logits_sum_per_step: Tensor


class _ByTimestep(Observer):
    """Calls ``observe`` once for each timestep among the rows."""

    def __init__(self, observe: Observe) -> None:
        self._observe = observe

    def spikes(self, t: Tensor, samples: Tensor, site: str, counts: Tensor) -> None:
        for step in t.unique().tolist():
            rows = (t == step).nonzero().squeeze(1)
            self._observe(step, samples[rows], site, counts[rows])


def run(
    network: SpikingNetwork | Engine,
    inputs: Tensor | Iterable[Tensor],
    policy: ExitPolicy | None = None,
    timesteps: int = 8,
    *,
    slots: int = 64,
    observe: Observe | None = None,
) -> Run:
    """Every input through a session, on the reference engine unless one is given."""
    engine = ReferenceEngine(network) if isinstance(network, SpikingNetwork) else network
    parts = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    batches = [Batch.of(part, engine.input_shape) for part in parts]
    trace = ScoreTrace(timesteps * len(engine.exit_costs), sum(map(len, batches)))
    watching = [] if observe is None else [_ByTimestep(observe)]
    found = Session(engine, policy, timesteps, slots).run(batches, observers=[trace, *watching])
    return Run(**vars(found), logits_sum_per_step=trace.logits_sum)
